//! The prober, as seen from the core.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;

use maglev_ipc::{CheckId, Stats};

use super::{Alarm, CheckSet, Output, State, Turn};
use crate::event::Kind;
use crate::time::{Mono, Now, Wall};

/// The prober, as seen from the core.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    pub connected: bool,
    pub since: Wall,
    pub stats: Stats,
    /// Which backend a check belongs to.
    pub checks: Arc<BTreeMap<CheckId, usize>>,
    pub refused: BTreeMap<CheckId, String>,
    /// Since when the prober probes. Without one, silence is no sign.
    pub probing_since: Option<Mono>,
    generation: u64,
    next_check: u32,
}

impl Prober {
    pub fn new(now: Now) -> Self {
        Self {
            connected: false,
            since: now.wall,
            stats: Stats::default(),
            checks: Arc::default(),
            refused: BTreeMap::new(),
            probing_since: None,
            generation: 0,
            next_check: 1,
        }
    }

    /// A number that no check has had.
    pub const fn new_check(&mut self) -> CheckId {
        let id = CheckId(self.next_check);
        self.next_check = self.next_check.wrapping_add(1);
        id
    }
}

impl State {
    pub(super) fn prober_up(&mut self, turn: &mut Turn) {
        self.prober.connected = true;
        self.prober.since = turn.now.wall;
        turn.event(Kind::Prober { connected: true });
        for backend in self.backends.iter_mut() {
            backend.tracker.renumber();
        }
        self.send_checks(turn);
    }

    pub(super) fn prober_down(&mut self, turn: &mut Turn) {
        if !self.prober.connected {
            return;
        }
        self.prober.connected = false;
        self.prober.probing_since = None;
        self.prober.since = turn.now.wall;
        turn.event(Kind::Prober { connected: false });
        self.see_again(turn);
        for backend in self.backends.iter_mut().filter(|b| b.healthcheck.is_some()) {
            backend.tracker.lose_sight();
        }
    }

    pub(super) fn committed(&mut self, generation: u64, turn: &mut Turn) {
        if generation == self.prober.generation && self.prober.probing_since.is_none() {
            self.prober.probing_since = Some(turn.now.mono);
            self.alarm(turn, self.config.lb.startup_max_delay, Alarm::Release);
        }
    }

    pub(super) fn refused(&mut self, check: CheckId, why: String, turn: &mut Turn) {
        let Some(&index) = self.prober.checks.get(&check) else { return };
        turn.event(Kind::Refused { name: Arc::clone(&self.backends[index].name), why: why.clone() });
        self.prober.refused.insert(check, why);
    }

    /// Sends the prober all that is to be probed.
    pub(super) fn send_checks(&mut self, turn: &mut Turn) {
        if !self.prober.connected {
            return;
        }
        self.prober.generation += 1;
        self.prober.refused.clear();
        let mut set = CheckSet { generation: self.prober.generation, ..CheckSet::default() };
        let mut bundles = BTreeSet::new();
        for backend in self.backends.iter_mut().filter(|b| b.tracker.probed()) {
            let Some((_, healthcheck)) = &backend.healthcheck else { continue };
            backend.paced = backend.tracker.pace(healthcheck);
            set.checks.push((backend.check, backend.paced, healthcheck.check(backend.address)));
            if let Some(bundle) = healthcheck.bundle()
                && bundles.insert(bundle.id)
            {
                set.bundles.push(Arc::clone(bundle));
            }
        }
        turn.out.push(Output::Checks(set));
    }

    /// Makes the prober begin anew with a backend, at its next set.
    pub(super) fn renew_check(&mut self, index: usize) {
        let check = self.prober.new_check();
        let backend = &mut self.backends[index];
        let checks = Arc::make_mut(&mut self.prober.checks);
        checks.remove(&backend.check);
        checks.insert(check, index);
        backend.check = check;
        backend.tracker.renumber();
    }
}
