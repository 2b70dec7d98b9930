//! The core with random VPP, prober and operators.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use maglev_core::Name;
use maglev_core::config::Config;
use maglev_core::dataplane::VipKey;
use maglev_core::event::Kind;
use maglev_core::failover::FrontendState;
use maglev_core::health::{BackendAction, Health, ProbeCounters};
use maglev_core::state::{CheckSet, ExplanationLine, Input, OperatorCommand, Output, Requester, State};
use maglev_core::time::{MonoTime, Now, WallTime};
use maglev_core::view::{BackendView, View};
use maglev_ipc::{Check, CheckId, OutcomeCode};

use crate::expected_overrides::ExpectedOverrides;
use crate::explanations;
use crate::flush_oracle::FlushOracle;
use crate::ops::CoreOp;
use crate::oracle;
use crate::prober::{ProberModel, outcome};
use crate::shape::{BACKENDS, ConfigMutation, ConfigShape, SYNC_INTERVAL, named};
use crate::vpp::{PendingWork, VipModel, VppModel};

pub struct RandomWorld {
    pub shape: ConfigShape,
    pub config: Arc<Config>,
    pub vpp: VppModel,
    pub expected: ExpectedOverrides,
    /// VIPs found in VPP that no configuration contained.
    pub foreign_vips: BTreeSet<VipKey>,
    state: State,
    now: MonoTime,
    prober: ProberModel,
    flushes: FlushOracle,
    /// True while any write to VPP is an error.
    pub read_only: bool,
}

impl RandomWorld {
    pub fn new(shape: ConfigShape) -> Self {
        let config = shape.config();
        let mut out = Vec::new();
        let state = State::new(Arc::clone(&config), Arc::default(), true, Now::default(), &mut out);
        let mut world = Self {
            shape,
            config,
            vpp: VppModel::new(),
            expected: ExpectedOverrides::default(),
            foreign_vips: BTreeSet::new(),
            state,
            now: MonoTime::default(),
            prober: ProberModel::default(),
            flushes: FlushOracle::default(),
            read_only: false,
        };
        world.take(out);
        world
    }

    pub fn view(&self) -> View {
        self.state.view(self.now())
    }

    fn now(&self) -> Now {
        Now { mono: self.now, wall: WallTime(self.now.0) }
    }

    /// Applies an operation and checks all invariants, also that a clone of the state does not change.
    pub fn apply_and_check(&mut self, op: &CoreOp) {
        let (snapshot, then) = (self.state.clone(), self.now());
        let shown = format!("{:?}", snapshot.view(then));
        self.apply_op(op);
        assert_eq!(format!("{:?}", snapshot.view(then)), shown);
        self.expected.check(&self.state.view(self.now()), &self.config);
        explanations::check_explanations(self);
        self.check_summary();
    }

    fn apply_op(&mut self, op: &CoreOp) {
        match op {
            CoreOp::ProberUp { keeps_history } => self.prober_up(*keeps_history),
            CoreOp::ProberDown => self.prober_down(),
            CoreOp::Probed { backend, code, times } => {
                for _ in 0..*times {
                    self.probed(&named('b', *backend), *code);
                }
            }
            CoreOp::StaleOutcome(backend) => self.stale_outcome(&named('b', *backend)),
            CoreOp::StrangeOutcome => {
                self.feed_ignored(Input::Outcomes(vec![outcome(CheckId(u32::MAX), 1, OutcomeCode::L4Con)]));
            }
            CoreOp::Wait(time) => self.wait(*time),
            CoreOp::Jump(time) => {
                self.now = self.now + *time;
                self.feed(Input::Tick);
            }
            CoreOp::Reload(mutation) => self.reload(mutation),
            CoreOp::Restart => self.restart(),
            CoreOp::Operate(backend, action, seconds) => {
                self.override_backend(named('b', *backend), *action, *seconds);
            }
            CoreOp::Weight(frontend, pool, backend, weight, seconds) => {
                let path = (named('f', *frontend), named('p', *pool), named('b', *backend));
                self.override_weight(path, *weight, *seconds);
            }
            CoreOp::VppUp => self.vpp_up(),
            CoreOp::VppDown => self.vpp_down(),
            CoreOp::VppRestart => {
                self.vpp_down();
                self.vpp.restart();
            }
            CoreOp::Edit(edit) => self.vpp.edit(edit),
            CoreOp::Refuse(after) => self.vpp.refuse_after = Some(*after),
            CoreOp::Work(index) => self.work(*index),
            CoreOp::Drain => self.drain(),
        }
    }

    /// Checks the incremental counts of the summary against the view.
    fn check_summary(&self) {
        let (view, summary) = (self.view(), self.state.summary().to_string());
        for state in Health::ALL {
            let count = view.backends.iter().filter(|b| b.health == state).count();
            assert_eq!(summary_count(&summary, "backend", state.as_str()), count, "{summary}");
        }
        for state in FrontendState::ALL {
            let count = view.frontends.iter().filter(|f| f.state == state).count();
            assert_eq!(summary_count(&summary, "frontend", state.as_str()), count, "{summary}");
        }
    }

    pub fn explain_backend(&self, name: &str) -> Option<Vec<ExplanationLine>> {
        self.state.explain_backend(name, self.now())
    }

    pub fn explain_frontend(&self, name: &str) -> Option<Vec<ExplanationLine>> {
        self.state.explain_frontend(name, self.now())
    }

    fn feed(&mut self, input: Input) {
        let mut out = Vec::new();
        let now = self.now();
        self.state.handle(input, now, &mut out);
        self.take(out);
    }

    /// Feeds an input that must change nothing.
    fn feed_ignored(&mut self, input: Input) {
        let before = self.view();
        let mut out = Vec::new();
        let now = self.now();
        self.state.handle(input, now, &mut out);
        assert_eq!(out, []);
        // The probe counters may change.
        let lines = |view: View| {
            let uncounted = |backend| BackendView { probes: ProbeCounters::default(), ..backend };
            format!("{:?}", view.backends.into_iter().map(uncounted).collect::<Vec<_>>())
        };
        assert_eq!(lines(before), lines(self.view()));
    }

    /// Executes the outputs, and checks that they are valid.
    fn take(&mut self, out: Vec<Output>) {
        self.vpp.now += 1;
        let view = self.view();
        self.counters_are_in_bounds(&view);
        for output in out {
            match output {
                Output::Event(event) => {
                    if let Kind::Backend { name, address, transition } = event.kind {
                        self.flushes.record_transition(
                            &name,
                            address,
                            &transition,
                            self.vpp.now,
                            &self.config,
                        );
                    }
                }
                Output::SetChecks(set) => self.install(set),
                Output::SetInterval(check, _) => {
                    assert!(self.prober.connected, "an interval without a prober");
                    assert!(self.prober.set.checks.iter().any(|(id, ..)| *id == check), "an unknown check");
                }
                asked => self.ask(asked, &view),
            }
        }
    }

    fn install(&mut self, set: CheckSet) {
        assert!(self.prober.connected && set.generation > self.prober.set.generation);
        let mut checks = set.checks;
        if let Some(dropped) = &set.dropped {
            let mut kept = std::mem::take(&mut self.prober.set.checks);
            let known = kept.len();
            kept.retain(|(id, ..)| !dropped.contains(id));
            assert_eq!(kept.len() + dropped.len(), known, "a removed check did not exist");
            checks.extend(kept);
        }
        let ids: BTreeSet<_> = checks.iter().map(|(id, ..)| *id).collect();
        assert_eq!(ids.len(), checks.len(), "two checks with one id");
        self.prober.set = CheckSet { checks, ..set };
    }

    fn ask(&mut self, asked: Output, view: &View) {
        assert!(self.vpp.is_connected, "VPP is not connected: {asked:?}");
        assert!(view.vpp.actual.is_some() || asked == Output::ReadAll, "not read yet: {asked:?}");
        let mut keeps = false;
        match &asked {
            Output::Apply(plan) => {
                assert!(!self.read_only, "no write is expected: {plan:?}");
                assert!(!plan.steps.is_empty() && !self.vpp.is_busy(&plan.vip), "{plan:?}");
                self.flushes.check_plan(plan, &self.config, view, &self.vpp);
                keeps = oracle::keeps_weight(plan, &self.config, view, &self.vpp);
            }
            Output::ReadServers(vip) | Output::ReadVip(vip) => assert!(!self.vpp.is_busy(vip), "{asked:?}"),
            Output::SetConf(_) => assert!(!self.read_only, "no write is expected"),
            _ => {}
        }
        self.vpp.work.push(PendingWork::Requested(asked, keeps));
    }

    fn counters_are_in_bounds(&self, view: &View) {
        for b in &view.backends {
            let sound = match b.health {
                Health::Up => (b.rise..b.rise + b.fall).contains(&b.counter),
                Health::Down => b.counter < b.rise,
                Health::Unknown | Health::Paused | Health::Disabled => b.counter == 0,
                Health::Removed => false,
            };
            assert!(sound && b.transitions.len() <= self.config.transition_history, "{b:?}");
        }
    }

    pub fn prober_up(&mut self, keeps_history: bool) {
        if self.prober.connected {
            return;
        }
        self.prober.connected = true;
        if !keeps_history {
            self.prober.verdicts.clear();
            self.prober.seq = 0;
        }
        self.feed(Input::ProberUp);
        if keeps_history {
            let histories =
                self.prober.set.checks.iter().filter_map(|(id, _, check)| self.prober.history(*id, check));
            let histories = histories.collect();
            self.feed(Input::Histories(histories));
        }
        self.feed(Input::Committed(self.prober.set.generation));
    }

    /// Disconnects the prober, which must not affect VPP.
    fn prober_down(&mut self) {
        if !std::mem::take(&mut self.prober.connected) {
            return;
        }
        let health = |view: &View| view.backends.iter().map(|b| (b.health, b.counter)).collect::<Vec<_>>();
        let (before, asked) = (health(&self.view()), self.vpp.work.len());
        self.feed(Input::ProberDown);
        assert_eq!((before, asked), (health(&self.view()), self.vpp.work.len()));
    }

    pub fn probed(&mut self, backend: &str, code: OutcomeCode) {
        let Some((check, probe)) = self.check_of(backend).filter(|_| self.prober.connected) else { return };
        self.prober.seq += 1;
        if let Some(passed) = code.passed() {
            self.prober.remember(&probe, passed);
        }
        let before = self.backend(backend);
        self.feed(Input::Outcomes(vec![outcome(check, self.prober.seq, code)]));
        if code == OutcomeCode::Local {
            let after = self.backend(backend);
            assert_eq!((before.health, before.counter), (after.health, after.counter), "no verdict");
        }
    }

    fn stale_outcome(&mut self, backend: &str) {
        let Some((check, _)) = self.check_of(backend) else { return };
        self.feed_ignored(Input::Outcomes(vec![outcome(check, 0, OutcomeCode::L4Con)]));
    }

    fn check_of(&self, backend: &str) -> Option<(CheckId, Check)> {
        let address = self.config.backends.get(backend)?.address;
        let (id, _, check) = self.prober.set.checks.iter().find(|(_, _, check)| check.target == address)?;
        Some((*id, check.clone()))
    }

    fn backend(&self, name: &str) -> BackendView {
        self.view().backends.into_iter().find(|b| &*b.name == name).unwrap()
    }

    /// Reports whether a backend has weight in VPP, and one failure does not decide.
    pub fn tolerates_one_failure(&self, backend: &str) -> bool {
        let Some(address) = self.config.backends.get(backend).map(|b| b.address) else { return false };
        let serves = |vip: &VipModel| vip.servers.get(&address).is_some_and(|s| s.weight > 0);
        self.vpp.vips.values().any(serves) && self.backend(backend).fall > 1
    }

    fn wait(&mut self, time: Duration) {
        self.pass(time, |_| ());
    }

    /// Lets time pass while VPP answers.
    fn wait_drained(&mut self, time: Duration) {
        self.drain();
        self.pass(time, Self::drain);
    }

    fn pass(&mut self, time: Duration, between: impl Fn(&mut Self)) {
        let end = self.now + time;
        let mut ticks = 0;
        while let Some(at) = self.state.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.feed(Input::Tick);
            between(self);
            assert!(self.state.wake_at() > Some(self.now), "no progress");
            ticks += 1;
        }
        self.now = end;
        assert!(ticks <= 50 + 5 * time.as_secs(), "{ticks} ticks in {time:?}");
    }

    fn reload(&mut self, mutation: &ConfigMutation) {
        self.shape.mutate(mutation);
        let new = self.shape.config();
        let (old, before, set) = (Arc::clone(&self.config), self.view(), self.prober.set.clone());
        let settled = oracle::settled_vips(self, &before);
        self.config = Arc::clone(&new);
        self.foreign_vips.retain(|vip| oracle::frontend_of(&new, vip).is_none());
        let asked = self.vpp.work.len();
        self.feed(Input::Reload(Arc::clone(&new)));
        let unaffected = oracle::unaffected(&old, &new);
        let after = self.view();
        let of = |view: &View, name: &Name| view.backends.iter().find(|b| b.name == *name).cloned();
        let number = |set: &CheckSet, name: &Name| {
            set.checks.iter().find(|(.., c)| c.target == new.backends[name].address).map(|c| c.0)
        };
        for name in &unaffected {
            let (was, is) = (of(&before, name).unwrap(), of(&after, name).unwrap());
            if was.enabled == is.enabled {
                assert_eq!((&was.transitions, was.counter), (&is.transitions, is.counter), "{name}");
                assert_eq!(number(&set, name), number(&self.prober.set, name), "{name}: another check");
            }
        }
        for work in &self.vpp.work[asked..] {
            let PendingWork::Requested(Output::Apply(plan), _) = work else { continue };
            let untouched = oracle::untouched(&plan.vip, &old, &new, (&before, &after));
            assert!(!(untouched && settled.contains(&plan.vip)), "nothing changed for {plan:?}");
        }
    }

    /// Restarts `maglevd` with the stored overrides.
    pub fn restart(&mut self) {
        self.prober.connected = false;
        self.prober.set.generation = 0;
        if self.vpp.is_connected {
            self.vpp.cut();
        }
        self.flushes = FlushOracle::default();
        self.vpp.controller_restarted();
        self.foreign_vips = self
            .vpp
            .vips
            .keys()
            .copied()
            .filter(|v| oracle::frontend_of(&self.config, v).is_none())
            .collect();
        let mut out = Vec::new();
        let kept = Arc::clone(self.state.overrides());
        self.state = State::new(Arc::clone(&self.config), kept, true, self.now(), &mut out);
        let is_news =
            |output: &Output| matches!(output, Output::Event(event) if !may_follow_start(&event.kind));
        assert!(!out.iter().any(is_news), "a restored override caused an event: {out:?}");
        self.take(out);
    }

    fn operate(&mut self, command: &OperatorCommand, requester: &Requester) -> bool {
        let mut out = Vec::new();
        let now = self.now();
        let done = self.state.operate(command, requester, now, &mut out).is_ok();
        assert!(done || out.is_empty(), "rejected with outputs: {out:?}");
        self.take(out);
        done
    }

    fn requester(&self, seconds: Option<u64>) -> (Requester, Option<WallTime>) {
        let lifetime = seconds.map(Duration::from_secs);
        let expires = lifetime.map(|lifetime| self.now().wall + lifetime);
        (Requester { lifetime, ..Requester::default() }, expires)
    }

    fn override_backend(&mut self, name: Name, action: BackendAction, seconds: Option<u64>) {
        let (requester, expires) = self.requester(seconds);
        if self.operate(&OperatorCommand::Backend { name: Arc::clone(&name), action }, &requester) {
            self.expected.record_action(name, action, expires, &self.config);
        }
    }

    fn override_weight(&mut self, path: (Name, Name, Name), weight: Option<u8>, seconds: Option<u64>) {
        let (requester, expires) = self.requester(seconds);
        let (frontend, pool, backend) = path.clone();
        if self.operate(&OperatorCommand::Weight { frontend, pool, backend, weight }, &requester) {
            self.expected.record_weight(path, weight, expires);
        }
    }

    pub fn vpp_up(&mut self) {
        if !self.vpp.is_connected {
            self.vpp.is_connected = true;
            self.flushes.vpp_connected(self.vpp.pid);
            self.feed(Input::VppUp(self.vpp.info()));
        }
    }

    fn vpp_down(&mut self) {
        if self.vpp.is_connected {
            self.vpp.cut();
            self.feed(Input::VppDown);
        }
    }

    fn work(&mut self, index: usize) {
        let Some(index) = index.checked_rem(self.vpp.work.len()) else { return };
        match self.vpp.work.remove(index) {
            PendingWork::Requested(asked, keeps) => {
                if let Output::Apply(plan) = &asked {
                    self.flushes.record_request(plan);
                }
                let answer = self.vpp.answer(asked, keeps);
                self.vpp.work.push(PendingWork::Done(answer));
            }
            PendingWork::Done(answer) => {
                if let Input::StepsApplied { vip, done, .. } = &answer {
                    self.flushes.record_answer(*vip, *done, &mut self.vpp);
                }
                self.feed(answer);
            }
        }
    }

    pub fn drain(&mut self) {
        while !self.vpp.work.is_empty() {
            self.work(0);
        }
    }

    /// Ends all faults; the backends whose bit is set pass.
    pub fn settle(&mut self, healthy: u8) {
        self.vpp.refuse_after = None;
        self.vpp_up();
        self.prober_up(false);
        self.drain();
        self.probe_all(healthy);
        // A pause may expire meanwhile; its backend is unknown until its next outcome.
        self.wait_drained(Duration::from_secs(20));
        self.probe_all(healthy);
        self.wait_drained(SYNC_INTERVAL * 3);
        self.expected.check(&self.state.view(self.now()), &self.config);
        oracle::check_converged(self);
        self.flushes.check_complete(&self.config, &self.view(), &self.vpp);
        self.read_only = true;
        self.wait_drained(SYNC_INTERVAL * 2);
        self.read_only = false;
    }

    fn probe_all(&mut self, healthy: u8) {
        for index in 0..BACKENDS {
            let code = if healthy >> index & 1 == 1 { OutcomeCode::L7Ok } else { OutcomeCode::L4Tout };
            for _ in 0..6 {
                self.probed(&named('b', index), code);
            }
        }
    }
}

/// Reports whether an event may follow a start: static backends come up, and overrides may have expired.
const fn may_follow_start(kind: &Kind) -> bool {
    match kind {
        Kind::Backend { transition, .. } => matches!(transition.to, Health::Up),
        Kind::Frontend { .. } | Kind::Operator(_) => true,
        _ => false,
    }
}

/// Returns the number of objects in `state` by the summary.
fn summary_count(summary: &str, what: &str, state: &str) -> usize {
    let part = summary.split("; ").find(|part| part.contains(what)).unwrap();
    let counts = part.split(": ").nth(1).unwrap_or_default().split(", ");
    let count = counts.filter_map(|count| count.strip_suffix(state)).next();
    count.map_or(0, |count| count.trim_end().parse().unwrap())
}
