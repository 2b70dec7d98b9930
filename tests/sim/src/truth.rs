//! What the servers really are, and what becomes of the probes on their way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use fastrand::Rng;
use maglev_ipc::{Check, OutcomeCode, ProbeKind};
use tokio::time::Instant;

use super::shape::Shape;

/// What a server is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Being {
    /// It answers within this time, which is less than any timeout.
    Well(Duration),
    /// It refuses.
    Refuses,
    /// It says nothing.
    Silent,
}

impl Being {
    /// Anything that a server can be.
    pub fn draw(rng: &mut Rng) -> Self {
        match rng.u8(..6) {
            0..=2 => Self::Well(Duration::from_millis(rng.u64(1..90))),
            3..=4 => Self::Refuses,
            _ => Self::Silent,
        }
    }

    /// Whether it is as it should be.
    pub const fn is_well(self) -> bool {
        matches!(self, Self::Well(_))
    }
}

/// A server, and the way to it.
#[derive(Debug)]
struct Server {
    being: Being,
    lose: u32,
    /// Of a hundred probes, so many are lost.
    lossy: u8,
    until: Instant,
}

/// All servers.
#[derive(Debug)]
pub struct Truth {
    servers: BTreeMap<IpAddr, Server>,
    rng: Rng,
    /// The prober's host can start no probe before.
    local: Instant,
}

/// What comes of a probe.
pub enum Fate {
    /// It ends after this time.
    Ends(Duration, OutcomeCode),
    /// Nothing is heard of it.
    Lost,
    /// It does not begin.
    Local,
}

impl Truth {
    /// Servers that are well.
    pub fn new(servers: usize, seed: u64) -> Self {
        let now = Instant::now();
        let mut rng = Rng::with_seed(seed);
        let mut well = || Server {
            being: Being::Well(Duration::from_millis(rng.u64(1..90))),
            lose: 0,
            lossy: 0,
            until: now,
        };
        let servers = (0..servers).map(|number| (Shape::address(number), well())).collect();
        Self { servers, rng, local: now }
    }

    /// Makes a server another than it was.
    pub fn set(&mut self, server: usize, being: Being) {
        if let Some(server) = self.servers.get_mut(&Shape::address(server)) {
            server.being = being;
        }
    }

    /// What a server is.
    pub fn is_well(&self, server: usize) -> bool {
        self.servers.get(&Shape::address(server)).is_some_and(|server| server.being.is_well())
    }

    /// The next probes of a server are lost.
    pub fn lose(&mut self, server: usize, probes: u32) {
        if let Some(server) = self.servers.get_mut(&Shape::address(server)) {
            server.lose = probes;
        }
    }

    /// How many of the next probes of a server are lost.
    pub fn losing(&self, server: usize) -> u32 {
        self.servers.get(&Shape::address(server)).map_or(0, |server| server.lose)
    }

    /// Some probes of a server are lost for a while.
    pub fn lossy(&mut self, server: usize, percent: u8, time: Duration) {
        if let Some(server) = self.servers.get_mut(&Shape::address(server)) {
            (server.lossy, server.until) = (percent, Instant::now() + time);
        }
    }

    /// No probe can be started for a while.
    pub fn blind(&mut self, time: Duration) {
        self.local = Instant::now() + time;
    }

    /// Decides what comes of a probe that starts now.
    pub fn probe(&mut self, check: &Check) -> Fate {
        let now = Instant::now();
        if now < self.local {
            return Fate::Local;
        }
        let Some(server) = self.servers.get_mut(&check.target) else { return Fate::Lost };
        if server.lose > 0 {
            server.lose -= 1;
            return Fate::Lost;
        }
        if now < server.until && self.rng.u8(..100) < server.lossy {
            return Fate::Lost;
        }
        match server.being {
            Being::Well(most) => {
                let passed = if matches!(check.probe, ProbeKind::Tcp { .. }) {
                    OutcomeCode::L4Ok
                } else {
                    OutcomeCode::L7Ok
                };
                Fate::Ends(Duration::from_micros(self.rng.u64(100..=most.as_micros() as u64)), passed)
            }
            Being::Refuses => Fate::Ends(Duration::from_millis(1), OutcomeCode::L4Con),
            Being::Silent => Fate::Lost,
        }
    }
}
