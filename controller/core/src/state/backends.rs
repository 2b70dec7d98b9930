//! The backends: what is heard of them, and what moves with them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use maglev_ipc::{CheckId, Code, Outcome, Streak};

use super::blind::{self, Sight};
use super::{Output, State, Turn};
use crate::Name;
use crate::config::Healthcheck;
use crate::event::Kind;
use crate::health::{Health, Limits, Probes, Tracker, Transition};

/// One backend.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub name: Name,
    pub address: IpAddr,
    /// `None` is a static backend.
    pub healthcheck: Option<(Name, Arc<Healthcheck>)>,
    pub tracker: Tracker,
    pub probes: Probes,
    /// Names it to the prober; a new one whenever the prober is to begin anew with it.
    pub check: CheckId,
    /// The name by which the prober was last told to probe it, if it was.
    pub sent: Option<CheckId>,
    /// The interval that the prober was last told.
    pub paced: Duration,
    /// What it says about whether this host sees, as it is counted.
    pub sight: Sight,
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
        let Some(index) = self.prober.checks.get(outcome.check) else { return };
        let backend = &mut self.backends[index];
        backend.probes.count(outcome.code, outcome.duration);
        // What most outcomes are.
        if backend.tracker.goes_on(outcome, turn.now.wall) {
            return;
        }
        let was_unseen = backend.tracker.unseen();
        if self.waits(index, outcome, turn) {
            self.backends[index].tracker.doubt(outcome, turn.now.wall);
            if was_unseen {
                self.see(turn);
            }
            return self.moved(index, None, turn);
        }
        let in_service = self.in_service(index);
        let tracker = &mut self.backends[index].tracker;
        let was_fine = blind::is_fine(tracker);
        let transition = tracker.outcome(outcome, in_service, turn.now.wall);
        let is_unseen = tracker.unseen();
        match outcome.code.passed() {
            None => self.overlook(index, outcome, turn),
            Some(_) if was_unseen && !is_unseen => self.see(turn),
            Some(_) => {}
        }
        if outcome.code.passed() == Some(true) {
            self.passed(was_fine, turn);
        }
        self.moved(index, transition, turn);
    }

    pub(super) fn streaks(&mut self, streaks: &[Streak], turn: &mut Turn) {
        if !self.prober.adopted {
            self.prober.adopted = true;
            self.waive_min_delay(turn);
        }
        for streak in streaks {
            let Some(index) = self.prober.checks.get(streak.last.check) else { continue };
            let in_service = self.in_service(index);
            let transition = self.backends[index].tracker.adopt(streak, in_service, turn.now.wall);
            self.moved(index, transition, turn);
        }
    }

    /// Passes every static backend, and only then draws the consequences: frontends see all of them up at once.
    pub(super) fn static_passes(&mut self, turn: &mut Turn) {
        let mut moved = Vec::new();
        for index in 0..self.backends.len() {
            if self.backends[index].healthcheck.is_none() && self.static_pass(index, turn) {
                moved.push(index);
            }
        }
        for index in moved {
            self.refresh_frontends(index, turn);
        }
    }

    fn static_pass(&mut self, index: usize, turn: &mut Turn) -> bool {
        let backend = &mut self.backends[index];
        if !backend.tracker.probed() {
            return false;
        }
        backend.probes.count(Code::Static, Duration::ZERO);
        let transition = backend.tracker.static_pass(turn.now.wall);
        self.tell(index, transition, turn)
    }

    /// Everything that follows from what a backend's tracker has just been told.
    pub(super) fn moved(&mut self, index: usize, transition: Option<Transition>, turn: &mut Turn) {
        if self.tell(index, transition, turn) {
            self.refresh_frontends(index, turn);
        }
    }

    /// Tells the prober and whoever watches what became of a backend. Whether it has moved; what follows for its
    /// frontends is left to the caller, who may have more to tell first.
    pub(super) fn tell(&mut self, index: usize, transition: Option<Transition>, turn: &mut Turn) -> bool {
        self.pace(index, turn);
        self.note_sight(index);
        let Some(transition) = transition else { return false };
        let (from, to) = (transition.from, transition.to);
        self.tally.moved(from, to);
        let backend = &self.backends[index];
        let (name, address) = (Arc::clone(&backend.name), backend.address);
        turn.event(Kind::Backend { name, address, transition });
        for frontend in &backend.frontends {
            let vip = self.frontends[*frontend].vip;
            match (from, to) {
                (_, Health::Disabled) => self.sync.beliefs.disabled(vip, address),
                (Health::Up, Health::Down) => self.sync.beliefs.fell(vip, address),
                _ => {}
            }
        }
        if to == Health::Unknown && backend.healthcheck.is_none() {
            self.static_pass(index, turn);
        }
        true
    }

    pub(super) fn refresh_frontends(&mut self, index: usize, turn: &mut Turn) {
        for at in 0..self.backends[index].frontends.len() {
            self.refresh(self.backends[index].frontends[at], turn);
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

    /// Whether nothing is known of a backend to which VPP gives weight; also as long as VPP has never been asked.
    pub(super) fn in_service(&self, index: usize) -> bool {
        let backend = &self.backends[index];
        backend.tracker.health() == Health::Unknown
            && self.sync.enabled
            && self.sync.seen.as_ref().is_none_or(|seen| {
                let frontends = &mut backend.frontends.iter();
                frontends.any(|f| seen.serves(&self.frontends[*f].vip, &backend.address))
            })
    }
}
