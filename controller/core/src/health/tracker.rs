//! The health of one backend: counts probe outcomes and applies operators' actions.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use maglev_ipc::{CertificateExpiry, Outcome, OutcomeCode, OutcomeDetail, VerdictHistory};

use super::freshness::Freshness;
use super::recent::{OutcomeRun, RecentOutcomes};
use super::rise_fall::RiseFall;
use super::{
    ActionRejected, BackendAction, Health, LastOutcome, Signal, Thresholds, Transition, TransitionCause,
};
use crate::config::Healthcheck;
use crate::time::WallTime;

/// The health of one backend, shared by all frontends that use it.
///
/// ```text
///                 verdict                 failures
///    ┌─────────┐ ────────► up   ◄──────────────────────► down
///    │ unknown │ ────────────────── failure ───────────►  │
///    └─────────┘            passes bring it back up ◄─────┘
///       ▲  ▲
///       │  └── resume ── paused   ◄── pause   ── any of the three above
///       └───── enable ── disabled ◄── disable ── any of the four above
/// ```
///
/// [`RiseFall`] holds the counter, and its table the transitions by verdict.
#[derive(Clone, Debug)]
pub struct Tracker {
    counter: RiseFall,
    freshness: Freshness,
    history_limit: usize,
    health: Health,
    since: WallTime,
    /// Sequence number of the newest outcome.
    seq: u64,
    /// Start of the first probe of the current run of failures.
    failing_since: Option<u64>,
    /// True if a DOWN transition was deferred in the current run of failures.
    down_deferred: bool,
    last: Option<LastOutcome>,
    not_after: Option<CertificateExpiry>,
    recent: RecentOutcomes,
    history: VecDeque<Transition>,
}

impl Tracker {
    /// Creates the tracker of a backend without outcomes. `history_limit` bounds the stored transitions.
    #[must_use]
    pub fn new(thresholds: Thresholds, history_limit: usize, health: Health, since: WallTime) -> Self {
        Self {
            counter: RiseFall::new(thresholds),
            freshness: Freshness::default(),
            history_limit,
            health,
            since,
            seq: 0,
            failing_since: None,
            down_deferred: false,
            last: None,
            not_after: None,
            recent: RecentOutcomes::default(),
            history: VecDeque::new(),
        }
    }

    /// Returns the backend's health.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Returns the time of the last transition.
    #[must_use]
    pub const fn since(&self) -> WallTime {
        self.since
    }

    /// Returns the rise/fall counter, `0 ..= rise + fall - 1`; 0 while the backend is unknown.
    #[must_use]
    pub const fn counter(&self) -> u32 {
        self.counter.value()
    }

    /// Returns the thresholds of the counter.
    #[must_use]
    pub const fn thresholds(&self) -> Thresholds {
        self.counter.thresholds()
    }

    /// Reports whether the health is out of date: no verdict since the prober was lost or rejected the check, or only local
    /// faults for too long.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.freshness.is_stale()
    }

    /// Reports whether local faults were the only outcomes for too long; then the health [is stale](Self::is_stale).
    #[must_use]
    pub const fn is_unobserved(&self) -> bool {
        self.freshness.is_unobserved()
    }

    /// Reports whether the backend is [unobserved](Self::is_unobserved) although other backends answer.
    #[must_use]
    pub const fn is_hidden(&self) -> bool {
        self.freshness.is_hidden()
    }

    /// Returns the start of the first failure since the last pass, in nanoseconds of `CLOCK_MONOTONIC`. A backend that
    /// went down since is still failing.
    #[must_use]
    pub const fn failing_since(&self) -> Option<u64> {
        self.failing_since
    }

    /// Reports whether a DOWN transition was deferred in the current run of failures; see [`Self::defer_down`].
    #[must_use]
    pub const fn is_down_deferred(&self) -> bool {
        self.down_deferred
    }

    /// Reports whether the backend is up, current, and without a recent failure.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.health == Health::Up
            && self.failing_since.is_none()
            && !self.freshness.only_local_faults()
            && !self.is_stale()
    }

    /// Returns the backend's contribution to the detection of mass failures.
    #[must_use]
    pub fn signal(&self) -> Signal {
        match self.failing_since {
            _ if !self.is_probed() => Signal::Neutral,
            Some(since) => Signal::FailingSince(since),
            None if self.is_healthy() => Signal::Healthy,
            None => Signal::Neutral,
        }
    }

    /// Reports whether [`Self::record_outcome`] would take the backend from up to down.
    #[must_use]
    pub fn would_go_down(&self, outcome: &Outcome) -> bool {
        self.health == Health::Up
            && outcome.seq > self.seq
            && outcome.code.passed() == Some(false)
            && self.counter.is_at_last_failure()
    }

    /// Returns the newest outcome.
    #[must_use]
    pub const fn last(&self) -> Option<&LastOutcome> {
        self.last.as_ref()
    }

    /// Returns the expiry of the certificate that the server presented last, in seconds since the Unix epoch.
    #[must_use]
    pub const fn not_after(&self) -> Option<CertificateExpiry> {
        self.not_after
    }

    /// Returns the newest outcomes as runs, newest first. Static passes are not included.
    pub fn outcome_runs(&self) -> impl Iterator<Item = OutcomeRun> {
        self.recent.runs()
    }

    /// Returns the number of failures counted while the backend was unknown.
    #[must_use]
    pub const fn failures_while_unknown(&self) -> u32 {
        self.counter.failures_while_unknown()
    }

    /// Returns the transition to the present health; `None` if that is the first state, or if the history is shorter.
    #[must_use]
    pub fn last_transition(&self) -> Option<&Transition> {
        self.history.front().filter(|newest| newest.to == self.health)
    }

    /// Returns the stored transitions, newest first.
    #[must_use]
    pub fn history(&self) -> Vec<Transition> {
        self.history.iter().cloned().collect()
    }

    /// Reports whether the backend's state asks for probes.
    #[must_use]
    pub const fn is_probed(&self) -> bool {
        matches!(self.health, Health::Unknown | Health::Up | Health::Down)
    }

    /// Reports whether the backend is up with a recent failure, or down with a recent pass.
    #[must_use]
    pub const fn is_degraded(&self) -> bool {
        match self.health {
            Health::Up => self.down_deferred || !self.counter.is_full(),
            Health::Down => self.counter.value() > 0,
            Health::Unknown | Health::Paused | Health::Disabled | Health::Removed => false,
        }
    }

    /// Returns the probe interval for the present state.
    #[must_use]
    pub fn probe_interval(&self, healthcheck: &Healthcheck) -> Duration {
        match self.health {
            Health::Unknown => healthcheck.fast_interval,
            Health::Down if self.is_degraded() => healthcheck.rise_interval(),
            _ if self.is_degraded() => healthcheck.fast_interval,
            Health::Down => healthcheck.down_interval,
            Health::Up | Health::Paused | Health::Disabled | Health::Removed => healthcheck.interval,
        }
    }

    /// Counts an outcome; see [`RiseFall::next_state`] for `in_service`.
    ///
    /// An outcome that is older than a counted one, or that is a local fault, causes no transition.
    pub fn record_outcome(
        &mut self,
        outcome: &Outcome,
        in_service: bool,
        at: WallTime,
    ) -> Option<Transition> {
        if !self.is_probed() || outcome.seq <= self.seq {
            return None;
        }
        self.seq = outcome.seq;
        self.store_last(outcome, at);
        let Some(passed) = outcome.code.passed() else {
            self.freshness.on_local_fault(outcome.started);
            return None;
        };
        self.freshness.on_verdict();
        self.track_failures(outcome, passed);
        let next = self.counter.next_state(self.health, passed, in_service);
        self.transition_to(next, at, || outcome.into())
    }

    /// Fast path: records a pass of a healthy backend, which changes nothing else. Returns false, without effect, if
    /// [`Self::record_outcome`] is needed.
    pub fn record_steady_pass(&mut self, outcome: &Outcome, at: WallTime) -> bool {
        let steady = self.health == Health::Up && self.failing_since.is_none() && self.counter.is_full();
        let pass = outcome.code.passed() == Some(true) && outcome.seq > self.seq;
        if !steady || !pass || self.down_deferred || !self.freshness.is_current() {
            return false;
        }
        self.seq = outcome.seq;
        self.store_last(outcome, at);
        true
    }

    /// Records a failure that would take the backend down, but leaves it up, one failure short of DOWN. The caller
    /// [confirms](Self::confirm_down) the transition later, or leaves the decision to later outcomes.
    pub fn defer_down(&mut self, outcome: &Outcome, at: WallTime) {
        self.seq = outcome.seq;
        self.store_last(outcome, at);
        self.freshness.on_verdict();
        self.track_failures(outcome, false);
        self.down_deferred = true;
    }

    /// Marks the state [unobserved](Self::is_unobserved) if local faults, `outcome` the newest, were the only outcomes for
    /// `bound`.
    pub fn mark_unobserved_after(&mut self, bound: Duration, outcome: &Outcome) {
        self.freshness.mark_unobserved_after(bound, outcome.started);
    }

    /// Counts `outcome`, a local fault of an unobserved backend. Enough of them make it [hidden](Self::is_hidden). The newest
    /// probe with an answer of another backend started at `answered`.
    pub fn count_evidence(&mut self, answered: u64, outcome: &Outcome) {
        self.freshness.count_evidence(answered, outcome.started);
    }

    /// Takes a backend with a deferred DOWN transition down. An operator may have taken it out meanwhile: then nothing
    /// changes.
    pub fn confirm_down(&mut self, cause: TransitionCause, at: WallTime) -> Option<Transition> {
        if self.health != Health::Up || !self.down_deferred {
            return None;
        }
        self.counter.set_empty();
        self.transition_to(Health::Down, at, || cause)
    }

    /// Counts the synthetic pass of a static backend.
    pub fn record_static_pass(&mut self, at: WallTime) -> Option<Transition> {
        if !self.is_probed() {
            return None;
        }
        let (code, detail) = (OutcomeCode::Static, OutcomeDetail::None);
        self.last =
            Some(LastOutcome { at, duration: Duration::ZERO, code, detail: detail.clone(), timeout: None });
        let next = self.counter.next_state(self.health, true, false);
        self.transition_to(next, at, || TransitionCause::Outcome { code, detail })
    }

    /// Adopts the verdict history of a prober that kept running. An unknown backend counts its verdicts as
    /// [`Self::record_outcome`] would have; a known one only continues the sequence.
    pub fn replay_history(
        &mut self,
        history: &VerdictHistory,
        in_service: bool,
        at: WallTime,
    ) -> Option<Transition> {
        if !self.is_probed() {
            return None;
        }
        self.seq = history.last.seq;
        if self.health != Health::Unknown || history.len == 0 {
            return None;
        }
        self.freshness.on_verdict();
        self.store_last(&history.last, at);
        self.track_failures(&history.last, history.bits & 1 == 1);
        for bit in (0..u32::from(history.len.min(64))).rev() {
            self.health = self.counter.next_state(self.health, history.bits >> bit & 1 == 1, in_service);
        }
        let next = mem::replace(&mut self.health, Health::Unknown);
        self.transition_to(next, at, || (&history.last).into())
    }

    /// Applies an operator's action. The operation is idempotent: a repetition succeeds without a transition.
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
        Ok(self.transition_to(next, at, || TransitionCause::Operator(action)))
    }

    /// Moves the backend to `next` because of the configuration.
    pub fn configure(&mut self, next: Health, at: WallTime) -> Option<Transition> {
        self.transition_to(next, at, || TransitionCause::Config)
    }

    /// Replaces the thresholds. Health and history stay.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.counter.set_thresholds(thresholds, self.health);
    }

    /// Restarts from unknown with other thresholds, unless an operator has taken the backend out.
    pub fn restart(&mut self, thresholds: Thresholds, at: WallTime) -> Option<Transition> {
        self.counter = RiseFall::new(thresholds);
        self.seq = 0;
        self.failing_since = None;
        self.freshness.clear_faults();
        self.down_deferred = false;
        self.last = None;
        self.not_after = None;
        self.recent = RecentOutcomes::default();
        if self.is_probed() { self.configure(Health::Unknown, at) } else { None }
    }

    /// Sets the bound of the stored transitions.
    pub fn set_history_limit(&mut self, limit: usize) {
        self.history_limit = limit;
        self.history.truncate(limit);
    }

    /// Accepts outcomes numbered from the start: the check has restarted in the prober.
    pub const fn reset_sequence(&mut self) {
        self.seq = 0;
    }

    /// Marks the health as stale: no outcome will arrive for a while.
    pub const fn mark_stale(&mut self) {
        let stale = self.is_probed();
        self.freshness.set_stale(stale);
    }

    /// Moves to `next` and records the transition, if it is one.
    fn transition_to(
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
        self.down_deferred = false;
        if !matches!(next, Health::Up | Health::Down) {
            self.counter.clear();
            self.failing_since = None;
            self.freshness.clear_faults();
        }
        self.history.truncate(self.history_limit.saturating_sub(1));
        self.history.push_front(transition.clone());
        Some(transition)
    }

    /// Tracks the start of the current run of failures.
    fn track_failures(&mut self, outcome: &Outcome, passed: bool) {
        self.failing_since = if passed { None } else { self.failing_since.or(Some(outcome.started)) };
        self.down_deferred &= !passed;
    }

    fn store_last(&mut self, outcome: &Outcome, at: WallTime) {
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
