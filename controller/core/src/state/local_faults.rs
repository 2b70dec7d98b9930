//! Local faults: probe outcomes that name a fault of the prober's own host.
//!
//! They are no verdict, so health stays. But a backend without a verdict for as long as `fall` failures take is unobserved,
//! and its health stale. One event reports the first unobserved backend, another the end of the last.
//!
//! A fault of this host concerns all its probes, or those of one kind. But a stranger may cause faults, too: if an unobserved
//! backend has two more, each after an answer of another, it is hidden, and an event reports each such backend. No traffic
//! moves: weight that follows local faults would be the stranger's to take.

use maglev_ipc::Outcome;

use super::{Ctx, State};
use crate::event::{Kind, LocalFaultsChange};

/// Number of unobserved backends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LocalFaults {
    unobserved: usize,
}

impl LocalFaults {
    /// Adds an unobserved backend. Returns true if it is the first.
    const fn add(&mut self) -> bool {
        self.unobserved += 1;
        self.unobserved == 1
    }

    /// Sets the number. Returns true if no backend is unobserved any more.
    const fn set_count(&mut self, count: usize) -> bool {
        let cleared = self.unobserved > 0 && count == 0;
        self.unobserved = count;
        cleared
    }
}

impl State {
    /// Records that a probe ended in a local fault.
    pub(super) fn on_local_fault(&mut self, index: usize, outcome: &Outcome, ctx: &mut Ctx) {
        let backend = &mut self.backends[index];
        let Some((_, healthcheck)) = &backend.healthcheck else { return };
        let tracker = &mut backend.tracker;
        let (name, fault) = (|| backend.name.clone(), || outcome.detail.clone());
        if tracker.is_hidden() {
            return;
        }
        if tracker.is_unobserved() {
            tracker.count_evidence(self.route_evidence.answered(backend.address.is_ipv6()), outcome);
            if tracker.is_hidden() {
                ctx.event(Kind::LocalFaults(LocalFaultsChange::Hidden { name: name(), fault: fault() }));
            }
            return;
        }
        tracker.mark_unobserved_after(healthcheck.interval * healthcheck.fall, outcome);
        if tracker.is_unobserved() && self.local_faults.add() {
            ctx.event(Kind::LocalFaults(LocalFaultsChange::Unobserved { name: name(), fault: fault() }));
        }
    }

    /// Counts one unobserved backend less.
    pub(super) fn clear_unobserved(&mut self, ctx: &mut Ctx) {
        self.set_unobserved(self.local_faults.unobserved.saturating_sub(1), ctx);
    }

    /// Recounts the unobserved backends, after a change of the backends or their checks.
    pub(super) fn recount_unobserved(&mut self, ctx: &mut Ctx) {
        if self.local_faults.unobserved > 0 {
            let count = self.backends.iter().filter(|backend| backend.tracker.is_unobserved()).count();
            self.set_unobserved(count, ctx);
        }
    }

    fn set_unobserved(&mut self, count: usize, ctx: &mut Ctx) {
        if self.local_faults.set_count(count) {
            ctx.event(Kind::LocalFaults(LocalFaultsChange::Cleared));
        }
    }
}
