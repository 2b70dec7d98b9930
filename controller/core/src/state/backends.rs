//! Backends: outcomes, transitions, and their consequences.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use maglev_ipc::{CheckId, Outcome, OutcomeCode, VerdictHistory};

use super::route_faults::MissingRoute;
use super::{Ctx, Output, State};
use crate::Name;
use crate::config::Healthcheck;
use crate::event::Kind;
use crate::health::{Health, ProbeCounters, Signal, Thresholds, Tracker, Transition};

/// One backend.
#[derive(Clone, Debug)]
pub(super) struct BackendEntry {
    pub name: Name,
    pub address: IpAddr,
    /// `None` for a static backend.
    pub healthcheck: Option<(Name, Arc<Healthcheck>)>,
    pub tracker: Tracker,
    pub probes: ProbeCounters,
    /// Its id on the prober's link. A new id makes the prober start over.
    pub check: CheckId,
    /// The id that the prober was sent last, if it still has the check.
    pub sent_check: Option<CheckId>,
    /// The interval that the prober was sent last.
    pub sent_interval: Duration,
    /// Its contribution to the detection of mass failures, as counted.
    pub signal: Signal,
    /// Its probes without a route. `None` if its newest probe had one.
    pub missing_route: Option<MissingRoute>,
    /// Indices of the frontends that use it.
    pub frontends: Vec<usize>,
}

impl BackendEntry {
    /// Replaces its check. The prober starts over, so what former probes of it have shown is void.
    pub fn begin_check(&mut self, check: CheckId) {
        self.check = check;
        self.missing_route = None;
        self.tracker.reset_sequence();
    }

    /// Returns the kind of its probes, or `static`.
    pub fn kind(&self) -> &'static str {
        self.healthcheck.as_ref().map_or("static", |(_, healthcheck)| healthcheck.kind())
    }

    /// Returns the thresholds of a healthcheck.
    pub fn thresholds(healthcheck: Option<&Healthcheck>) -> Thresholds {
        healthcheck.map_or(Thresholds::STATIC, |h| Thresholds { rise: h.rise, fall: h.fall })
    }

    /// Returns its contribution to the detection of mass failures. A static backend has none.
    pub fn current_signal(&self) -> Signal {
        if self.healthcheck.is_some() { self.tracker.signal() } else { Signal::Neutral }
    }

    /// Reports whether the prober has to probe it.
    pub fn is_probed(&self) -> bool {
        self.healthcheck.is_some() && self.tracker.is_probed()
    }
}

impl State {
    /// Records a probe outcome.
    pub(super) fn record_outcome(&mut self, outcome: &Outcome, ctx: &mut Ctx) {
        let Some(index) = self.prober.checks.get(outcome.check) else { return };
        let judged = self.judge_route(index, outcome);
        let outcome = judged.as_ref().unwrap_or(outcome);
        let backend = &mut self.backends[index];
        backend.probes.record(outcome.code, outcome.duration);
        // Most outcomes end here.
        if backend.tracker.record_steady_pass(outcome, ctx.now.wall) {
            return;
        }
        let was_unobserved = backend.tracker.is_unobserved();
        if self.defers_down(index, outcome, ctx) {
            self.backends[index].tracker.defer_down(outcome, ctx.now.wall);
            if was_unobserved {
                self.clear_unobserved(ctx);
            }
            return self.apply_transition(index, None, ctx);
        }
        let in_service = self.is_in_service(index);
        let tracker = &mut self.backends[index].tracker;
        let was_healthy = tracker.is_healthy();
        let transition = tracker.record_outcome(outcome, in_service, ctx.now.wall);
        let is_unobserved = tracker.is_unobserved();
        match outcome.code.passed() {
            None => self.on_local_fault(index, outcome, ctx),
            Some(_) if was_unobserved && !is_unobserved => self.clear_unobserved(ctx),
            Some(_) => {}
        }
        if outcome.code.passed() == Some(true) {
            self.on_recovery(was_healthy, ctx);
        }
        self.apply_transition(index, transition, ctx);
    }

    /// Adopts the histories of a prober that kept running.
    pub(super) fn replay_histories(&mut self, histories: &[VerdictHistory], ctx: &mut Ctx) {
        // Later ones follow a reload, and say nothing of the time before this controller.
        if !self.prober.has_histories && self.prober.probing_since.is_none() {
            self.prober.has_histories = true;
            self.waive_min_delay(ctx);
        }
        for history in histories {
            let Some(index) = self.prober.checks.get(history.last.check) else { continue };
            let in_service = self.is_in_service(index);
            let transition = self.backends[index].tracker.replay_history(history, in_service, ctx.now.wall);
            self.apply_transition(index, transition, ctx);
        }
    }

    /// Passes every static backend before it refreshes frontends: they see all of them up at once.
    pub(super) fn pass_static_backends(&mut self, ctx: &mut Ctx) {
        let mut moved = Vec::new();
        for index in 0..self.backends.len() {
            if self.backends[index].healthcheck.is_none() && self.pass_static_backend(index, ctx) {
                moved.push(index);
            }
        }
        for index in moved {
            self.refresh_frontends_of(index, ctx);
        }
    }

    fn pass_static_backend(&mut self, index: usize, ctx: &mut Ctx) -> bool {
        let backend = &mut self.backends[index];
        if !backend.tracker.is_probed() {
            return false;
        }
        backend.probes.record(OutcomeCode::Static, Duration::ZERO);
        let transition = backend.tracker.record_static_pass(ctx.now.wall);
        self.publish_transition(index, transition, ctx)
    }

    /// Applies all consequences of a change of a backend's tracker.
    pub(super) fn apply_transition(&mut self, index: usize, transition: Option<Transition>, ctx: &mut Ctx) {
        if self.publish_transition(index, transition, ctx) {
            self.refresh_frontends_of(index, ctx);
        }
    }

    /// Publishes a change of a backend's tracker: interval, signal, counts and event. Returns true if there was a
    /// transition; then the caller refreshes its frontends, perhaps after publishing more.
    pub(super) fn publish_transition(
        &mut self,
        index: usize,
        transition: Option<Transition>,
        ctx: &mut Ctx,
    ) -> bool {
        self.update_interval(index, ctx);
        self.update_signal(index);
        let Some(transition) = transition else { return false };
        let (from, to) = (transition.from, transition.to);
        self.counts.backend_changed(from, to);
        let backend = &self.backends[index];
        let (name, address) = (Arc::clone(&backend.name), backend.address);
        ctx.event(Kind::Backend { name, address, transition });
        for frontend in &backend.frontends {
            let vip = self.frontends[*frontend].vip;
            match (from, to) {
                (_, Health::Disabled) => self.inferred.backend_disabled(vip, address),
                (Health::Up, Health::Down) => self.inferred.backend_down(vip, address),
                _ => {}
            }
        }
        if to == Health::Unknown && backend.healthcheck.is_none() {
            self.pass_static_backend(index, ctx);
        }
        true
    }

    /// Refreshes all frontends that use a backend.
    pub(super) fn refresh_frontends_of(&mut self, index: usize, ctx: &mut Ctx) {
        for at in 0..self.backends[index].frontends.len() {
            self.refresh_frontend(self.backends[index].frontends[at], ctx);
        }
    }

    /// Sends the prober the interval of a backend's state, if it has another.
    fn update_interval(&mut self, index: usize, ctx: &mut Ctx) {
        let backend = &mut self.backends[index];
        let Some((_, healthcheck)) = &backend.healthcheck else { return };
        let interval = backend.tracker.probe_interval(healthcheck);
        if interval == backend.sent_interval || !backend.tracker.is_probed() {
            return;
        }
        backend.sent_interval = interval;
        if self.prober.connected {
            ctx.out.push(Output::SetInterval(backend.check, interval));
        }
    }

    /// Reports whether VPP gives an unknown backend weight. True as well before the first read of VPP.
    pub(super) fn is_in_service(&self, index: usize) -> bool {
        let backend = &self.backends[index];
        backend.tracker.health() == Health::Unknown
            && self.vpp.is_enabled()
            && self.observed.latest().is_none_or(|actual| {
                let frontends = &mut backend.frontends.iter();
                frontends.any(|f| actual.serves(&self.frontends[*f].vip, &backend.address))
            })
    }
}
