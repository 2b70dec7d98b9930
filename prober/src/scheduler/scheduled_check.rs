//! One check: its schedule, and its probes that are not reported yet.

use std::collections::VecDeque;
use std::time::Duration;

use maglev_ipc::{Check, CheckId, Outcome, OutcomeCode, ProbeTimeout};

use super::history::CheckHistory;
use super::latency::LatencyEstimate;
use crate::clock::Nanos;
use crate::verdict::Verdict;

/// Maximum number of unreported probes of a check: a `fall` of 3, and one more. It also bounds the load factor from an
/// outage of all targets until their first timeouts.
pub const MAX_PROBES: usize = 4;

/// A check that the prober accepted.
#[derive(Debug)]
pub struct AcceptedCheck<P> {
    /// Identifier on this link.
    pub id: CheckId,
    /// Time between the starts of two probes.
    pub interval: Duration,
    /// Number of consecutive passes after which another pass changes nothing for the controller.
    pub stable_after: u16,
    /// Target and kind. A CA bundle is identified by its number in [`crate::probe::tls::TlsConfigs`], so that equal checks
    /// of two sets compare equal.
    pub check: Check,
    /// Caller data of the check: how to probe it.
    pub plan: P,
}

/// One check in the active set.
#[derive(Debug)]
pub struct ScheduledCheck<P, F> {
    /// Identifier on this link.
    pub id: CheckId,
    /// Target and kind.
    pub check: Check,
    /// Caller data of the check.
    pub plan: P,
    /// Time between the starts of two probes, before jitter.
    pub interval: Duration,
    /// Number of consecutive passes after which another pass changes nothing for the controller.
    stable_after: u16,
    /// Number of consecutive passes reported under this identifier.
    passes: u16,
    /// Number of probes started.
    pub seq: u64,
    /// Due time of the newest start; the base of the next one.
    pub last_due: Nanos,
    /// Due time of the next start.
    pub due: Nanos,
    /// Due time of the next start if the reply to the newest probe is late.
    pub due_fast: Nanos,
    /// Earliest time of the next start, for which the check has a token of its address; 0 without a token.
    pub not_before: Nanos,
    /// Number of probes started since the newest answered one.
    pub unanswered: u32,
    /// Latency of passed probes.
    pub latency: LatencyEstimate,
    /// True if it is in the ready queue.
    pub is_ready: bool,
    /// Unreported probes, in start order.
    pub probes: VecDeque<ProbeRecord<F>>,
    /// Recent verdicts.
    pub history: CheckHistory,
}

/// An outcome for the controller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutcomeReport {
    /// The outcome.
    pub outcome: Outcome,
    /// True if it repeats so many passes that it changes nothing, and may wait for others.
    pub is_batchable: bool,
}

/// An unreported probe.
#[derive(Debug)]
pub struct ProbeRecord<F> {
    /// Start time.
    pub started: Nanos,
    /// Time at which it times out.
    pub deadline: Nanos,
    /// Caller data of the probe, while it is in flight.
    pub in_flight: Option<F>,
    /// Duration and verdict of a finished probe.
    pub result: Option<(Duration, Verdict)>,
}

impl<P, F> ScheduledCheck<P, F> {
    /// Returns a check without probes.
    pub fn new(AcceptedCheck { id, interval, stable_after, check, plan }: AcceptedCheck<P>) -> Self {
        Self {
            id,
            check,
            plan,
            interval,
            stable_after,
            passes: 0,
            seq: 0,
            last_due: 0,
            due: 0,
            due_fast: 0,
            not_before: 0,
            unanswered: 0,
            latency: LatencyEstimate::default(),
            is_ready: false,
            probes: VecDeque::with_capacity(1),
            history: CheckHistory::default(),
        }
    }

    /// Sets a new identifier, under which the controller may not know the passes so far.
    pub const fn change_id(&mut self, id: CheckId, stable_after: u16) {
        self.id = id;
        self.stable_after = stable_after;
        self.passes = 0;
    }

    /// Returns the start time of the next probe.
    ///
    /// Normally one probe is in flight at a time, and the next waits for its end. If a reply takes longer than usual,
    /// probes overlap: another starts each `fast` interval, so that the timeouts of a dead server run in parallel. After
    /// the first reported timeout, the controller sets the interval. A reply to the newest probe ends the overlap.
    pub fn start_at(&self) -> Option<Nanos> {
        if self.is_ready || self.probes.len() >= MAX_PROBES {
            return None;
        }
        Some(self.wanted_start()?.max(self.not_before))
    }

    /// Returns the start time of the next probe by the schedule alone.
    fn wanted_start(&self) -> Option<Nanos> {
        if self.probes.is_empty() || self.unanswered == 0 {
            return Some(self.due);
        }
        let first = self.probes.len().checked_sub(self.unanswered as usize);
        let Some(first) =
            first.filter(|first| self.probes.range(first..).all(|probe| probe.in_flight.is_some()))
        else {
            // One of them has timed out.
            return Some(self.due);
        };
        let late = self.probes[first].started + self.latency.expected_max()?;
        Some(late.max(self.due.min(self.due_fast)))
    }

    /// Returns the time of the next start or timeout.
    pub fn next_timer(&self) -> Option<Nanos> {
        let in_flight = self.probes.iter().filter(|probe| probe.in_flight.is_some());
        in_flight.map(|probe| probe.deadline).chain(self.start_at()).min()
    }

    /// Returns the timeout of the next probe.
    pub fn timeout(&self) -> Duration {
        match self.check.timeout {
            ProbeTimeout::Fixed(timeout) => timeout,
            ProbeTimeout::Auto { min, max } => self.latency.timeout(min, max, self.unanswered),
        }
    }

    /// Takes the caller data of a probe in flight.
    pub fn take_in_flight(&mut self, index: usize) -> Option<F> {
        self.probes.get_mut(index)?.in_flight.take()
    }

    /// Records the verdict of a probe that is no longer in flight.
    pub fn record_verdict(&mut self, index: usize, verdict: Verdict, now: Nanos) {
        let newer = self.probes.len().saturating_sub(index + 1) as u32;
        let Some(probe) = self.probes.get_mut(index) else { return };
        let took = now.saturating_sub(probe.started);
        if verdict.code.passed() == Some(true) {
            self.latency.add_sample(took, verdict.skipped_setup);
        }
        // A local fault says nothing about the server, so it must not cause overlapping probes.
        if !matches!(verdict.code, OutcomeCode::L4Tout | OutcomeCode::L6Tout | OutcomeCode::L7Tout) {
            self.unanswered = self.unanswered.min(newer);
        }
        probe.result = Some((Duration::from_nanos(took), verdict));
        // A probe that took longer than its interval is followed at once.
        self.due = self.due.max(now);
        self.due_fast = self.due_fast.max(now);
    }

    /// Takes the next report. A finished probe waits for all probes that started before it.
    pub fn next_report(&mut self) -> Option<OutcomeReport> {
        let seq = self.seq + 1 - self.probes.len() as u64;
        let ProbeRecord { started, result, .. } = self.probes.front_mut()?;
        let (duration, Verdict { code, detail, not_after, has_no_route, .. }) = result.take()?;
        let started = *started;
        self.probes.pop_front();
        let timeout = matches!(self.check.timeout, ProbeTimeout::Auto { .. }).then(|| self.timeout());
        let outcome = Outcome {
            check: self.id,
            seq,
            started,
            duration,
            code,
            detail,
            timeout,
            not_after,
            has_no_route,
        };
        self.history.record(&outcome);
        let passed = code.passed() == Some(true);
        let is_batchable = passed && self.passes >= self.stable_after;
        self.passes = if passed { self.passes.saturating_add(1) } else { 0 };
        Some(OutcomeReport { outcome, is_batchable })
    }
}
