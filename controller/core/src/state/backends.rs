//! The backends: what is heard of them, and what moves with them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use maglev_ipc::{CheckId, Outcome, OutcomeCode, VerdictHistory};

use super::blind::{self, Sight};
use super::{Ctx, Output, State};
use crate::Name;
use crate::config::Healthcheck;
use crate::event::Kind;
use crate::health::{Health, ProbeCounters, Thresholds, Tracker, Transition};

/// One backend.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub name: Name,
    pub address: IpAddr,
    /// `None` is a static backend.
    pub healthcheck: Option<(Name, Arc<Healthcheck>)>,
    pub tracker: Tracker,
    pub probes: ProbeCounters,
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

    pub fn limits(healthcheck: Option<&Healthcheck>) -> Thresholds {
        healthcheck.map_or(Thresholds::STATIC, |h| Thresholds { rise: h.rise, fall: h.fall })
    }
}

impl State {
    pub(super) fn outcome(&mut self, outcome: &Outcome, ctx: &mut Ctx) {
        let Some(index) = self.prober.checks.get(outcome.check) else { return };
        let backend = &mut self.backends[index];
        backend.probes.count(outcome.code, outcome.duration);
        // What most outcomes are.
        if backend.tracker.goes_on(outcome, ctx.now.wall) {
            return;
        }
        let was_unseen = backend.tracker.unseen();
        if self.waits(index, outcome, ctx) {
            self.backends[index].tracker.doubt(outcome, ctx.now.wall);
            if was_unseen {
                self.see(ctx);
            }
            return self.moved(index, None, ctx);
        }
        let in_service = self.in_service(index);
        let tracker = &mut self.backends[index].tracker;
        let was_fine = blind::is_fine(tracker);
        let transition = tracker.outcome(outcome, in_service, ctx.now.wall);
        let is_unseen = tracker.unseen();
        match outcome.code.passed() {
            None => self.overlook(index, outcome, ctx),
            Some(_) if was_unseen && !is_unseen => self.see(ctx),
            Some(_) => {}
        }
        if outcome.code.passed() == Some(true) {
            self.passed(was_fine, ctx);
        }
        self.moved(index, transition, ctx);
    }

    pub(super) fn streaks(&mut self, streaks: &[VerdictHistory], ctx: &mut Ctx) {
        if !self.prober.adopted {
            self.prober.adopted = true;
            self.waive_min_delay(ctx);
        }
        for streak in streaks {
            let Some(index) = self.prober.checks.get(streak.last.check) else { continue };
            let in_service = self.in_service(index);
            let transition = self.backends[index].tracker.adopt(streak, in_service, ctx.now.wall);
            self.moved(index, transition, ctx);
        }
    }

    /// Passes every static backend, and only then draws the consequences: frontends see all of them up at once.
    pub(super) fn static_passes(&mut self, ctx: &mut Ctx) {
        let mut moved = Vec::new();
        for index in 0..self.backends.len() {
            if self.backends[index].healthcheck.is_none() && self.static_pass(index, ctx) {
                moved.push(index);
            }
        }
        for index in moved {
            self.refresh_frontends(index, ctx);
        }
    }

    fn static_pass(&mut self, index: usize, ctx: &mut Ctx) -> bool {
        let backend = &mut self.backends[index];
        if !backend.tracker.probed() {
            return false;
        }
        backend.probes.count(OutcomeCode::Static, Duration::ZERO);
        let transition = backend.tracker.static_pass(ctx.now.wall);
        self.tell(index, transition, ctx)
    }

    /// Everything that follows from what a backend's tracker has just been told.
    pub(super) fn moved(&mut self, index: usize, transition: Option<Transition>, ctx: &mut Ctx) {
        if self.tell(index, transition, ctx) {
            self.refresh_frontends(index, ctx);
        }
    }

    /// Tells the prober and whoever watches what became of a backend. Whether it has moved; what follows for its
    /// frontends is left to the caller, who may have more to tell first.
    pub(super) fn tell(&mut self, index: usize, transition: Option<Transition>, ctx: &mut Ctx) -> bool {
        self.pace(index, ctx);
        self.note_sight(index);
        let Some(transition) = transition else { return false };
        let (from, to) = (transition.from, transition.to);
        self.counts.moved(from, to);
        let backend = &self.backends[index];
        let (name, address) = (Arc::clone(&backend.name), backend.address);
        ctx.event(Kind::Backend { name, address, transition });
        for frontend in &backend.frontends {
            let vip = self.frontends[*frontend].vip;
            match (from, to) {
                (_, Health::Disabled) => self.sync.inferred.disabled(vip, address),
                (Health::Up, Health::Down) => self.sync.inferred.fell(vip, address),
                _ => {}
            }
        }
        if to == Health::Unknown && backend.healthcheck.is_none() {
            self.static_pass(index, ctx);
        }
        true
    }

    pub(super) fn refresh_frontends(&mut self, index: usize, ctx: &mut Ctx) {
        for at in 0..self.backends[index].frontends.len() {
            self.refresh(self.backends[index].frontends[at], ctx);
        }
    }

    /// Tells the prober the interval that the backend's state asks for, if that is a new one.
    fn pace(&mut self, index: usize, ctx: &mut Ctx) {
        let backend = &mut self.backends[index];
        let Some((_, healthcheck)) = &backend.healthcheck else { return };
        let pace = backend.tracker.pace(healthcheck);
        if pace == backend.paced || !backend.tracker.probed() {
            return;
        }
        backend.paced = pace;
        if self.prober.connected {
            ctx.out.push(Output::SetInterval(backend.check, pace));
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
