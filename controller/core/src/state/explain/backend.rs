//! Explanation of a backend's state and weights.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use maglev_ipc::ProbeTimeout;
use maglev_time::TextDuration;

use super::super::backends::BackendEntry;
use super::super::frontends::FrontendSlot;
use super::context::FrontendContext;
use super::format::{self, count, in_brackets, list};
use super::{Explanation, Topic};
use crate::config::Healthcheck;
use crate::health::{Health, OutcomeRun, Tracker};

/// A backend in one of its frontends, with its effective weight there.
type MemberContext<'a> = (FrontendContext<'a>, &'a FrontendSlot, u8);

impl<'a> Explanation<'a> {
    /// Adds all lines about a backend.
    pub fn backend(&mut self, index: usize) {
        let backend = self.backend_of(index);
        let members: Vec<MemberContext> =
            backend.frontends.iter().filter_map(|f| self.member_context(*f, index)).collect();
        self.add(Topic::State, self.backend_conclusion(backend, &members));
        self.add(Topic::State, self.arrival(&backend.tracker));
        self.operator(backend);
        self.probing(index);
        self.weights(&members);
    }

    /// Adds the lines about its probes, their outcomes, and the counter.
    fn probing(&mut self, index: usize) {
        let backend = self.backend_of(index);
        let tracker = &backend.tracker;
        match &backend.healthcheck {
            Some((name, healthcheck)) if tracker.is_probed() => {
                match self.missing_outcomes(backend) {
                    Some(reason) => self.add(Topic::Prober, reason),
                    None => self.add(Topic::Probes, schedule(tracker, name, healthcheck)),
                }
                if tracker.is_unobserved() {
                    let only = "only local faults of the prober's host arrive";
                    let hidden = if tracker.is_hidden() { ", while other backends answer" } else { "" };
                    self.add(Topic::Prober, format!("{only}{hidden}: its state is stale"));
                } else if tracker.is_stale() && self.state.prober.connected && !self.is_rejected(backend) {
                    let stale = "the prober was lost or rejected its check, and no verdict has arrived since";
                    self.add(Topic::Prober, stale);
                }
                self.add_if(Topic::Probes, self.outcomes(tracker));
                self.add(Topic::Counter, self.counter(index));
                self.add_if(Topic::Counter, self.deferral(tracker));
            }
            Some(_) => self.add_if(Topic::Probes, self.outcomes(tracker)),
            None if tracker.is_probed() => self.add(Topic::Probes, "no healthcheck: it always passes"),
            None => {}
        }
    }

    /// Adds the lines about its weight in each of its frontends, and in VPP.
    fn weights(&mut self, members: &[MemberContext]) {
        for (context, ..) in members {
            self.add_if(Topic::Startup, context.hold());
        }
        for (context, slot, effective) in members {
            let (frontend, pool, reason) =
                (&context.frontend.name, context.pool_name(slot.pool), context.reason(slot));
            self.add(Topic::Weight, format!("{effective} in {frontend}, pool {pool}: {reason}"));
        }
        self.vpp_overview();
        if !self.state.observed.is_fresh() {
            return;
        }
        for (context, slot, effective) in members {
            let frontend = &context.frontend.name;
            self.add_if(Topic::Warning, context.address_conflict().map(|word| format!("{frontend}: {word}")));
            self.add(Topic::Vpp, format!("{frontend}: {}", context.in_vpp(slot, *effective)));
        }
    }

    fn member_context(&self, frontend: usize, backend: usize) -> Option<MemberContext<'a>> {
        let context = self.context(&self.state.frontends[frontend]);
        let (slot, effective) = context.slots().find(|(slot, _)| slot.backend == backend)?;
        Some((context, slot, effective))
    }

    fn backend_conclusion(&self, backend: &BackendEntry, members: &[MemberContext]) -> String {
        let word = format!("{} is {}", backend.name, backend.tracker.health());
        if members.is_empty() {
            return format!("{word}; no frontend uses it");
        }
        let weights =
            members.iter().map(|(context, _, weight)| format!("{weight} in {}", context.frontend.name));
        let vpp = &self.state.vpp;
        let differs = |(context, slot, weight): &&MemberContext| !context.agrees(slot, *weight);
        let rest = match (vpp.is_enabled(), vpp.info()) {
            (false, _) => String::new(),
            (true, None) => "; VPP is not connected".into(),
            (true, Some(_)) if !self.state.observed.is_fresh() => "; VPP is being read".into(),
            (true, Some(_)) => {
                let name = |(context, ..): &MemberContext| {
                    let held = if context.frontend.hold.is_some() { " (held)" } else { "" };
                    format!("{}{held}", context.frontend.name)
                };
                let names = list(members.iter().filter(differs).map(name));
                if names.is_empty() { names } else { format!("; VPP differs in {names}") }
            }
        };
        format!("{word}, weight {}{rest}", list(weights))
    }

    /// Returns the time and cause of its last transition.
    fn arrival(&self, tracker: &Tracker) -> String {
        let age = self.age(tracker.since());
        match tracker.last_transition() {
            Some(t) => format!("{} -> {} {age} ago: {}", t.from, t.to, t.cause),
            None => format!("{} for {age}, from the start", tracker.health()),
        }
    }

    /// Returns the reason for which its DOWN transition is deferred.
    fn deferral(&self, tracker: &Tracker) -> Option<String> {
        let until = self.state.mass_failure.pending_until().filter(|_| tracker.is_down_deferred())?;
        let left = format::until(until - self.now.mono);
        Some(format!(
            "its DOWN is deferred for {left}: nearly all backends failed at once, so this host may be cut off"
        ))
    }

    /// Returns the reason for which no outcomes arrive.
    fn missing_outcomes(&self, backend: &BackendEntry) -> Option<String> {
        let prober = &self.state.prober;
        let since = self.age(prober.since);
        if !prober.connected {
            let fault = in_brackets(prober.fault.as_deref());
            return Some(format!(
                "not connected for {since}{fault}: no outcomes arrive, and its state stays"
            ));
        }
        if let Some(reason) = prober.rejected.get(&backend.check) {
            return Some(format!("the prober rejects its check, and its state stays: {reason}"));
        }
        let idle = prober.probing_since.is_none();
        idle.then(|| format!("connected for {since}, but its checks are not in force yet"))
    }

    fn is_rejected(&self, backend: &BackendEntry) -> bool {
        self.state.prober.rejected.contains_key(&backend.check)
    }

    /// Returns its newest outcomes.
    fn outcomes(&self, tracker: &Tracker) -> Option<String> {
        let last = tracker.last()?;
        let cause = crate::health::TransitionCause::Outcome { code: last.code, detail: last.detail.clone() };
        let took = Duration::from_micros(u64::try_from(last.duration.as_micros()).unwrap_or(u64::MAX));
        let newest = format!("last {} ago: {cause} in {took:?}", self.age(last.at));
        let local = if last.code.passed().is_none() {
            " (no verdict: the fault is the prober's own host)"
        } else {
            ""
        };
        let runs: Vec<_> = tracker.outcome_runs().collect();
        let Some(oldest) = runs.last().filter(|s| runs.len() > 1 || s.count > 1) else {
            return Some(format!("{newest}{local}"));
        };
        let age = self.age(oldest.since);
        let runs = runs.iter().map(run).collect::<Vec<_>>().join(", ");
        Some(format!("{newest}{local}; over {age}, newest first: {runs}"))
    }

    /// Returns the counter, and the number of verdicts until the next transition.
    fn counter(&self, index: usize) -> String {
        let tracker = &self.backend_of(index).tracker;
        let (counter, limits) = (tracker.counter(), tracker.thresholds());
        let of =
            format!("{counter} of {} (rise {}, fall {})", limits.max_counter(), limits.rise, limits.fall);
        let failures = |n: u32| count(n, "failure", "failures in a row");
        match tracker.health() {
            Health::Up => {
                let fails = counter.saturating_sub(limits.rise) + 1;
                let verb = if fails == 1 { "takes" } else { "take" };
                format!("{of}: {} {verb} it down", failures(fails))
            }
            Health::Down => {
                let passes = count(limits.rise.saturating_sub(counter), "pass", "passes in a row");
                let verb = if limits.rise.saturating_sub(counter) == 1 { "brings" } else { "bring" };
                format!("{of}: {passes} {verb} it up")
            }
            Health::Unknown if self.state.is_in_service(index) => {
                let left = limits.fall.saturating_sub(tracker.failures_while_unknown()).max(1);
                let verb = if left == 1 { "takes" } else { "take" };
                format!(
                    "nothing known: a pass brings it up; {} {verb} it down, as VPP may serve it",
                    failures(left)
                )
            }
            _ => "nothing known: the next verdict decides".to_string(),
        }
    }
}

/// Returns the probe interval and its reason.
fn schedule(tracker: &Tracker, name: &str, healthcheck: &Healthcheck) -> String {
    let reason = match tracker.health() {
        Health::Unknown => "fast-interval: it is unknown",
        Health::Down if tracker.is_degraded() && healthcheck.rise_interval() > healthcheck.fast_interval => {
            "interval: it is on its way up, and echo replies may be limited"
        }
        _ if tracker.is_degraded() => "fast-interval: it is between up and down",
        Health::Down => "down-interval: it is fully down",
        _ => "interval: it is fully up",
    };
    let (kind, every) = (healthcheck.kind(), TextDuration(tracker.probe_interval(healthcheck)));
    let timeout = derived_timeout(tracker, healthcheck);
    format!("{kind} by healthcheck {name}, every {every} ({reason}){timeout}")
}

/// Returns the present value of a derived timeout.
fn derived_timeout(tracker: &Tracker, healthcheck: &Healthcheck) -> String {
    let ProbeTimeout::Auto { min, max } = healthcheck.timeout else { return String::new() };
    let now = tracker.last().and_then(|last| last.timeout).unwrap_or(max);
    format!("; timeout auto: now {} ({} to {})", TextDuration(now), TextDuration(min), TextDuration(max))
}

fn run(run: &OutcomeRun) -> String {
    let status = run.status.map_or_else(String::new, |status| format!(" HTTP {status}"));
    format!("{} {}{status}", run.count, run.code)
}
