//! Which checks the prober refuses, by its own word: of what it refuses nothing new is known, and what was known stays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use maglev_core::event::Kind;
use maglev_core::health::{Health, TransitionCause};
use maglev_ipc::{CheckId, ToProber};
use maglevd_prober::set::CheckSet;
use tokio::time::Instant;

use super::shape::Shape;
use super::site::World;

/// What has been said on a link of what is to be probed, and what of it is refused.
#[derive(Debug, Default)]
pub struct Ledger {
    asked: BTreeMap<CheckId, IpAddr>,
    refused: BTreeSet<CheckId>,
}

impl Ledger {
    /// The prober has heard this.
    pub fn hear(&mut self, message: &ToProber) {
        match message {
            ToProber::Begin { .. } => *self = Self::default(),
            ToProber::Drop(gone) => {
                for id in gone {
                    self.asked.remove(id);
                    self.refused.remove(id);
                }
            }
            ToProber::Checks(checks) => {
                self.asked.extend(checks.iter().map(|(id, _, check)| (*id, check.target)));
            }
            _ => {}
        }
    }

    /// A set takes effect, and this of it is refused.
    fn commit(&mut self, set: &CheckSet) {
        self.refused.extend(set.rejected.iter().map(|(id, _)| *id));
    }

    /// The servers with checks that are refused, and whether all of their checks are.
    fn servers(&self) -> BTreeMap<usize, bool> {
        let mut servers = BTreeMap::new();
        for (id, server) in
            self.asked.iter().filter_map(|(id, target)| Some((id, Shape::server_at(*target)?)))
        {
            let (refused, all) = servers.entry(server).or_insert((false, true));
            *refused |= self.refused.contains(id);
            *all &= self.refused.contains(id);
        }
        servers.retain(|_, (refused, _)| *refused);
        servers.into_iter().map(|(server, (_, all))| (server, all)).collect()
    }
}

/// What follows for everybody else.
#[derive(Debug, Default)]
pub struct Refusals {
    /// The servers with checks that are refused, and whether all of their checks are.
    servers: BTreeMap<usize, bool>,
    /// So many refusals of checks of a server has `maglevd` not told of yet.
    untold: BTreeMap<usize, u32>,
    /// Since when the prober has room for what it refuses.
    room: Option<Instant>,
    /// What `maglevd` said last of each backend.
    said: BTreeMap<usize, Health>,
}

impl Refusals {
    /// Another link: what was on its way is lost.
    pub fn link(&mut self) {
        self.untold.clear();
        self.room = None;
    }

    /// Since when the prober has room for what it refuses.
    pub fn room(&self) -> Option<Instant> {
        self.room
    }

    /// `maglevd` begins, and knows nothing.
    pub fn forget(&mut self) {
        self.said.clear();
    }

    /// Whether some check of a server is refused.
    pub fn has(&self, server: usize) -> bool {
        self.servers.contains_key(&server)
    }

    /// What is known of a backend that nothing new is heard of.
    pub fn known(&self, backend: usize) -> Health {
        self.said.get(&backend).copied().unwrap_or(Health::Unknown)
    }
}

impl World {
    /// A set takes effect: what is refused from now on, and what is taken again.
    pub fn committed(&mut self, ledger: &mut Ledger, set: &CheckSet) {
        ledger.commit(set);
        let (asked, refused) = (ledger.asked.len(), ledger.refused.len());
        let has_room = refused > 0 && asked - refused < self.host.max_checks as usize;
        self.refusals.room = has_room.then(|| self.refusals.room.unwrap_or_else(Instant::now));
        for (id, _) in &set.rejected {
            if let Some(server) = ledger.asked.get(id).and_then(|target| Shape::server_at(*target)) {
                *self.refusals.untold.entry(server).or_default() += 1;
            }
        }
        let now = ledger.servers();
        let before = std::mem::replace(&mut self.refusals.servers, now);
        let now = self.refusals.servers.clone();
        let all: BTreeSet<_> = before.keys().chain(now.keys()).copied().collect();
        for server in all.into_iter().filter(|server| before.get(server) != now.get(server)) {
            for backend in self.shape.backends_on(server) {
                let lost = self.truth.losing(server);
                let check = self.shape.backends[backend].map(|check| self.shape.checks[check].longest());
                let after = check.map_or(Duration::ZERO, |longest| longest * (lost + 1));
                self.backend_changes(backend, after);
            }
        }
    }

    /// `maglevd` has told of this. What is wrong with it: nothing is heard of what is refused.
    pub fn told(&mut self, kind: &Kind) -> Option<String> {
        match kind {
            Kind::CheckRejected { name, .. } => {
                let untold = self.refusals.untold.get_mut(&self.shape.server(Shape::number(name)?))?;
                *untold = untold.saturating_sub(1);
                None
            }
            Kind::Backend { name, transition, .. } => {
                let backend = Shape::number(name)?;
                let server = self.shape.server(backend);
                self.refusals.said.insert(backend, transition.to);
                if !self.refusals.has(server) {
                    return None;
                }
                for frontend in self.shape.frontends_of(backend) {
                    self.oracle.changes(frontend, self.shape.slack());
                }
                let knows = self.refusals.untold.get(&server).is_none_or(|untold| *untold == 0);
                let heard = matches!(transition.cause, TransitionCause::Outcome { .. });
                let silent = self.refusals.servers.get(&server).is_some_and(|all| *all);
                let to = transition.to;
                let checked = self.shape.backends[backend].is_some();
                (knows && heard && silent && checked)
                    .then(|| format!("b{backend} became {to}, and is refused"))
            }
            _ => None,
        }
    }
}
