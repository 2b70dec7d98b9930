//! The backends: what is heard of them, and what moves with them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use maglev_ipc::{CheckId, Code, Outcome, Streak};

use super::{Output, State, Turn};
use crate::Name;
use crate::config::Healthcheck;
use crate::event::Kind;
use crate::health::{Health, Limits, Tracker, Transition};

/// One backend.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub name: Name,
    pub address: IpAddr,
    /// `None` is a static backend.
    pub healthcheck: Option<(Name, Arc<Healthcheck>)>,
    pub tracker: Tracker,
    /// Names it to the prober; a new one whenever the prober is to begin anew with it.
    pub check: CheckId,
    /// The interval that the prober was last told.
    pub paced: Duration,
    /// Indices of the frontends that use it.
    pub frontends: Vec<usize>,
}

impl Backend {
    pub fn kind(&self) -> &'static str {
        self.healthcheck.as_ref().map_or("static", |(_, healthcheck)| healthcheck.kind())
    }

    pub fn limits(healthcheck: Option<&Healthcheck>) -> Limits {
        healthcheck.map_or(Limits::STATIC, |h| Limits { rise: h.rise, fall: h.fall })
    }
}

impl State {
    pub(super) fn outcome(&mut self, outcome: &Outcome, turn: &mut Turn) {
        let Some(&index) = self.prober.checks.get(&outcome.check) else { return };
        let in_service = self.backends[index].tracker.health() == Health::Unknown && self.in_service(index);
        let backend = &mut self.backends[index];
        turn.out.push(Output::Count {
            backend: Arc::clone(&backend.name),
            kind: backend.kind(),
            code: outcome.code,
            duration: outcome.duration,
        });
        let transition = backend.tracker.outcome(outcome, in_service, turn.now.wall);
        self.moved(index, transition, turn);
    }

    pub(super) fn streaks(&mut self, streaks: &[Streak], turn: &mut Turn) {
        self.waive_min_delay(turn);
        for streak in streaks {
            let Some(&index) = self.prober.checks.get(&streak.last.check) else { continue };
            let transition = self.backends[index].tracker.adopt(streak, turn.now.wall);
            self.moved(index, transition, turn);
        }
    }

    pub(super) fn static_passes(&mut self, turn: &mut Turn) {
        for index in 0..self.backends.len() {
            if self.backends[index].healthcheck.is_none() {
                self.static_pass(index, turn);
            }
        }
    }

    fn static_pass(&mut self, index: usize, turn: &mut Turn) {
        let backend = &mut self.backends[index];
        if !backend.tracker.probed() {
            return;
        }
        let (code, duration) = (Code::Static, Duration::ZERO);
        turn.out.push(Output::Count {
            backend: Arc::clone(&backend.name),
            kind: backend.kind(),
            code,
            duration,
        });
        let transition = backend.tracker.static_pass(turn.now.wall);
        self.moved(index, transition, turn);
    }

    /// Everything that follows from what a backend's tracker has just been told.
    pub(super) fn moved(&mut self, index: usize, transition: Option<Transition>, turn: &mut Turn) {
        self.pace(index, turn);
        let Some(transition) = transition else { return };
        let to = transition.to;
        let backend = &self.backends[index];
        let (name, address) = (Arc::clone(&backend.name), backend.address);
        let is_static = backend.healthcheck.is_none();
        turn.event(Kind::Backend { name, address, transition });
        for at in 0..self.backends[index].frontends.len() {
            let frontend = self.backends[index].frontends[at];
            self.frontends[frontend].note_flush(address, to);
            self.refresh(frontend, turn);
        }
        if is_static && to == Health::Unknown {
            self.static_pass(index, turn);
        }
    }

    /// Tells the prober the interval that the backend's state asks for, if that is a new one.
    fn pace(&mut self, index: usize, turn: &mut Turn) {
        let backend = &mut self.backends[index];
        let Some((_, healthcheck)) = &backend.healthcheck else { return };
        let pace = backend.tracker.pace(healthcheck);
        if pace == backend.paced || !backend.tracker.probed() {
            return;
        }
        backend.paced = pace;
        if self.prober.connected {
            turn.out.push(Output::Pace(backend.check, pace));
        }
    }

    /// Whether VPP gives the backend weight; also as long as VPP has never been asked.
    fn in_service(&self, index: usize) -> bool {
        let backend = &self.backends[index];
        self.sync.enabled
            && self.sync.seen.as_ref().is_none_or(|seen| {
                backend.frontends.iter().any(|frontend| {
                    let vip = seen.vips.get(&self.frontends[*frontend].vip);
                    vip.and_then(|v| v.servers.get(&backend.address)).is_some_and(|s| s.weight > 0)
                })
            })
    }
}
