//! The prober: connection, check sets, and rejected checks.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use maglev_ipc::{Check, CheckId, ProberStats, Schedule};

use super::backends::BackendEntry;
use super::check_index::CheckIndex;
use super::{CheckSet, Ctx, Output, State, Timer};
use crate::config::Bundle;
use crate::event::Kind;
use crate::time::{MonoTime, Now, WallTime};

/// State of the link to the prober.
#[derive(Clone, Debug)]
pub(super) struct ProberState {
    pub connected: bool,
    pub since: WallTime,
    /// Reason of the last failed connection attempt since the prober was connected.
    pub fault: Option<String>,
    pub stats: ProberStats,
    /// Entry of each check's backend.
    pub checks: Arc<CheckIndex>,
    /// Reason of each rejected check.
    pub rejected: BTreeMap<CheckId, String>,
    /// Time at which the prober started probing; `None` while it does not.
    pub probing_since: Option<MonoTime>,
    /// True if it has sent the histories of an earlier controller.
    pub has_histories: bool,
    generation: u64,
    /// Generation of the last whole set.
    full_set: u64,
    /// Generation of the last amendment since then that removed a check.
    made_room: u64,
    next_check: u32,
    /// Ids of the certificates sent with the last whole set.
    bundles: BTreeSet<u32>,
}

impl ProberState {
    pub fn new(now: Now) -> Self {
        Self {
            connected: false,
            since: now.wall,
            fault: None,
            stats: ProberStats::default(),
            checks: Arc::default(),
            rejected: BTreeMap::new(),
            probing_since: None,
            has_histories: false,
            generation: 0,
            full_set: 0,
            made_room: 0,
            next_check: 1,
            bundles: BTreeSet::new(),
        }
    }

    /// Returns an id that no check has had.
    pub const fn new_check(&mut self) -> CheckId {
        let id = CheckId(self.next_check);
        self.next_check = self.next_check.wrapping_add(1);
        id
    }
}

impl BackendEntry {
    fn bundle(&self) -> Option<&Arc<Bundle>> {
        self.healthcheck.as_ref()?.1.bundle()
    }

    /// Returns its check, and records it as sent; `None` if it is not to be probed.
    fn send_check(&mut self) -> Option<(CheckId, Schedule, Check)> {
        let (_, healthcheck) = self.healthcheck.as_ref().filter(|_| self.tracker.is_probed())?;
        self.sent_interval = self.tracker.probe_interval(healthcheck);
        self.sent_check = Some(self.check);
        let schedule =
            Schedule { interval: self.sent_interval, stable_after: self.tracker.thresholds().stable_after() };
        Some((self.check, schedule, healthcheck.check(self.address)))
    }
}

impl State {
    pub(super) fn prober_up(&mut self, ctx: &mut Ctx) {
        self.prober.connected = true;
        self.prober.fault = None;
        self.prober.has_histories = false;
        self.prober.since = ctx.now.wall;
        ctx.event(Kind::Prober { connected: true });
        for backend in self.backends.iter_mut() {
            backend.tracker.reset_sequence();
        }
        self.send_check_set(ctx);
    }

    pub(super) fn prober_down(&mut self, ctx: &mut Ctx) {
        if !self.prober.connected {
            return;
        }
        self.prober.connected = false;
        self.prober.probing_since = None;
        self.prober.since = ctx.now.wall;
        ctx.event(Kind::Prober { connected: false });
        self.cancel_window(ctx);
        for backend in self.backends.iter_mut().filter(|b| b.healthcheck.is_some()) {
            backend.tracker.mark_stale();
        }
        self.recount_unobserved(ctx);
    }

    pub(super) fn committed(&mut self, generation: u64, ctx: &mut Ctx) {
        if generation == self.prober.generation && self.prober.probing_since.is_none() {
            self.prober.probing_since = Some(ctx.now.mono);
            self.set_timer(ctx, self.config.lb.startup_max_delay, Timer::HoldEnd);
        }
        // These rejections belong to a set that a later one has replaced.
        if generation < self.prober.full_set {
            self.prober.rejected.clear();
        }
        // These checks were rejected before an amendment made room for them.
        if generation < self.prober.made_room && !self.prober.rejected.is_empty() {
            self.send_check_set(ctx);
        }
    }

    pub(super) fn check_rejected(&mut self, check: CheckId, reason: String, ctx: &mut Ctx) {
        let Some(index) = self.prober.checks.get(check) else { return };
        ctx.event(Kind::CheckRejected {
            name: Arc::clone(&self.backends[index].name),
            reason: reason.clone(),
        });
        self.prober.rejected.insert(check, reason);
        let tracker = &mut self.backends[index].tracker;
        let was_unobserved = tracker.is_unobserved();
        // The prober has dropped the check. It numbers outcomes from the start if it accepts the check later.
        tracker.reset_sequence();
        tracker.mark_stale();
        if was_unobserved {
            self.clear_unobserved(ctx);
        }
        self.update_signal(index);
    }

    /// Sends the prober a whole set.
    fn send_check_set(&mut self, ctx: &mut Ctx) {
        if !self.prober.connected {
            return;
        }
        self.prober.generation += 1;
        self.prober.full_set = self.prober.generation;
        self.prober.made_room = 0;
        self.prober.rejected.clear();
        self.prober.bundles.clear();
        let mut set = CheckSet { generation: self.prober.generation, ..CheckSet::default() };
        for backend in self.backends.iter_mut() {
            backend.sent_check = None;
            let Some(check) = backend.send_check() else { continue };
            set.checks.push(check);
            if let Some(bundle) = backend.bundle()
                && self.prober.bundles.insert(bundle.id)
            {
                set.bundles.push(Arc::clone(bundle));
            }
        }
        ctx.out.push(Output::SetChecks(set));
    }

    /// Sends the prober the differences for the backends in `changed`; `removed` are the checks of removed backends.
    pub(super) fn amend_check_set(
        &mut self,
        mut removed: Vec<CheckId>,
        changed: impl Iterator<Item = usize>,
        ctx: &mut Ctx,
    ) {
        if !self.prober.connected {
            return;
        }
        let mut checks = Vec::new();
        for index in changed {
            let backend = &self.backends[index];
            let wanted = backend.is_probed().then_some(backend.check);
            if backend.sent_check == wanted {
                continue;
            }
            let unsent = |bundle: &Arc<Bundle>| !self.prober.bundles.contains(&bundle.id);
            if wanted.is_some() && backend.bundle().is_some_and(unsent) {
                return self.send_check_set(ctx);
            }
            let backend = &mut self.backends[index];
            removed.extend(backend.sent_check.take());
            checks.extend(backend.send_check());
        }
        if removed.is_empty() && checks.is_empty() {
            return;
        }
        // Checks that were rejected for lack of room may fit now.
        if !self.prober.rejected.is_empty() {
            return self.send_check_set(ctx);
        }
        self.prober.generation += 1;
        if !removed.is_empty() {
            self.prober.made_room = self.prober.generation;
        }
        let (generation, dropped) = (self.prober.generation, Some(removed));
        ctx.out.push(Output::SetChecks(CheckSet { generation, dropped, checks, ..CheckSet::default() }));
    }

    /// Gives a backend a new check, with which the prober starts over. The next amendment sends it.
    pub(super) fn renew_check(&mut self, index: usize) {
        let check = self.prober.new_check();
        let backend = &mut self.backends[index];
        let checks = Arc::make_mut(&mut self.prober.checks);
        checks.remove(backend.check);
        checks.insert(check, index);
        backend.begin_check(check);
    }
}
