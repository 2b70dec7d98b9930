//! The checks that the prober rejects. A rejected check has no new verdicts, and its backend keeps its health.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use maglev_core::health::Health;
use maglev_ipc::{CheckId, ToProber};
use maglevd_prober::set::ReceivedSet;
use tokio::time::Instant;

use super::config_model::ConfigModel;

/// The checks that were sent on a link, and the rejected ones among them.
#[derive(Debug, Default)]
pub struct SentChecks {
    pub sent: BTreeMap<CheckId, IpAddr>,
    pub rejected: BTreeSet<CheckId>,
}

impl SentChecks {
    /// Records a message to the prober.
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

    /// Records the rejected checks of a set.
    pub fn record_rejected(&mut self, set: &ReceivedSet) {
        self.rejected.extend(set.rejected.iter().map(|(id, _)| *id));
    }

    /// Servers with rejected checks; true if all their checks are rejected.
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

/// The state that follows from rejections.
#[derive(Debug, Default)]
pub struct RejectedChecks {
    /// Servers with rejected checks; true if all their checks are rejected.
    pub servers: BTreeMap<usize, bool>,
    /// Number of rejections per server that `maglevd` has not reported yet.
    pub unreported: BTreeMap<usize, u32>,
    /// Time since which the prober has room for rejected checks.
    pub room_since: Option<Instant>,
    /// Last reported health of each backend.
    pub reported: BTreeMap<usize, Health>,
}

impl RejectedChecks {
    /// Handles a new link: messages in flight are lost.
    pub fn reset_link(&mut self) {
        self.unreported.clear();
        self.room_since = None;
    }

    /// Time since which the prober has room for rejected checks.
    pub fn room_since(&self) -> Option<Instant> {
        self.room_since
    }

    /// Handles a start of `maglevd`, which knows nothing.
    pub fn reset_reported(&mut self) {
        self.reported.clear();
    }

    /// Returns true if a check of the server is rejected.
    pub fn has(&self, server: usize) -> bool {
        self.servers.contains_key(&server)
    }

    /// Returns the last reported health of a backend.
    pub fn last_reported(&self, backend: usize) -> Health {
        self.reported.get(&backend).copied().unwrap_or(Health::Unknown)
    }
}
