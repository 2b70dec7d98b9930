//! Which checks the prober refuses, by its own word: of what it refuses nothing new is known, and what was known stays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use maglev_core::health::Health;
use maglev_ipc::{CheckId, ToProber};
use maglevd_prober::set::CheckSet;
use tokio::time::Instant;

use super::config_model::ConfigModel;

/// What has been said on a link of what is to be probed, and what of it is refused.
#[derive(Debug, Default)]
pub struct SentChecks {
    pub sent: BTreeMap<CheckId, IpAddr>,
    pub rejected: BTreeSet<CheckId>,
}

impl SentChecks {
    /// The prober has heard this.
    pub fn record(&mut self, message: &ToProber) {
        match message {
            ToProber::Begin { .. } => *self = Self::default(),
            ToProber::Drop(gone) => {
                for id in gone {
                    self.sent.remove(id);
                    self.rejected.remove(id);
                }
            }
            ToProber::Checks(checks) => {
                self.sent.extend(checks.iter().map(|(id, _, check)| (*id, check.target)));
            }
            _ => {}
        }
    }

    /// A set takes effect, and this of it is refused.
    pub fn record_rejected(&mut self, set: &CheckSet) {
        self.rejected.extend(set.rejected.iter().map(|(id, _)| *id));
    }

    /// The servers with checks that are refused, and whether all of their checks are.
    pub fn rejected_servers(&self) -> BTreeMap<usize, bool> {
        let mut servers = BTreeMap::new();
        for (id, server) in
            self.sent.iter().filter_map(|(id, target)| Some((id, ConfigModel::server_at(*target)?)))
        {
            let (refused, all) = servers.entry(server).or_insert((false, true));
            *refused |= self.rejected.contains(id);
            *all &= self.rejected.contains(id);
        }
        servers.retain(|_, (refused, _)| *refused);
        servers.into_iter().map(|(server, (_, all))| (server, all)).collect()
    }
}

/// What follows for everybody else.
#[derive(Debug, Default)]
pub struct RejectedChecks {
    /// The servers with checks that are refused, and whether all of their checks are.
    pub servers: BTreeMap<usize, bool>,
    /// So many refusals of checks of a server has `maglevd` not told of yet.
    pub unreported: BTreeMap<usize, u32>,
    /// Since when the prober has room for what it refuses.
    pub room_since: Option<Instant>,
    /// What `maglevd` said last of each backend.
    pub reported: BTreeMap<usize, Health>,
}

impl RejectedChecks {
    /// Another link: what was on its way is lost.
    pub fn reset_link(&mut self) {
        self.unreported.clear();
        self.room_since = None;
    }

    /// Since when the prober has room for what it refuses.
    pub fn room_since(&self) -> Option<Instant> {
        self.room_since
    }

    /// `maglevd` begins, and knows nothing.
    pub fn reset_reported(&mut self) {
        self.reported.clear();
    }

    /// Whether some check of a server is refused.
    pub fn has(&self, server: usize) -> bool {
        self.servers.contains_key(&server)
    }

    /// What is known of a backend that nothing new is heard of.
    pub fn last_reported(&self, backend: usize) -> Health {
        self.reported.get(&backend).copied().unwrap_or(Health::Unknown)
    }
}
