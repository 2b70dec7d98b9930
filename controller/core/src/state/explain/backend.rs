//! Why a backend has the state and the weights that it has.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use maglev_ipc::ProbeTimeout;

use super::super::backends::Backend;
use super::super::frontends::Slot;
use super::standing::Standing;
use super::words::{self, count, in_brackets, list};
use super::{Explanation, Topic};
use crate::config::{Healthcheck, Span};
use crate::health::{Health, OutcomeRun, Tracker};

/// A backend in one of its frontends, and the weight that follows for it there.
type Share<'a> = (Standing<'a>, &'a Slot, u8);

impl<'a> Explanation<'a> {
    pub fn backend(&mut self, index: usize) {
        let backend = self.backend_of(index);
        let shares: Vec<Share> = backend.frontends.iter().filter_map(|f| self.share(*f, index)).collect();
        self.say(Topic::State, self.backend_conclusion(backend, &shares));
        self.say(Topic::State, self.arrival(&backend.tracker));
        self.operator(backend);
        self.heard(index);
        self.weights(&shares);
    }

    /// What is heard of it, and where that has brought it.
    fn heard(&mut self, index: usize) {
        let backend = self.backend_of(index);
        let tracker = &backend.tracker;
        match &backend.healthcheck {
            Some((name, healthcheck)) if tracker.probed() => {
                match self.silence(backend) {
                    Some(why) => self.say(Topic::Prober, why),
                    None => self.say(Topic::Probes, pace(tracker, name, healthcheck)),
                }
                if tracker.unseen() {
                    self.say(Topic::Prober, "nothing but faults of its host is heard: its state is stale");
                } else if tracker.stale() && self.state.prober.connected && !self.is_refused(backend) {
                    let stale =
                        "the prober was lost or would not probe it, and has had no verdict on it since";
                    self.say(Topic::Prober, stale);
                }
                self.say_if(Topic::Probes, self.outcomes(tracker));
                self.say(Topic::Counter, self.counter(index));
                self.say_if(Topic::Counter, self.doubt(tracker));
            }
            Some(_) => self.say_if(Topic::Probes, self.outcomes(tracker)),
            None if tracker.probed() => self.say(Topic::Probes, "no healthcheck: it passes by itself"),
            None => {}
        }
    }

    /// What follows for it in each of its frontends, and what VPP has of that.
    fn weights(&mut self, shares: &[Share]) {
        for (standing, ..) in shares {
            self.say_if(Topic::Startup, standing.hold());
        }
        for (standing, slot, effective) in shares {
            let (frontend, pool, why) =
                (&standing.frontend.name, standing.pool_name(slot.pool), standing.why(slot));
            self.say(Topic::Weight, format!("{effective} in {frontend}, pool {pool}: {why}"));
        }
        self.vpp_at_large();
        if !self.state.sync.current {
            return;
        }
        for (standing, slot, effective) in shares {
            let frontend = &standing.frontend.name;
            self.say_if(Topic::Warning, standing.shadowed().map(|word| format!("{frontend}: {word}")));
            self.say(Topic::Vpp, format!("{frontend}: {}", standing.in_vpp(slot, *effective)));
        }
    }

    fn share(&self, frontend: usize, backend: usize) -> Option<Share<'a>> {
        let standing = self.standing(&self.state.frontends[frontend]);
        let (slot, effective) = standing.slots().find(|(slot, _)| slot.backend == backend)?;
        Some((standing, slot, effective))
    }

    fn backend_conclusion(&self, backend: &Backend, shares: &[Share]) -> String {
        let word = format!("{} is {}", backend.name, backend.tracker.health());
        if shares.is_empty() {
            return format!("{word}; no frontend uses it");
        }
        let weights =
            shares.iter().map(|(standing, _, weight)| format!("{weight} in {}", standing.frontend.name));
        let sync = &self.state.sync;
        let differs = |(standing, slot, weight): &&Share| !standing.agrees(slot, *weight);
        let rest = match (sync.enabled, &sync.info) {
            (false, _) => String::new(),
            (true, None) => "; VPP is not connected".into(),
            (true, Some(_)) if !sync.current => "; VPP is being read".into(),
            (true, Some(_)) => {
                let name = |(standing, ..): &Share| {
                    let held = if standing.frontend.hold.is_some() { " (held)" } else { "" };
                    format!("{}{held}", standing.frontend.name)
                };
                let names = list(shares.iter().filter(differs).map(name));
                if names.is_empty() { names } else { format!("; VPP differs in {names}") }
            }
        };
        format!("{word}, weight {}{rest}", list(weights))
    }

    /// Since when it is what it is, and by what.
    fn arrival(&self, tracker: &Tracker) -> String {
        let age = self.age(tracker.since());
        match tracker.arrived() {
            Some(t) => format!("{} -> {} {age} ago: {}", t.from, t.to, t.cause),
            None => format!("{} for {age}, from the start", tracker.health()),
        }
    }

    /// Why its fall waits, if it does.
    fn doubt(&self, tracker: &Tracker) -> Option<String> {
        let until = self.state.blind.until().filter(|_| tracker.doubted())?;
        let left = words::until(until - self.now.mono);
        Some(format!(
            "its fall waits for {left}: all that was up fails at once, so it may be this host that is cut off"
        ))
    }

    /// Why nothing is heard of it, if that is so.
    fn silence(&self, backend: &Backend) -> Option<String> {
        let prober = &self.state.prober;
        let since = self.age(prober.since);
        if !prober.connected {
            let why = in_brackets(prober.fault.as_deref());
            return Some(format!(
                "not connected for {since}{why}: nothing is heard of it, and its state stays"
            ));
        }
        if let Some(why) = prober.refused.get(&backend.check) {
            return Some(format!("the prober will not probe it, and its state stays: {why}"));
        }
        let idle = prober.probing_since.is_none();
        idle.then(|| format!("connected for {since}, but its checks are not in force yet"))
    }

    fn is_refused(&self, backend: &Backend) -> bool {
        self.state.prober.refused.contains_key(&backend.check)
    }

    /// What has come of the last probes.
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
        let spells: Vec<_> = tracker.spells().collect();
        let Some(oldest) = spells.last().filter(|s| spells.len() > 1 || s.count > 1) else {
            return Some(format!("{newest}{local}"));
        };
        let age = self.age(oldest.since);
        let spells = spells.iter().map(spell).collect::<Vec<_>>().join(", ");
        Some(format!("{newest}{local}; over {age}, newest first: {spells}"))
    }

    /// Where the counter stands, and what moves the state.
    fn counter(&self, index: usize) -> String {
        let tracker = &self.backend_of(index).tracker;
        let (counter, limits) = (tracker.counter(), tracker.limits());
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
            Health::Unknown if self.state.in_service(index) => {
                let left = limits.fall.saturating_sub(tracker.misses()).max(1);
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

/// How often it is probed, and why so often.
fn pace(tracker: &Tracker, name: &str, healthcheck: &Healthcheck) -> String {
    let why = match tracker.health() {
        Health::Unknown => "fast-interval: it is unknown",
        _ if tracker.degraded() => "fast-interval: it is between up and down",
        Health::Down => "down-interval: it is fully down",
        _ => "interval: it is fully up",
    };
    let (kind, every) = (healthcheck.kind(), Span(tracker.pace(healthcheck)));
    let timeout = derived_timeout(tracker, healthcheck);
    format!("{kind} by healthcheck {name}, every {every} ({why}){timeout}")
}

/// Where the time-out is between its bounds, if it is derived.
fn derived_timeout(tracker: &Tracker, healthcheck: &Healthcheck) -> String {
    let ProbeTimeout::Auto { min, max } = healthcheck.timeout else { return String::new() };
    let now = tracker.last().and_then(|last| last.timeout).unwrap_or(max);
    format!("; timeout auto: now {} ({} to {})", Span(now), Span(min), Span(max))
}

fn spell(spell: &OutcomeRun) -> String {
    let status = spell.status.map_or_else(String::new, |status| format!(" HTTP {status}"));
    format!("{} {}{status}", spell.count, spell.code)
}
