//! What is probed when, and what came of it: all that a prober decides. OutcomeReport the time, it knows no clock and no
//! socket, nor what a probe is; it begins with a seed, and the same inputs give the same outputs.
//!
//! `P` is what whoever probes keeps with a check, `F` what it keeps with a probe in flight. Its turn, in this order:
//! [`Scheduler::woken`], [`Scheduler::end`] for all that is over, [`Scheduler::expire`], [`Scheduler::launch`] until there is nothing
//! left, [`Scheduler::told`]; and [`Scheduler::next`] says when the next turn is wanted.

mod check_table;
mod history;
mod jitter;
mod latency;
mod scheduled_check;
mod timer_wheel;

use std::collections::VecDeque;
use std::time::Duration;

use maglev_ipc::{Check, CheckId, OutcomeCode, ProberStats, VerdictHistory};
use maglev_time::TokenBucket;

use crate::clock::{Nanos, nanos};
use crate::probe_id::ProbeId;
use crate::verdict::Verdict;
use check_table::CheckTable;
pub use check_table::SetChange;
use jitter::Jitter;
pub use scheduled_check::{AcceptedCheck, OutcomeReport};
use scheduled_check::{ProbeRecord, ScheduledCheck};
use timer_wheel::TimerWheel;

/// A turn that begins so much late shows that this host had stopped us. What timed out meanwhile may have been
/// answered in a buffer that overflowed, so it is no verdict; and what fell due meanwhile is spread anew.
const STALL: Nanos = 250_000_000;
/// What such a time-out says.
const STALLED_DETAIL: &str = "this host had stopped the prober";
/// How long a probe that was put off by the rate waits for the next turn.
const RATE_WAIT: Nanos = 1_000_000;
/// Time whose probes may start at once after a pause.
const BURST: Duration = Duration::from_millis(50);

/// The checks in force, and their probes.
#[derive(Debug)]
pub struct Scheduler<P, F> {
    table: CheckTable<P, F>,
    wheel: TimerWheel,
    jitter: Jitter,
    rate: TokenBucket,
    /// Slots of checks that are due, in the order in which they fell due.
    ready: VecDeque<u32>,
    /// How many of them fell due in this turn.
    newly_due: usize,
    /// Slots of checks that are due and were put off by whoever probes, in that order.
    deferred: VecDeque<u32>,
    /// One of them was put off in this turn.
    deferred_this_iteration: bool,
    /// When the last stall ended.
    last_stall: Nanos,
    stats: ProberStats,
    reports: Vec<OutcomeReport>,
    expired: Vec<u32>,
}

/// What became of a probe that was to start.
#[derive(Debug)]
pub enum StartResult<F> {
    /// It is in flight.
    InFlight(F),
    /// It is over.
    Finished(Verdict),
    /// Nothing: it is to be started in another turn, with the first.
    Deferred,
}

impl<F> From<Result<F, Verdict>> for StartResult<F> {
    fn from(result: Result<F, Verdict>) -> Self {
        result.map_or_else(Self::Finished, Self::InFlight)
    }
}

impl<P, F> Scheduler<P, F> {
    /// Without checks. `seed` draws the jitter, `rate` is how many probes a second may start.
    pub fn new(seed: u64, rate: u32, now: Nanos) -> Self {
        Self {
            table: CheckTable::default(),
            wheel: TimerWheel::new(now),
            jitter: Jitter::new(seed),
            rate: TokenBucket::new(rate, BURST, Duration::from_nanos(now)).with_tokens(1),
            ready: VecDeque::new(),
            newly_due: 0,
            deferred: VecDeque::new(),
            deferred_this_iteration: false,
            last_stall: 0,
            stats: ProberStats::default(),
            reports: Vec::new(),
            expired: Vec::new(),
        }
    }

    /// Puts a set in force. Probes in flight of checks that are gone are dropped.
    pub fn replace_set(&mut self, members: Vec<AcceptedCheck<P>>, now: Nanos) -> SetChange<F> {
        let change = self.table.replace(members);
        self.apply_change(&change, now);
        change
    }

    /// Takes the checks `gone` out of the set in force, with their probes in flight, and puts `members` in it.
    pub fn amend_set(
        &mut self,
        gone: &[CheckId],
        members: Vec<AcceptedCheck<P>>,
        now: Nanos,
    ) -> SetChange<F> {
        let change = self.table.amend(gone, members);
        self.apply_change(&change, now);
        change
    }

    fn apply_change(&mut self, change: &SetChange<F>, now: Nanos) {
        for slot in &change.dropped {
            self.wheel.cancel(*slot);
        }
        for slot in &change.added {
            if let Some(entry) = self.table.entry_mut(*slot) {
                entry.due = self.jitter.first(now, entry.interval);
                self.wheel.set(*slot, entry.due);
            }
        }
        for (slot, interval) in &change.kept {
            self.set_interval(*slot, *interval, now);
        }
    }

    /// Gives checks new intervals. Those that are gone since the controller named them are passed over: it may not
    /// know yet.
    pub fn set_intervals(&mut self, intervals: &[(CheckId, Duration)], now: Nanos) {
        for (id, interval) in intervals {
            if let Some(slot) = self.table.slot(*id) {
                self.set_interval(slot, *interval, now);
            }
        }
    }

    /// What is known of the checks in `slots`.
    pub fn verdict_histories(
        &self,
        slots: impl Iterator<Item = u32>,
    ) -> impl Iterator<Item = VerdictHistory> {
        slots.filter_map(|slot| self.table.entry(slot)).filter_map(|entry| entry.history.streak(entry.id))
    }

    /// A turn begins, which was to begin at `planned`.
    pub fn begin_iteration(&mut self, planned: Nanos, now: Nanos) {
        if now.saturating_sub(planned) > STALL {
            self.last_stall = now;
        }
    }

    /// Gives up probes that are overdue, and finds what is due. `give_up` says what an overdue probe, which started then,
    /// waited for.
    pub fn process_timers(&mut self, now: Nanos, mut give_up: impl FnMut(&mut P, F, Nanos) -> Verdict) {
        self.rate.refill(Duration::from_nanos(now));
        self.deferred_this_iteration = false;
        let before = self.ready.len();
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(now, &mut expired);
        for slot in expired.drain(..) {
            self.time_out_overdue(slot, now, &mut give_up);
            self.collect_reports(slot);
            self.mark_due(slot, now);
            self.arm_timer(slot);
        }
        self.expired = expired;
        self.newly_due = self.ready.len() - before;
    }

    /// Starts the next probe that is due, if the rate allows one: `start` says what became of it. Returns whether there
    /// may be more.
    pub fn start_next(
        &mut self,
        now: Nanos,
        start: impl FnOnce(ProbeId, &Check, &mut P) -> StartResult<F>,
    ) -> bool {
        loop {
            // Those that were put off come first, until one of them is again.
            let from_deferred = !self.deferred_this_iteration && !self.deferred.is_empty();
            let queue = if from_deferred { &mut self.deferred } else { &mut self.ready };
            let Some(slot) = queue.front().copied() else { return false };
            if !self.table.entry(slot).is_some_and(|entry| entry.ready) {
                // It left after it fell due.
                queue.pop_front();
                continue;
            }
            if !self.rate.take() {
                self.stats.delayed_by_rate +=
                    std::mem::take(&mut self.newly_due).min(self.ready.len()) as u64;
                return false;
            }
            queue.pop_front();
            if self.start_check(slot, now, start) {
                self.report_and_rearm(slot);
                return true;
            }
            self.rate.refund();
            self.deferred_this_iteration = true;
            if from_deferred {
                self.deferred.push_front(slot);
            } else {
                self.deferred.push_back(slot);
            }
            return true;
        }
    }

    /// The check in a slot.
    pub fn check_mut(&mut self, slot: u32) -> Option<(&Check, &mut P)> {
        self.table.entry_mut(slot).map(|entry| (&entry.check, &mut entry.plan))
    }

    /// All checks in force.
    pub fn checks(&self) -> impl Iterator<Item = (&Check, &P)> {
        self.table.all().map(|entry| (&entry.check, &entry.plan))
    }

    /// A probe that is in flight.
    pub fn in_flight_mut(&mut self, key: ProbeId) -> Option<(&mut P, &mut F)> {
        let (entry, index) = self.table.find(key)?;
        let flight = entry.probes.get_mut(index)?.in_flight.as_mut()?;
        Some((&mut entry.plan, flight))
    }

    /// The probe of the check in a slot that is in flight and that `wanted` knows.
    pub fn find_in_flight(&self, slot: u32, wanted: impl Fn(&F) -> bool) -> Option<ProbeId> {
        let mut probes = self.table.entry(slot)?.probes.iter();
        let index = probes.position(|probe| probe.in_flight.as_ref().is_some_and(&wanted))?;
        self.table.key(slot, index)
    }

    /// Ends a probe, and returns it if it was in flight.
    pub fn finish_probe(&mut self, key: ProbeId, verdict: Verdict, now: Nanos) -> Option<F> {
        let (entry, index) = self.table.find(key)?;
        let flight = entry.take_in_flight(index)?;
        entry.record_verdict(index, verdict, now);
        self.report_and_rearm(key.slot);
        Some(flight)
    }

    /// Takes the outcomes that can be told, those of each check in the order in which its probes started.
    pub fn take_reports(&mut self) -> impl Iterator<Item = OutcomeReport> {
        self.reports.drain(..)
    }

    /// When there is something to do at the latest, if nothing happens before.
    pub fn next_wakeup(&self, now: Nanos) -> Nanos {
        let launch = match (self.deferred_this_iteration, self.ready.is_empty() && self.deferred.is_empty()) {
            (true, _) => now,
            (false, true) => Nanos::MAX,
            (false, false) => now + RATE_WAIT,
        };
        self.wheel.next().unwrap_or(Nanos::MAX).min(launch)
    }

    /// Probes started and put off, and how late they were; all else is left at 0.
    pub fn stats(&self) -> &ProberStats {
        &self.stats
    }

    fn time_out_overdue(
        &mut self,
        slot: u32,
        now: Nanos,
        give_up: &mut impl FnMut(&mut P, F, Nanos) -> Verdict,
    ) {
        let Some(entry) = self.table.entry_mut(slot) else { return };
        for index in 0..entry.probes.len() {
            let ProbeRecord { started, deadline, .. } = entry.probes[index];
            let overdue = if deadline <= now { entry.take_in_flight(index) } else { None };
            let Some(flight) = overdue else { continue };
            let waited = give_up(&mut entry.plan, flight, started);
            let stalled = started <= self.last_stall;
            entry.record_verdict(
                index,
                if stalled { Verdict::new(OutcomeCode::Local, STALLED_DETAIL) } else { waited },
                now,
            );
        }
    }

    fn mark_due(&mut self, slot: u32, now: Nanos) {
        let Some(entry) = self.table.entry_mut(slot) else { return };
        let Some(start) = entry.start_at().filter(|start| *start <= now) else { return };
        entry.due = start;
        if now.saturating_sub(entry.due) > STALL {
            entry.due = self.jitter.first(now, entry.interval);
            self.stats.delayed_by_stall += 1;
        } else {
            entry.ready = true;
            self.ready.push_back(slot);
        }
    }

    /// Returns whether the probe has begun.
    fn start_check(
        &mut self,
        slot: u32,
        now: Nanos,
        start: impl FnOnce(ProbeId, &Check, &mut P) -> StartResult<F>,
    ) -> bool {
        let key = self.table.next_key(slot);
        let Some(entry) = self.table.entry_mut(slot) else { return true };
        let (in_flight, result) = match start(key, &entry.check, &mut entry.plan) {
            StartResult::InFlight(flight) => (Some(flight), None),
            StartResult::Finished(verdict) => (None, Some((Duration::ZERO, verdict))),
            StartResult::Deferred => return false,
        };
        entry.ready = false;
        entry.seq += 1;
        self.stats.probes += 1;
        self.stats.lateness.record(now.saturating_sub(entry.due));
        // Lateness within the jitter is caught up, so that the mean interval holds; more than that is forgotten.
        entry.last_due = entry.due.max(now.saturating_sub(nanos(entry.interval) / 10));
        entry.due = self.jitter.next(entry.last_due, entry.interval);
        entry.due_fast = self.jitter.next(entry.last_due, entry.check.fast_interval);
        let timeout = nanos(entry.timeout());
        entry.unanswered = if in_flight.is_some() { entry.unanswered + 1 } else { 0 };
        entry.probes.push_back(ProbeRecord { started: now, deadline: now + timeout, in_flight, result });
        self.table.advance(key);
        true
    }

    fn report_and_rearm(&mut self, slot: u32) {
        self.collect_reports(slot);
        self.arm_timer(slot);
    }

    fn collect_reports(&mut self, slot: u32) {
        if let Some(entry) = self.table.entry_mut(slot) {
            self.reports.extend(std::iter::from_fn(|| entry.next_report()));
        }
    }

    fn arm_timer(&mut self, slot: u32) {
        match self.table.entry(slot).and_then(ScheduledCheck::wake_at) {
            Some(at) => self.wheel.set(slot, at),
            None => self.wheel.cancel(slot),
        }
    }

    /// The next probe follows the new interval, counted from the last start, and not before now.
    fn set_interval(&mut self, slot: u32, interval: Duration, now: Nanos) {
        let Some(entry) = self.table.entry_mut(slot).filter(|entry| entry.interval != interval) else {
            return;
        };
        entry.interval = interval;
        entry.due = match entry.seq {
            0 => entry.due.min(self.jitter.first(now, interval)),
            _ => self.jitter.next(entry.last_due, interval).max(now),
        };
        self.report_and_rearm(slot);
    }
}

#[cfg(test)]
mod tests;
