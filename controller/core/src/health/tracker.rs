//! The health of one backend: what is counted of its outcomes, and what moves it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use maglev_ipc::{Outcome, OutcomeCode, OutcomeDetail, VerdictHistory};

use super::recent::{OutcomeRun, Recent};
use super::{ActionRejected, BackendAction, Health, LastOutcome, Thresholds, Transition, TransitionCause};
use crate::config::Healthcheck;
use crate::time::WallTime;

/// The health of one backend, however many frontends use it.
#[derive(Clone, Debug)]
pub struct Tracker {
    limits: Thresholds,
    keep: usize,
    health: Health,
    since: WallTime,
    counter: u32,
    misses: u32,
    seq: u64,
    stale: bool,
    failing: Option<u64>,
    /// When the first of the probes began that have come to nothing but faults of this host since the last verdict.
    faults: Option<u64>,
    unseen: bool,
    doubted: bool,
    last: Option<LastOutcome>,
    not_after: Option<u64>,
    recent: Recent,
    history: VecDeque<Transition>,
}

impl Tracker {
    /// A backend of which nothing is known. `keep` is how many transitions it remembers.
    #[must_use]
    pub fn new(limits: Thresholds, keep: usize, health: Health, since: WallTime) -> Self {
        Self {
            limits,
            keep,
            health,
            since,
            counter: 0,
            misses: 0,
            seq: 0,
            stale: false,
            failing: None,
            faults: None,
            unseen: false,
            doubted: false,
            last: None,
            not_after: None,
            recent: Recent::default(),
            history: VecDeque::new(),
        }
    }

    /// What the backend is.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Since when it is that.
    #[must_use]
    pub const fn since(&self) -> WallTime {
        self.since
    }

    /// The rise/fall counter, `0 ..= rise + fall - 1`; 0 while nothing is known.
    #[must_use]
    pub const fn counter(&self) -> u32 {
        self.counter
    }

    /// What decides.
    #[must_use]
    pub const fn limits(&self) -> Thresholds {
        self.limits
    }

    /// Whether there is no verdict since the prober was lost or refused its check, or has been none but faults of this host
    /// for too long.
    #[must_use]
    pub const fn stale(&self) -> bool {
        self.stale || self.unseen
    }

    /// Whether nothing but faults of this host is heard of it any more; then it is [`stale`](Self::stale).
    #[must_use]
    pub const fn unseen(&self) -> bool {
        self.unseen
    }

    /// Whether nothing but faults of this host has been heard of it since the last verdict.
    #[must_use]
    pub const fn unheard(&self) -> bool {
        self.faults.is_some()
    }

    /// When the first of the failures began that nothing has passed since, in nanoseconds of `CLOCK_MONOTONIC`. A backend
    /// that is down since is still failing.
    #[must_use]
    pub const fn failing(&self) -> Option<u64> {
        self.failing
    }

    /// Whether its fall waits, or has waited, for another round of probes; see [`Self::doubt`].
    #[must_use]
    pub const fn doubted(&self) -> bool {
        self.doubted
    }

    /// Whether [`Self::outcome`] would take it from up to down.
    #[must_use]
    pub fn would_fall(&self, outcome: &Outcome) -> bool {
        self.health == Health::Up
            && outcome.seq > self.seq
            && outcome.code.passed() == Some(false)
            && self.counter <= self.limits.rise
    }

    /// The newest outcome.
    #[must_use]
    pub const fn last(&self) -> Option<&LastOutcome> {
        self.last.as_ref()
    }

    /// Until when the certificate is valid that the server showed last, in seconds since the Unix epoch.
    #[must_use]
    pub const fn not_after(&self) -> Option<u64> {
        self.not_after
    }

    /// What has come of the last probes, the newest first. Static passes are not among them.
    pub fn spells(&self) -> impl Iterator<Item = OutcomeRun> {
        self.recent.spells()
    }

    /// How many failures have been counted while nothing was known.
    #[must_use]
    pub const fn misses(&self) -> u32 {
        self.misses
    }

    /// The move that brought it where it is; `None` if it began so, or if that is not remembered.
    #[must_use]
    pub fn arrived(&self) -> Option<&Transition> {
        self.history.front().filter(|newest| newest.to == self.health)
    }

    /// The newest transitions, the newest first.
    #[must_use]
    pub fn history(&self) -> Vec<Transition> {
        self.history.iter().cloned().collect()
    }

    /// Whether it is to be probed.
    #[must_use]
    pub const fn probed(&self) -> bool {
        matches!(self.health, Health::Unknown | Health::Up | Health::Down)
    }

    /// Up but having missed, or down but having passed.
    #[must_use]
    pub const fn degraded(&self) -> bool {
        match self.health {
            Health::Up => self.doubted || self.counter < self.limits.max_counter(),
            Health::Down => self.counter > 0,
            Health::Unknown | Health::Paused | Health::Disabled | Health::Removed => false,
        }
    }

    /// The time between two probes that its state asks for.
    #[must_use]
    pub const fn pace(&self, healthcheck: &Healthcheck) -> Duration {
        match self.health {
            Health::Unknown => healthcheck.fast_interval,
            _ if self.degraded() => healthcheck.fast_interval,
            Health::Down => healthcheck.down_interval,
            Health::Up | Health::Paused | Health::Disabled | Health::Removed => healthcheck.interval,
        }
    }

    /// Counts an outcome. `in_service` says that VPP gives the backend weight: then, while nothing else is known, it
    /// takes `fall` failures to call it down, so that a restart of ours does not take it out for one lost packet.
    ///
    /// An outcome that is older than one already counted, or that is no verdict, moves nothing.
    pub fn outcome(&mut self, outcome: &Outcome, in_service: bool, at: WallTime) -> Option<Transition> {
        if !self.probed() || outcome.seq <= self.seq {
            return None;
        }
        self.seq = outcome.seq;
        self.remember(outcome, at);
        let Some(passed) = outcome.code.passed() else {
            self.faults.get_or_insert(outcome.started);
            return None;
        };
        self.heard();
        self.follow(outcome, passed);
        let next = self.judge(passed, in_service);
        self.go(next, at, || outcome.into())
    }

    /// Counts a pass of a backend that is up and has missed nothing, of which nothing follows. Whether it was that; if not,
    /// nothing is done, and [`Self::outcome`] is to be asked.
    pub fn goes_on(&mut self, outcome: &Outcome, at: WallTime) -> bool {
        let fine =
            self.health == Health::Up && self.failing.is_none() && self.counter == self.limits.max_counter();
        let pass = outcome.code.passed() == Some(true) && outcome.seq > self.seq;
        if !fine || !pass || self.doubted || self.stale || self.faults.is_some() {
            return false;
        }
        self.seq = outcome.seq;
        self.remember(outcome, at);
        true
    }

    /// Hears an outcome by which it would fall, and leaves it where it is, at its last failure but one. Whoever doubts the
    /// outcome lets it [`fall`](Self::fall) later, or leaves it to the outcomes to come.
    pub fn doubt(&mut self, outcome: &Outcome, at: WallTime) {
        self.seq = outcome.seq;
        self.remember(outcome, at);
        self.heard();
        self.follow(outcome, false);
        self.doubted = true;
    }

    /// After a fault of this host has been counted: what is known is [`unseen`](Self::unseen) from now on, if nothing else
    /// has been heard for so long.
    pub fn lose_sight_after(&mut self, bound: Duration, outcome: &Outcome) {
        let since = self.faults.unwrap_or(outcome.started);
        self.unseen |= Duration::from_nanos(outcome.started.saturating_sub(since)) >= bound;
    }

    /// What was doubted has come true.
    pub fn fall(&mut self, cause: TransitionCause, at: WallTime) -> Option<Transition> {
        if self.health != Health::Up || !self.doubted {
            return None;
        }
        self.counter = 0;
        self.go(Health::Down, at, || cause)
    }

    /// Counts a pass that nobody probed: the backend is static.
    pub fn static_pass(&mut self, at: WallTime) -> Option<Transition> {
        if !self.probed() {
            return None;
        }
        let (code, detail) = (OutcomeCode::Static, OutcomeDetail::None);
        self.last =
            Some(LastOutcome { at, duration: Duration::ZERO, code, detail: detail.clone(), timeout: None });
        let next = self.judge(true, false);
        self.go(next, at, || TransitionCause::Outcome { code, detail })
    }

    /// Takes over what a prober that kept running remembers. If nothing is known here, its verdicts are counted anew,
    /// as [`Self::outcome`] would have; else the outcomes to come will tell.
    pub fn adopt(&mut self, streak: &VerdictHistory, in_service: bool, at: WallTime) -> Option<Transition> {
        if !self.probed() {
            return None;
        }
        self.seq = streak.last.seq;
        if self.health != Health::Unknown || streak.len == 0 {
            return None;
        }
        self.heard();
        self.remember(&streak.last, at);
        self.follow(&streak.last, streak.bits & 1 == 1);
        for bit in (0..u32::from(streak.len.min(64))).rev() {
            self.health = self.judge(streak.bits >> bit & 1 == 1, in_service);
        }
        let next = mem::replace(&mut self.health, Health::Unknown);
        self.go(next, at, || (&streak.last).into())
    }

    /// Does what an operator asks for. Repeating what already holds succeeds and moves nothing.
    ///
    /// # Errors
    /// A disabled backend can neither be paused nor resumed.
    pub fn operate(
        &mut self,
        action: BackendAction,
        at: WallTime,
    ) -> Result<Option<Transition>, ActionRejected> {
        let next = match (action, self.health) {
            (BackendAction::Pause | BackendAction::Resume, Health::Disabled) => {
                return Err(ActionRejected(alloc::format!(
                    "it is disabled, so it cannot {}; enable it first",
                    action.as_str()
                )));
            }
            (_, Health::Removed) => return Err(ActionRejected("it is removed".into())),
            (BackendAction::Pause, _) => Health::Paused,
            (BackendAction::Disable, _) => Health::Disabled,
            (BackendAction::Resume, Health::Paused) | (BackendAction::Enable, Health::Disabled) => {
                Health::Unknown
            }
            (BackendAction::Resume | BackendAction::Enable, other) => other,
        };
        Ok(self.go(next, at, || TransitionCause::Operator(action)))
    }

    /// The configuration sends it to `next`.
    pub fn configure(&mut self, next: Health, at: WallTime) -> Option<Transition> {
        self.go(next, at, || TransitionCause::Config)
    }

    /// Begins again from unknown, with other limits, unless an operator has taken it out.
    pub fn restart(&mut self, limits: Thresholds, at: WallTime) -> Option<Transition> {
        self.limits = limits;
        self.seq = 0;
        self.counter = 0;
        self.misses = 0;
        self.failing = None;
        self.begin_to_see();
        self.doubted = false;
        self.last = None;
        self.not_after = None;
        self.recent = Recent::default();
        if self.probed() { self.configure(Health::Unknown, at) } else { None }
    }

    /// How many transitions it remembers from now on.
    pub fn keep(&mut self, keep: usize) {
        self.keep = keep;
        self.history.truncate(keep);
    }

    /// Another prober counts from now on; its outcomes are numbered from the start.
    pub const fn renumber(&mut self) {
        self.seq = 0;
    }

    /// Nothing will be heard for a while; what is known stays.
    pub const fn lose_sight(&mut self) {
        self.stale = self.probed();
        self.begin_to_see();
    }

    /// What could not be seen so far does not matter any more.
    const fn begin_to_see(&mut self) {
        self.faults = None;
        self.unseen = false;
    }

    /// There is a verdict again.
    const fn heard(&mut self) {
        self.stale = false;
        self.begin_to_see();
    }

    /// The state after one more verdict; moves the counter.
    fn judge(&mut self, passed: bool, in_service: bool) -> Health {
        let Thresholds { rise, fall } = self.limits;
        let next = match (self.health, passed) {
            (Health::Unknown, true) => Health::Up,
            (Health::Unknown, false) => {
                self.misses += 1;
                let needed = if in_service { fall } else { 1 };
                if self.misses >= needed { Health::Down } else { Health::Unknown }
            }
            (Health::Up, true) => {
                self.counter = (self.counter + 1).min(self.limits.max_counter());
                Health::Up
            }
            (Health::Up, false) => {
                self.counter = self.counter.saturating_sub(1);
                if self.counter < rise { Health::Down } else { Health::Up }
            }
            (Health::Down, true) => {
                self.counter += 1;
                if self.counter >= rise { Health::Up } else { Health::Down }
            }
            (Health::Down, false) => {
                self.counter = self.counter.saturating_sub(1);
                Health::Down
            }
            (Health::Paused | Health::Disabled | Health::Removed, _) => self.health,
        };
        // As in HAProxy, a crossing goes to the end of the scale, so that the way back is always a whole rise or fall.
        if next != self.health {
            self.counter = if next == Health::Up { self.limits.max_counter() } else { 0 };
        }
        next
    }

    /// Moves to `next`, and writes it down if that is a move.
    fn go(
        &mut self,
        next: Health,
        at: WallTime,
        cause: impl FnOnce() -> TransitionCause,
    ) -> Option<Transition> {
        if next == self.health {
            return None;
        }
        let transition = Transition { from: self.health, to: next, at, cause: cause() };
        self.health = next;
        self.since = at;
        self.doubted = false;
        if !matches!(next, Health::Up | Health::Down) {
            self.counter = 0;
            self.misses = 0;
            self.failing = None;
            self.begin_to_see();
        }
        self.history.truncate(self.keep.saturating_sub(1));
        self.history.push_front(transition.clone());
        Some(transition)
    }

    /// Keeps since when it fails.
    fn follow(&mut self, outcome: &Outcome, passed: bool) {
        self.failing = if passed { None } else { self.failing.or(Some(outcome.started)) };
        self.doubted &= !passed;
    }

    fn remember(&mut self, outcome: &Outcome, at: WallTime) {
        self.not_after = outcome.not_after.or(self.not_after);
        self.recent.push(outcome.code, &outcome.detail, at);
        self.last = Some(LastOutcome {
            at,
            duration: outcome.duration,
            code: outcome.code,
            detail: outcome.detail.clone(),
            timeout: outcome.timeout,
        });
    }
}

#[cfg(test)]
mod tests;
