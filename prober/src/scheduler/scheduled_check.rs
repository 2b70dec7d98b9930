//! One check in force: its schedule, and those of its probes that are not told yet.

use std::collections::VecDeque;
use std::time::Duration;

use maglev_ipc::{Check, CheckId, Outcome, OutcomeCode, ProbeTimeout};

use super::history::CheckHistory;
use super::latency::LatencyEstimate;
use crate::clock::Nanos;
use crate::verdict::Verdict;

/// How many probes of a check are under way or wait to be told at most: a `fall` of 3, and one more. When all that there
/// is falls silent at once, it is also what the load is multiplied by until the first time-outs.
pub const MAX_PROBES: usize = 4;

/// A check that was accepted.
#[derive(Debug)]
pub struct AcceptedCheck<P> {
    /// What the controller calls it.
    pub id: CheckId,
    /// Between the starts of two probes.
    pub interval: Duration,
    /// After so many passes in a row, one more changes nothing.
    pub settled: u16,
    /// What is probed. A bundle is named by the number that [`crate::probe::tls::TlsConfigs`] gave it, so that equal checks
    /// compare equal across sets.
    pub check: Check,
    /// How it is probed, and whatever else whoever probes keeps with the check.
    pub plan: P,
}

/// One check in force.
#[derive(Debug)]
pub struct ScheduledCheck<P, F> {
    /// What the controller calls it.
    pub id: CheckId,
    /// What is probed.
    pub check: Check,
    /// How.
    pub plan: P,
    /// Between the starts of two probes, before the jitter.
    pub interval: Duration,
    /// After so many passes in a row, one more changes nothing.
    settled: u16,
    /// How many in a row the controller has been told under this name.
    passes: u16,
    /// How many probes have started.
    pub seq: u64,
    /// When the newest start was due: what the next one is counted from.
    pub last_due: Nanos,
    /// When the next start is due.
    pub due: Nanos,
    /// When it is, if the newest probe is not answered as soon as it usually is.
    pub due_fast: Nanos,
    /// How many probes have started since the newest that was answered.
    pub unanswered: u32,
    /// How long answers take.
    pub latency: LatencyEstimate,
    /// Whether it is due and waits for its turn.
    pub ready: bool,
    /// The probes that are not told yet, in the order in which they started.
    pub probes: VecDeque<ProbeRecord<F>>,
    /// What came of the probes so far.
    pub history: CheckHistory,
}

/// What there is to be told of a probe.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutcomeReport {
    /// What came of it.
    pub outcome: Outcome,
    /// It is one of so many passes in a row that it changes nothing.
    pub is_batchable: bool,
}

/// A probe that is not told yet.
#[derive(Debug)]
pub struct ProbeRecord<F> {
    /// When it started.
    pub started: Nanos,
    /// When it is given up.
    pub deadline: Nanos,
    /// The probe itself, while it is under way.
    pub in_flight: Option<F>,
    /// What came of it, and how long that took.
    pub result: Option<(Duration, Verdict)>,
}

impl<P, F> ScheduledCheck<P, F> {
    /// A check of which nothing has been probed.
    pub fn new(AcceptedCheck { id, interval, settled, check, plan }: AcceptedCheck<P>) -> Self {
        Self {
            id,
            check,
            plan,
            interval,
            settled,
            passes: 0,
            seq: 0,
            last_due: 0,
            due: 0,
            due_fast: 0,
            unanswered: 0,
            latency: LatencyEstimate::default(),
            ready: false,
            probes: VecDeque::with_capacity(1),
            history: CheckHistory::default(),
        }
    }

    /// The controller calls it otherwise now, and may know nothing of its passes.
    pub const fn rename(&mut self, id: CheckId, settled: u16) {
        self.id = id;
        self.settled = settled;
        self.passes = 0;
    }

    /// When the next probe is to start.
    ///
    /// One at a time, while all is well: it waits for the end of the one before. But where there is doubt, it does not wait
    /// for a time-out, so that the time-outs of a silent server run side by side. Doubt begins when a probe is not answered
    /// as soon as the check's probes usually are; from then on a probe starts each `fast` interval. Once one has timed
    /// out, the controller has been told, and the pace is what it says. Any answer to the newest probe ends the doubt.
    pub fn start_at(&self) -> Option<Nanos> {
        if self.ready || self.probes.len() >= MAX_PROBES {
            return None;
        }
        if self.probes.is_empty() || self.unanswered == 0 {
            return Some(self.due);
        }
        let since = self.probes.len().checked_sub(self.unanswered as usize);
        let Some(since) =
            since.filter(|since| self.probes.range(since..).all(|probe| probe.in_flight.is_some()))
        else {
            // One of them has timed out.
            return Some(self.due);
        };
        let doubt = self.probes[since].started + self.latency.usual()?;
        Some(doubt.max(self.due.min(self.due_fast)))
    }

    /// When there is something to do: a start, or a probe to be given up.
    pub fn wake_at(&self) -> Option<Nanos> {
        let flying = self.probes.iter().filter(|probe| probe.in_flight.is_some());
        flying.map(|probe| probe.deadline).chain(self.start_at()).min()
    }

    /// How long the next probe may take.
    pub fn timeout(&self) -> Duration {
        match self.check.timeout {
            ProbeTimeout::Fixed(timeout) => timeout,
            ProbeTimeout::Auto { min, max } => self.latency.timeout(min, max, self.unanswered),
        }
    }

    /// Takes a probe that is under way.
    pub fn take_in_flight(&mut self, index: usize) -> Option<F> {
        self.probes.get_mut(index)?.in_flight.take()
    }

    /// Writes down what came of a probe whose flight is over.
    pub fn record_verdict(&mut self, index: usize, verdict: Verdict, now: Nanos) {
        let newer = self.probes.len().saturating_sub(index + 1) as u32;
        let Some(probe) = self.probes.get_mut(index) else { return };
        let took = now.saturating_sub(probe.started);
        if verdict.code.passed() == Some(true) {
            self.latency.sample(took, verdict.is_short);
        }
        // A fault of this host says nothing of the server, so it is no reason for doubt either.
        if !matches!(verdict.code, OutcomeCode::L4Tout | OutcomeCode::L6Tout | OutcomeCode::L7Tout) {
            self.unanswered = self.unanswered.min(newer);
        }
        probe.result = Some((Duration::from_nanos(took), verdict));
        // What outlived its interval is followed at once.
        self.due = self.due.max(now);
        self.due_fast = self.due_fast.max(now);
    }

    /// Takes the first outcome that can be told: what is known waits for the probes that started before it.
    pub fn next_report(&mut self) -> Option<OutcomeReport> {
        let seq = self.seq + 1 - self.probes.len() as u64;
        let ProbeRecord { started, result, .. } = self.probes.front_mut()?;
        let (duration, Verdict { code, detail, not_after, .. }) = result.take()?;
        let started = *started;
        self.probes.pop_front();
        let timeout = matches!(self.check.timeout, ProbeTimeout::Auto { .. }).then(|| self.timeout());
        let outcome = Outcome { check: self.id, seq, started, duration, code, detail, timeout, not_after };
        self.history.record(&outcome);
        let passed = code.passed() == Some(true);
        let is_batchable = passed && self.passes >= self.settled;
        self.passes = if passed { self.passes.saturating_add(1) } else { 0 };
        Some(OutcomeReport { outcome, is_batchable })
    }
}
