//! The core between a VPP, a prober and operators, all of whom do as they please.

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

use crate::explanations;
use crate::flushes::Flushes;
use crate::ops::Op;
use crate::oracle;
use crate::prober::{Prober, outcome};
use crate::shape::{BACKENDS, Mutation, SYNC_INTERVAL, Shape, named};
use crate::vpp::{Vip, Vpp, Work};
use crate::wishes::Wishes;

pub struct World {
    pub shape: Shape,
    pub config: Arc<Config>,
    pub vpp: Vpp,
    pub wishes: Wishes,
    /// VIPs that were found, and were never ours.
    pub strangers: BTreeSet<VipKey>,
    state: State,
    now: MonoTime,
    prober: Prober,
    flushes: Flushes,
    /// Whether nothing is to be written to VPP.
    pub read_only: bool,
}

impl World {
    pub fn new(shape: Shape) -> Self {
        let config = shape.config();
        let mut out = Vec::new();
        let state = State::new(Arc::clone(&config), Arc::default(), true, Now::default(), &mut out);
        let mut world = Self {
            shape,
            config,
            vpp: Vpp::new(),
            wishes: Wishes::default(),
            strangers: BTreeSet::new(),
            state,
            now: MonoTime::default(),
            prober: Prober::default(),
            flushes: Flushes::default(),
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

    /// What follows is what should, and nothing of it is seen by whoever holds on to a clone of the state.
    pub fn happens(&mut self, op: &Op) {
        let (snapshot, then) = (self.state.clone(), self.now());
        let shown = format!("{:?}", snapshot.view(then));
        self.happens_unseen(op);
        assert_eq!(format!("{:?}", snapshot.view(then)), shown);
        self.wishes.hold(&self.state.view(self.now()), &self.config);
        explanations::agree(self);
        self.is_summed_up();
    }

    fn happens_unseen(&mut self, op: &Op) {
        match op {
            Op::ProberUp { remembers } => self.prober_up(*remembers),
            Op::ProberDown => self.prober_down(),
            Op::Probed { backend, code, times } => {
                for _ in 0..*times {
                    self.probed(&named('b', *backend), *code);
                }
            }
            Op::StaleOutcome(backend) => self.stale_outcome(&named('b', *backend)),
            Op::StrangeOutcome => {
                self.ignores(Input::Outcomes(vec![outcome(CheckId(u32::MAX), 1, OutcomeCode::L4Con)]));
            }
            Op::Wait(time) => self.wait(*time),
            Op::Jump(time) => {
                self.now = self.now + *time;
                self.tell(Input::Tick);
            }
            Op::Reload(mutation) => self.reload(mutation),
            Op::Restart => self.restart(),
            Op::Operate(backend, action, seconds) => {
                self.override_backend(named('b', *backend), *action, *seconds);
            }
            Op::Weight(frontend, pool, backend, weight, seconds) => {
                let path = (named('f', *frontend), named('p', *pool), named('b', *backend));
                self.override_weight(path, *weight, *seconds);
            }
            Op::VppUp => self.vpp_up(),
            Op::VppDown => self.vpp_down(),
            Op::VppRestart => {
                self.vpp_down();
                self.vpp.restart();
            }
            Op::Edit(edit) => self.vpp.edit(edit),
            Op::Refuse(after) => self.vpp.refuse_after = Some(*after),
            Op::Work(index) => self.work(*index),
            Op::Drain => self.drain(),
        }
    }

    /// The summary, which counts each move, is what counting shows.
    fn is_summed_up(&self) {
        let (view, summary) = (self.view(), self.state.summary().to_string());
        for state in Health::ALL {
            let count = view.backends.iter().filter(|b| b.health == state).count();
            assert_eq!(summed_up(&summary, "backend", state.as_str()), count, "{summary}");
        }
        for state in FrontendState::ALL {
            let count = view.frontends.iter().filter(|f| f.state == state).count();
            assert_eq!(summed_up(&summary, "frontend", state.as_str()), count, "{summary}");
        }
    }

    pub fn explain_backend(&self, name: &str) -> Option<Vec<ExplanationLine>> {
        self.state.explain_backend(name, self.now())
    }

    pub fn explain_frontend(&self, name: &str) -> Option<Vec<ExplanationLine>> {
        self.state.explain_frontend(name, self.now())
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        let now = self.now();
        self.state.handle(input, now, &mut out);
        self.take(out);
    }

    /// Tells the core something that is to change nothing.
    fn ignores(&mut self, input: Input) {
        let before = self.view();
        let mut out = Vec::new();
        let now = self.now();
        self.state.handle(input, now, &mut out);
        assert_eq!(out, []);
        // It may be counted.
        let told = |view: View| {
            let uncounted = |backend| BackendView { probes: ProbeCounters::default(), ..backend };
            format!("{:?}", view.backends.into_iter().map(uncounted).collect::<Vec<_>>())
        };
        assert_eq!(told(before), told(self.view()));
    }

    /// Does what the core wants, unless that makes no sense.
    fn take(&mut self, out: Vec<Output>) {
        self.vpp.now += 1;
        let view = self.view();
        self.counters_are_in_bounds(&view);
        for output in out {
            match output {
                Output::Event(event) => {
                    if let Kind::Backend { name, address, transition } = event.kind {
                        self.flushes.moved(&name, address, &transition, self.vpp.now, &self.config);
                    }
                }
                Output::SetChecks(set) => self.install(set),
                Output::SetInterval(check, _) => {
                    assert!(self.prober.connected, "a pace for nobody");
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
            assert_eq!(kept.len() + dropped.len(), known, "a check leaves that was not there");
            checks.extend(kept);
        }
        let ids: BTreeSet<_> = checks.iter().map(|(id, ..)| *id).collect();
        assert_eq!(ids.len(), checks.len(), "two checks of one number");
        self.prober.set = CheckSet { checks, ..set };
    }

    fn ask(&mut self, asked: Output, view: &View) {
        assert!(self.vpp.linked, "nobody to ask: {asked:?}");
        assert!(view.vpp.actual.is_some() || asked == Output::ReadAll, "not read yet: {asked:?}");
        let mut keeps = false;
        match &asked {
            Output::Apply(run) => {
                assert!(!self.read_only, "nothing is to be done: {run:?}");
                assert!(!run.steps.is_empty() && !self.vpp.works_on(&run.vip), "{run:?}");
                self.flushes.planned(run, &self.config, view, &self.vpp);
                keeps = oracle::keeps_weight(run, &self.config, view, &self.vpp);
            }
            Output::ReadServers(vip) | Output::ReadVip(vip) => assert!(!self.vpp.works_on(vip), "{asked:?}"),
            Output::SetConf(_) => assert!(!self.read_only, "nothing is to be done"),
            _ => {}
        }
        self.vpp.work.push(Work::Asked(asked, keeps));
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

    pub fn prober_up(&mut self, remembers: bool) {
        if self.prober.connected {
            return;
        }
        self.prober.connected = true;
        if !remembers {
            self.prober.verdicts.clear();
            self.prober.seq = 0;
        }
        self.tell(Input::ProberUp);
        if remembers {
            let streaks =
                self.prober.set.checks.iter().filter_map(|(id, _, check)| self.prober.streak(*id, check));
            let streaks = streaks.collect();
            self.tell(Input::Histories(streaks));
        }
        self.tell(Input::Committed(self.prober.set.generation));
    }

    /// The prober is lost, and VPP sees nothing of it.
    fn prober_down(&mut self) {
        if !std::mem::take(&mut self.prober.connected) {
            return;
        }
        let health = |view: &View| view.backends.iter().map(|b| (b.health, b.counter)).collect::<Vec<_>>();
        let (before, asked) = (health(&self.view()), self.vpp.work.len());
        self.tell(Input::ProberDown);
        assert_eq!((before, asked), (health(&self.view()), self.vpp.work.len()));
    }

    pub fn probed(&mut self, backend: &str, code: OutcomeCode) {
        let Some((check, probe)) = self.check_of(backend).filter(|_| self.prober.connected) else { return };
        self.prober.seq += 1;
        if let Some(passed) = code.passed() {
            self.prober.remember(&probe, passed);
        }
        let before = self.backend(backend);
        self.tell(Input::Outcomes(vec![outcome(check, self.prober.seq, code)]));
        if code == OutcomeCode::Local {
            let after = self.backend(backend);
            assert_eq!((before.health, before.counter), (after.health, after.counter), "no verdict");
        }
    }

    fn stale_outcome(&mut self, backend: &str) {
        let Some((check, _)) = self.check_of(backend) else { return };
        self.ignores(Input::Outcomes(vec![outcome(check, 0, OutcomeCode::L4Con)]));
    }

    fn check_of(&self, backend: &str) -> Option<(CheckId, Check)> {
        let address = self.config.backends.get(backend)?.address;
        let (id, _, check) = self.prober.set.checks.iter().find(|(_, _, check)| check.target == address)?;
        Some((*id, check.clone()))
    }

    fn backend(&self, name: &str) -> BackendView {
        self.view().backends.into_iter().find(|b| &*b.name == name).unwrap()
    }

    /// Whether it has weight in VPP, and a single failure does not decide.
    pub fn tolerates_a_loss(&self, backend: &str) -> bool {
        let Some(address) = self.config.backends.get(backend).map(|b| b.address) else { return false };
        let serves = |vip: &Vip| vip.servers.get(&address).is_some_and(|s| s.weight > 0);
        self.vpp.vips.values().any(serves) && self.backend(backend).fall > 1
    }

    fn wait(&mut self, time: Duration) {
        self.pass(time, |_| ());
    }

    /// Lets time pass; VPP answers all the while.
    fn wait_drained(&mut self, time: Duration) {
        self.drain();
        self.pass(time, Self::drain);
    }

    fn pass(&mut self, time: Duration, between: impl Fn(&mut Self)) {
        let end = self.now + time;
        let mut ticks = 0;
        while let Some(at) = self.state.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.tell(Input::Tick);
            between(self);
            assert!(self.state.wake_at() > Some(self.now), "it does not sleep");
            ticks += 1;
        }
        self.now = end;
        assert!(ticks <= 50 + 5 * time.as_secs(), "{ticks} ticks in {time:?}");
    }

    fn reload(&mut self, mutation: &Mutation) {
        self.shape.mutate(mutation);
        let new = self.shape.config();
        let (old, before, set) = (Arc::clone(&self.config), self.view(), self.prober.set.clone());
        let settled = oracle::settled(self, &before);
        self.config = Arc::clone(&new);
        self.strangers.retain(|vip| oracle::frontend_of(&new, vip).is_none());
        let asked = self.vpp.work.len();
        self.tell(Input::Reload(Arc::clone(&new)));
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
            let Work::Asked(Output::Apply(run), _) = work else { continue };
            let untouched = oracle::untouched(&run.vip, &old, &new, (&before, &after));
            assert!(!(untouched && settled.contains(&run.vip)), "nothing was new for {run:?}");
        }
    }

    /// `maglevd` starts again, and finds what operators wanted.
    pub fn restart(&mut self) {
        self.prober.connected = false;
        self.prober.set.generation = 0;
        if self.vpp.linked {
            self.vpp.cut();
        }
        self.flushes = Flushes::default();
        self.vpp.is_new_to_us();
        self.strangers = self
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
            |output: &Output| matches!(output, Output::Event(event) if !may_come_first(&event.kind));
        assert!(!out.iter().any(is_news), "what is restored is no news: {out:?}");
        self.take(out);
    }

    fn operate(&mut self, command: &OperatorCommand, by: &Requester) -> bool {
        let mut out = Vec::new();
        let now = self.now();
        let done = self.state.operate(command, by, now, &mut out).is_ok();
        assert!(done || out.is_empty(), "refused, and done: {out:?}");
        self.take(out);
        done
    }

    fn by(&self, seconds: Option<u64>) -> (Requester, Option<WallTime>) {
        let lifetime = seconds.map(Duration::from_secs);
        let expires = lifetime.map(|lifetime| self.now().wall + lifetime);
        (Requester { lifetime, ..Requester::default() }, expires)
    }

    fn override_backend(&mut self, name: Name, action: BackendAction, seconds: Option<u64>) {
        let (by, expires) = self.by(seconds);
        if self.operate(&OperatorCommand::Backend { name: Arc::clone(&name), action }, &by) {
            self.wishes.operated(name, action, expires, &self.config);
        }
    }

    fn override_weight(&mut self, path: (Name, Name, Name), weight: Option<u8>, seconds: Option<u64>) {
        let (by, expires) = self.by(seconds);
        let (frontend, pool, backend) = path.clone();
        if self.operate(&OperatorCommand::Weight { frontend, pool, backend, weight }, &by) {
            self.wishes.weighed(path, weight, expires);
        }
    }

    pub fn vpp_up(&mut self) {
        if !self.vpp.linked {
            self.vpp.linked = true;
            self.flushes.linked(self.vpp.pid);
            self.tell(Input::VppUp(self.vpp.info()));
        }
    }

    fn vpp_down(&mut self) {
        if self.vpp.linked {
            self.vpp.cut();
            self.tell(Input::VppDown);
        }
    }

    fn work(&mut self, index: usize) {
        let Some(index) = index.checked_rem(self.vpp.work.len()) else { return };
        match self.vpp.work.remove(index) {
            Work::Asked(asked, keeps) => {
                if let Output::Apply(run) = &asked {
                    self.flushes.sent(run);
                }
                let answer = self.vpp.answer(asked, keeps);
                self.vpp.work.push(Work::Done(answer));
            }
            Work::Done(answer) => {
                if let Input::StepsApplied { vip, done, .. } = &answer {
                    self.flushes.made(*vip, *done, &mut self.vpp);
                }
                self.tell(answer);
            }
        }
    }

    pub fn drain(&mut self) {
        while !self.vpp.work.is_empty() {
            self.work(0);
        }
    }

    /// All faults end; the backends whose bit is set answer their probes.
    pub fn settle(&mut self, healthy: u8) {
        self.vpp.refuse_after = None;
        self.vpp_up();
        self.prober_up(false);
        self.drain();
        self.probe_all(healthy);
        // A pause may be over meanwhile, and what is probed again then is unknown until that is told.
        self.wait_drained(Duration::from_secs(20));
        self.probe_all(healthy);
        self.wait_drained(SYNC_INTERVAL * 3);
        self.wishes.hold(&self.state.view(self.now()), &self.config);
        oracle::converged(self);
        self.flushes.complete(&self.config, &self.view(), &self.vpp);
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

/// A backend that nobody probes is up from the start, and overrides may have expired meanwhile.
const fn may_come_first(kind: &Kind) -> bool {
    match kind {
        Kind::Backend { transition, .. } => matches!(transition.to, Health::Up),
        Kind::Frontend { .. } | Kind::Operator(_) => true,
        _ => false,
    }
}

/// How many of `what` are in `state`, as a summary has it.
fn summed_up(summary: &str, what: &str, state: &str) -> usize {
    let part = summary.split("; ").find(|part| part.contains(what)).unwrap();
    let counts = part.split(": ").nth(1).unwrap_or_default().split(", ");
    let count = counts.filter_map(|count| count.strip_suffix(state)).next();
    count.map_or(0, |count| count.trim_end().parse().unwrap())
}
