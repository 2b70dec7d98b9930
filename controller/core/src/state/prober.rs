//! The prober, as seen from the core.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use maglev_ipc::{Check, CheckId, ProberStats, Schedule};

use super::backends::Backend;
use super::checks::Checks;
use super::{CheckSet, Ctx, Output, State, Timer};
use crate::config::Bundle;
use crate::event::Kind;
use crate::time::{MonoTime, Now, WallTime};

/// The prober, as seen from the core.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    pub connected: bool,
    pub since: WallTime,
    /// Why it could not be reached when that was tried last, since it was there.
    pub fault: Option<String>,
    pub stats: ProberStats,
    /// Which backend a check belongs to.
    pub checks: Arc<Checks>,
    pub refused: BTreeMap<CheckId, String>,
    /// Since when the prober probes. Without one, silence is no sign.
    pub probing_since: Option<MonoTime>,
    /// Whether it has told what it remembers.
    pub adopted: bool,
    generation: u64,
    /// The last whole set.
    whole: u64,
    /// The last amendment to it by which a check left.
    made_room: u64,
    next_check: u32,
    /// The numbers of the certificates that came with the last whole set.
    bundles: BTreeSet<u32>,
}

impl Prober {
    pub fn new(now: Now) -> Self {
        Self {
            connected: false,
            since: now.wall,
            fault: None,
            stats: ProberStats::default(),
            checks: Arc::default(),
            refused: BTreeMap::new(),
            probing_since: None,
            adopted: false,
            generation: 0,
            whole: 0,
            made_room: 0,
            next_check: 1,
            bundles: BTreeSet::new(),
        }
    }

    /// A number that no check has had.
    pub const fn new_check(&mut self) -> CheckId {
        let id = CheckId(self.next_check);
        self.next_check = self.next_check.wrapping_add(1);
        id
    }
}

impl Backend {
    fn is_probed(&self) -> bool {
        self.healthcheck.is_some() && self.tracker.probed()
    }

    fn bundle(&self) -> Option<&Arc<Bundle>> {
        self.healthcheck.as_ref()?.1.bundle()
    }

    /// What the prober is to be told of it, if it is to be probed; notes that it was.
    fn send(&mut self) -> Option<(CheckId, Schedule, Check)> {
        let (_, healthcheck) = self.healthcheck.as_ref().filter(|_| self.tracker.probed())?;
        self.paced = self.tracker.pace(healthcheck);
        self.sent = Some(self.check);
        let schedule = Schedule { interval: self.paced, stable_after: self.tracker.limits().stable_after() };
        Some((self.check, schedule, healthcheck.check(self.address)))
    }
}

impl State {
    pub(super) fn prober_up(&mut self, ctx: &mut Ctx) {
        self.prober.connected = true;
        self.prober.fault = None;
        self.prober.adopted = false;
        self.prober.since = ctx.now.wall;
        ctx.event(Kind::Prober { connected: true });
        for backend in self.backends.iter_mut() {
            backend.tracker.renumber();
        }
        self.send_checks(ctx);
    }

    pub(super) fn prober_down(&mut self, ctx: &mut Ctx) {
        if !self.prober.connected {
            return;
        }
        self.prober.connected = false;
        self.prober.probing_since = None;
        self.prober.since = ctx.now.wall;
        ctx.event(Kind::Prober { connected: false });
        self.see_again(ctx);
        for backend in self.backends.iter_mut().filter(|b| b.healthcheck.is_some()) {
            backend.tracker.lose_sight();
        }
        self.look(ctx);
    }

    pub(super) fn committed(&mut self, generation: u64, ctx: &mut Ctx) {
        if generation == self.prober.generation && self.prober.probing_since.is_none() {
            self.prober.probing_since = Some(ctx.now.mono);
            self.set_timer(ctx, self.config.lb.startup_max_delay, Timer::Release);
        }
        // What has been refused so far was so in a set that another has replaced since.
        if generation < self.prober.whole {
            self.prober.refused.clear();
        }
        // What was refused was not known yet when there came to be room for it.
        if generation < self.prober.made_room && !self.prober.refused.is_empty() {
            self.send_checks(ctx);
        }
    }

    pub(super) fn refused(&mut self, check: CheckId, why: String, ctx: &mut Ctx) {
        let Some(index) = self.prober.checks.get(check) else { return };
        ctx.event(Kind::CheckRejected { name: Arc::clone(&self.backends[index].name), reason: why.clone() });
        self.prober.refused.insert(check, why);
        let tracker = &mut self.backends[index].tracker;
        let was_unseen = tracker.unseen();
        // If it was probed until now, the prober has forgotten it, and counts from the start if it takes it again.
        tracker.renumber();
        tracker.lose_sight();
        if was_unseen {
            self.see(ctx);
        }
        self.note_sight(index);
    }

    /// Sends the prober all that is to be probed.
    fn send_checks(&mut self, ctx: &mut Ctx) {
        if !self.prober.connected {
            return;
        }
        self.prober.generation += 1;
        self.prober.whole = self.prober.generation;
        self.prober.made_room = 0;
        self.prober.refused.clear();
        self.prober.bundles.clear();
        let mut set = CheckSet { generation: self.prober.generation, ..CheckSet::default() };
        for backend in self.backends.iter_mut() {
            backend.sent = None;
            let Some(check) = backend.send() else { continue };
            set.checks.push(check);
            if let Some(bundle) = backend.bundle()
                && self.prober.bundles.insert(bundle.id)
            {
                set.bundles.push(Arc::clone(bundle));
            }
        }
        ctx.out.push(Output::SetChecks(set));
    }

    /// Tells the prober what is to be probed otherwise than it was told, of the backends in `changed`; `gone` are checks
    /// of backends that are no more.
    pub(super) fn amend_checks(
        &mut self,
        mut gone: Vec<CheckId>,
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
            if backend.sent == wanted {
                continue;
            }
            let unsent = |bundle: &Arc<Bundle>| !self.prober.bundles.contains(&bundle.id);
            if wanted.is_some() && backend.bundle().is_some_and(unsent) {
                return self.send_checks(ctx);
            }
            let backend = &mut self.backends[index];
            gone.extend(backend.sent.take());
            checks.extend(backend.send());
        }
        if gone.is_empty() && checks.is_empty() {
            return;
        }
        // What the prober has refused for want of room may have room now.
        if !self.prober.refused.is_empty() {
            return self.send_checks(ctx);
        }
        self.prober.generation += 1;
        if !gone.is_empty() {
            self.prober.made_room = self.prober.generation;
        }
        let (generation, dropped) = (self.prober.generation, Some(gone));
        ctx.out.push(Output::SetChecks(CheckSet { generation, dropped, checks, ..CheckSet::default() }));
    }

    /// Makes the prober begin anew with a backend, once its checks are amended.
    pub(super) fn renew_check(&mut self, index: usize) {
        let check = self.prober.new_check();
        let backend = &mut self.backends[index];
        let checks = Arc::make_mut(&mut self.prober.checks);
        checks.remove(backend.check);
        checks.insert(check, index);
        backend.check = check;
        backend.tracker.renumber();
    }
}
