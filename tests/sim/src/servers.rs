//! A model of the servers, and of the loss of probes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use fastrand::Rng;
use maglev_ipc::{Check, OutcomeCode, ProbeKind};
use tokio::time::Instant;

use super::config_model::{ConfigModel, SPARE};

/// The state of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServerState {
    /// It answers within this time, which is less than any timeout.
    Healthy(Duration),
    /// It refuses connections.
    Refuses,
    /// It does not answer.
    Silent,
}

impl ServerState {
    /// Draws a state.
    pub fn draw(rng: &mut Rng) -> Self {
        match rng.u8(..6) {
            0..=2 => Self::Healthy(Duration::from_millis(rng.u64(1..90))),
            3..=4 => Self::Refuses,
            _ => Self::Silent,
        }
    }

    /// Returns true for a healthy server.
    pub const fn is_healthy(self) -> bool {
        matches!(self, Self::Healthy(_))
    }
}

/// A server, and the path to it.
#[derive(Debug)]
struct ServerModel {
    state: ServerState,
    drop_next: u32,
    /// Percentage of lost probes.
    set_loss: u8,
    until: Instant,
    /// The route to it is withdrawn before this time.
    no_route_until: Option<Instant>,
}

/// All servers.
#[derive(Debug)]
pub struct ServerFleet {
    servers: BTreeMap<IpAddr, ServerModel>,
    rng: Rng,
    /// Sending fails before this time.
    cannot_send_until: Instant,
}

/// The result of a probe.
pub enum ProbeResult {
    /// It gets this result after this time.
    Answered(Duration, OutcomeCode),
    /// It gets no answer.
    Lost,
    /// It cannot be sent, like all others.
    NotSent,
    /// It has no route.
    NoRoute,
}

impl ServerFleet {
    /// Returns healthy servers, and as many spare ones.
    pub fn new(servers: usize, seed: u64) -> Self {
        let now = Instant::now();
        let mut rng = Rng::with_seed(seed);
        let mut well = || ServerModel {
            state: ServerState::Healthy(Duration::from_millis(rng.u64(1..90))),
            drop_next: 0,
            set_loss: 0,
            until: now,
            no_route_until: None,
        };
        let mut fleet: BTreeMap<_, _> =
            (0..servers).map(|number| (ConfigModel::address(number), well())).collect();
        let spare = || ServerModel {
            state: ServerState::Healthy(Duration::from_millis(20)),
            drop_next: 0,
            set_loss: 0,
            until: now,
            no_route_until: None,
        };
        fleet.extend((SPARE..SPARE + servers).map(|number| (ConfigModel::address(number), spare())));
        Self { servers: fleet, rng, cannot_send_until: now }
    }

    /// Sets the state of a server.
    pub fn set(&mut self, server: usize, state: ServerState) {
        if let Some(server) = self.servers.get_mut(&ConfigModel::address(server)) {
            server.state = state;
        }
    }

    /// Returns true if a server is healthy, and has a route.
    pub fn is_healthy(&self, server: usize) -> bool {
        let found = self.servers.get(&ConfigModel::address(server));
        found.is_some_and(|server| server.state.is_healthy() && server.no_route_until.is_none())
    }

    /// Withdraws the route to a server for a time.
    pub fn withdraw_route(&mut self, server: usize, time: Duration) {
        if let Some(server) = self.servers.get_mut(&ConfigModel::address(server)) {
            server.no_route_until = Some(Instant::now() + time);
        }
    }

    /// Restores the routes withdrawn until then, and returns their servers.
    pub fn restore_routes(&mut self, until: Option<Instant>) -> Vec<usize> {
        let is_over = |at: Instant| until.is_none_or(|until| at <= until);
        let over = self.servers.iter_mut().filter(|(_, server)| server.no_route_until.is_some_and(is_over));
        let restored = over.filter_map(|(address, server)| {
            server.no_route_until = None;
            ConfigModel::server_at(*address)
        });
        restored.collect()
    }

    /// Loses the next probes of a server.
    pub fn drop_next(&mut self, server: usize, probes: u32) {
        if let Some(server) = self.servers.get_mut(&ConfigModel::address(server)) {
            server.drop_next = probes;
        }
    }

    /// Returns the number of the next probes of a server that are lost.
    pub fn probes_to_drop(&self, server: usize) -> u32 {
        self.servers.get(&ConfigModel::address(server)).map_or(0, |server| server.drop_next)
    }

    /// Loses a percentage of the probes of a server for a time.
    pub fn set_loss(&mut self, server: usize, percent: u8, time: Duration) {
        if let Some(server) = self.servers.get_mut(&ConfigModel::address(server)) {
            (server.set_loss, server.until) = (percent, Instant::now() + time);
        }
    }

    /// Blocks sending for a time.
    pub fn block_sending(&mut self, time: Duration) {
        self.cannot_send_until = Instant::now() + time;
    }

    /// Returns the result of a probe that starts now.
    pub fn probe(&mut self, check: &Check) -> ProbeResult {
        let now = Instant::now();
        let server = self.servers.get_mut(&check.target);
        if server.as_ref().is_some_and(|server| server.no_route_until.is_some()) {
            return ProbeResult::NoRoute;
        }
        if now < self.cannot_send_until {
            return ProbeResult::NotSent;
        }
        let Some(server) = server else { return ProbeResult::Lost };
        if server.drop_next > 0 {
            server.drop_next -= 1;
            return ProbeResult::Lost;
        }
        if now < server.until && self.rng.u8(..100) < server.set_loss {
            return ProbeResult::Lost;
        }
        match server.state {
            ServerState::Healthy(most) => {
                let passed = if matches!(check.probe, ProbeKind::Tcp { .. }) {
                    OutcomeCode::L4Ok
                } else {
                    OutcomeCode::L7Ok
                };
                ProbeResult::Answered(
                    Duration::from_micros(self.rng.u64(100..=most.as_micros() as u64)),
                    passed,
                )
            }
            ServerState::Refuses => ProbeResult::Answered(Duration::from_millis(1), OutcomeCode::L4Con),
            ServerState::Silent => ProbeResult::Lost,
        }
    }
}
