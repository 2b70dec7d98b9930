//! One check in force: its schedule, and those of its probes that are not told yet.

use std::collections::VecDeque;
use std::time::Duration;

use maglev_ipc::{Check, CheckId, Outcome};

use super::history::History;
use crate::clock::Nanos;
use crate::probe::Verdict;

/// A check that was accepted.
#[derive(Debug)]
pub struct Member<P> {
    /// What the controller calls it.
    pub id: CheckId,
    /// Between the starts of two probes.
    pub interval: Duration,
    /// What is probed. A bundle is named by the number that [`crate::probe::tls::Configs`] gave it, so that equal checks
    /// compare equal across sets.
    pub check: Check,
    /// How it is probed, and whatever else whoever probes keeps with the check.
    pub plan: P,
}

/// One check in force.
#[derive(Debug)]
pub struct Held<P, F> {
    /// What the controller calls it.
    pub id: CheckId,
    /// What is probed.
    pub check: Check,
    /// How.
    pub plan: P,
    /// Between the starts of two probes, before the jitter.
    pub interval: Duration,
    /// How many probes have started.
    pub seq: u64,
    /// When the newest start was due: what the next one is counted from.
    pub slated: Nanos,
    /// When the next start is due.
    pub due: Nanos,
    /// Whether it is due and waits for its turn.
    pub ready: bool,
    /// The probes that are not told yet, in the order in which they started.
    pub probes: VecDeque<Probe<F>>,
    /// What came of the probes so far.
    pub history: History,
}

/// A probe that is not told yet.
#[derive(Debug)]
pub struct Probe<F> {
    /// When it started.
    pub started: Nanos,
    /// When it is given up.
    pub deadline: Nanos,
    /// The probe itself, while it is under way.
    pub flight: Option<F>,
    /// What came of it, and how long that took.
    pub end: Option<(Duration, Verdict)>,
}

impl<F> Probe<F> {
    /// Writes down what came of it.
    pub fn judge(&mut self, verdict: Verdict, now: Nanos) {
        self.end = Some((Duration::from_nanos(now.saturating_sub(self.started)), verdict));
    }
}

impl<P, F> Held<P, F> {
    /// A check of which nothing has been probed.
    pub fn new(Member { id, interval, check, plan }: Member<P>) -> Self {
        Self {
            id,
            check,
            plan,
            interval,
            seq: 0,
            slated: 0,
            due: 0,
            ready: false,
            probes: VecDeque::with_capacity(1),
            history: History::default(),
        }
    }

    /// When the next probe is to start. One at a time: it waits for the one in flight.
    pub fn start_at(&self) -> Option<Nanos> {
        (!self.ready && self.probes.is_empty()).then_some(self.due)
    }

    /// When there is something to do: a start, or a probe to be given up.
    pub fn wake_at(&self) -> Option<Nanos> {
        let flying = self.probes.iter().filter(|probe| probe.flight.is_some());
        flying.map(|probe| probe.deadline).chain(self.start_at()).min()
    }

    /// Takes the first outcome that can be told: what is known waits for the probes that started before it.
    pub fn tell(&mut self, now: Nanos) -> Option<Outcome> {
        let seq = self.seq + 1 - self.probes.len() as u64;
        let Probe { started, end, .. } = self.probes.front_mut()?;
        let (duration, Verdict { code, detail }) = end.take()?;
        let outcome = Outcome { check: self.id, seq, started: *started, duration, code, detail };
        self.probes.pop_front();
        // What outlived its interval is followed at once.
        self.due = self.due.max(now);
        self.history.record(&outcome);
        Some(outcome)
    }
}
