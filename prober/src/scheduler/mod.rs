//! The pure scheduler: decides which check is probed when, and orders the outcomes.
//!
//! It is sans-IO: it receives the time as an argument and knows no socket and no kind of probe. Equal seeds and inputs give
//! equal outputs. `P` is the caller's data of a check, `F` the caller's data of a probe in flight. One iteration of the
//! caller's loop makes these five calls, in this order:
//!
//! ```text
//!    caller (engine, simulation)                  Scheduler
//!    ───────────────────────────                  ─────────
//!    wakes up
//!     │ begin_iteration(planned, now, worked) ──► notes a stall, if the host was 250 ms late
//!     │
//!     │ finish_probe(id, verdict, now) ─────────► record_verdict, report_and_rearm
//!     │   once per reply, before timeouts
//!     │
//!     │ process_timers(now, timeout_verdict) ───► time_out_overdue: probes past their deadline
//!     │                                           mark_due: checks whose start time has come
//!     │
//!     │ start_next(now, start) ─────────────────► takes a check off the ReadyQueue, within the rates
//!     │   until it returns false                  start(..) -> InFlight | Finished | Deferred
//!     │
//!     │ take_reports() ─────────────────────────► outcomes, per check in start order
//!     ▼
//!    sleeps until next_wakeup(now), or a socket event
//! ```
//!
//! Replies come before timeouts, so a late iteration does not time out a probe whose reply has arrived.

mod address_limits;
mod check_table;
mod history;
mod jitter;
mod latency;
mod ready_queue;
mod scheduled_check;
mod start_limiter;
pub mod timer_wheel;

use std::net::IpAddr;
use std::time::Duration;

use maglev_ipc::{Check, CheckId, OutcomeCode, ProberStats, VerdictHistory};

use crate::clock::{Nanos, nanos};
use crate::probe_id::ProbeId;
use crate::verdict::Verdict;
use check_table::CheckTable;
pub use check_table::SetChange;
use jitter::Jitter;
use ready_queue::ReadyQueue;
pub use scheduled_check::{AcceptedCheck, OutcomeReport};
use scheduled_check::{ProbeRecord, ScheduledCheck};
use start_limiter::StartLimiter;
pub use start_limiter::StartLimits;
use timer_wheel::TimerWheel;

/// Delay of an iteration that shows that the host did not run the prober. Replies may then have been lost in a full buffer,
/// so timeouts of that period are local faults, and checks that became due are spread over their interval.
const STALL: Nanos = 250_000_000;
/// Detail of such a timeout.
const STALLED_DETAIL: &str = "prober stalled on this host";
/// Time to wait for the rate limiter when checks are due.
const RATE_WAIT: Nanos = 1_000_000;

/// The active checks and their probes.
#[derive(Debug)]
pub struct Scheduler<P, F> {
    table: CheckTable<P, F>,
    wheel: TimerWheel,
    jitter: Jitter,
    limiter: StartLimiter,
    ready: ReadyQueue,
    /// End of the last stall.
    last_stall: Nanos,
    stats: ProberStats,
    reports: Vec<OutcomeReport>,
    /// Buffer of [`Self::process_timers`], kept to avoid an allocation.
    expired: Vec<u32>,
}

/// Result of starting a probe.
#[derive(Debug)]
pub enum StartResult<F> {
    /// It is in flight.
    InFlight(F),
    /// It finished at once.
    Finished(Verdict),
    /// It did not start; the next iteration retries it first.
    Deferred,
}

impl<F> From<Result<F, Verdict>> for StartResult<F> {
    fn from(result: Result<F, Verdict>) -> Self {
        result.map_or_else(Self::Finished, Self::InFlight)
    }
}

impl<P, F> Scheduler<P, F> {
    /// Returns a scheduler without checks. `seed` draws the jitter.
    pub fn new(seed: u64, limits: StartLimits, now: Nanos) -> Self {
        Self {
            table: CheckTable::default(),
            wheel: TimerWheel::new(now),
            jitter: Jitter::new(seed),
            limiter: StartLimiter::new(limits, now),
            ready: ReadyQueue::default(),
            last_stall: 0,
            stats: ProberStats::default(),
            reports: Vec::new(),
            expired: Vec::new(),
        }
    }

    /// Activates a set, and drops the probes in flight of removed checks.
    pub fn replace_set(&mut self, checks: Vec<AcceptedCheck<P>>, now: Nanos) -> SetChange<F> {
        let change = self.table.replace(checks);
        self.apply_change(&change, now);
        change
    }

    /// Removes the checks `removed` with their probes in flight from the active set, and adds `checks`.
    pub fn amend_set(
        &mut self,
        removed: &[CheckId],
        checks: Vec<AcceptedCheck<P>>,
        now: Nanos,
    ) -> SetChange<F> {
        let change = self.table.amend(removed, checks);
        self.apply_change(&change, now);
        change
    }

    fn apply_change(&mut self, change: &SetChange<F>, now: Nanos) {
        for slot in &change.dropped {
            self.wheel.cancel(*slot);
        }
        for slot in &change.added {
            if let Some(entry) = self.table.entry_mut(*slot) {
                entry.due = self.jitter.first_start(now, entry.interval);
                self.wheel.set(*slot, entry.due);
            }
        }
        for (slot, interval) in &change.kept {
            self.set_interval(*slot, *interval, now);
        }
        for slot in &change.renamed {
            self.hasten_unseen(*slot, now);
        }
    }

    /// Makes a check without a verdict due soon, as a new one: its new owner knows nothing, and the old schedule may be long.
    fn hasten_unseen(&mut self, slot: u32, now: Nanos) {
        let Some(entry) =
            self.table.entry_mut(slot).filter(|entry| entry.history.verdicts(entry.id).is_none())
        else {
            return;
        };
        entry.due = entry.due.min(self.jitter.first_start(now, entry.interval));
        self.report_and_rearm(slot);
    }

    /// Sets the intervals of checks. Ignores unknown identifiers: the controller may not know of their removal yet.
    pub fn set_intervals(&mut self, intervals: &[(CheckId, Duration)], now: Nanos) {
        for (id, interval) in intervals {
            if let Some(slot) = self.table.slot(*id) {
                self.set_interval(slot, *interval, now);
            }
        }
    }

    /// Returns the recent verdicts of the checks in `slots`.
    pub fn verdict_histories(
        &self,
        slots: impl Iterator<Item = u32>,
    ) -> impl Iterator<Item = VerdictHistory> {
        slots.filter_map(|slot| self.table.entry(slot)).filter_map(|entry| entry.history.verdicts(entry.id))
    }

    /// Begins an iteration that was planned for `planned`. The caller has worked for `worked` since it began the last one: that
    /// part of the delay is its own, which a server may cause, and excuses no timeout.
    pub fn begin_iteration(&mut self, planned: Nanos, now: Nanos, worked: Nanos) {
        if now.saturating_sub(planned).saturating_sub(worked) > STALL {
            self.last_stall = now;
        }
    }

    /// Times out overdue probes, and queues checks that became due. `timeout_verdict` receives the data of an overdue probe
    /// and its start time.
    pub fn process_timers(
        &mut self,
        now: Nanos,
        mut timeout_verdict: impl FnMut(&mut P, F, Nanos) -> Verdict,
    ) {
        self.limiter.refill(now);
        self.ready.begin_iteration();
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(now, &mut expired);
        for slot in expired.drain(..) {
            self.time_out_overdue(slot, now, &mut timeout_verdict);
            self.collect_reports(slot);
            self.mark_due(slot, now);
            self.arm_timer(slot);
        }
        self.expired = expired;
    }

    /// Starts the next due probe by calling `start`, if the rate allows it. Returns true if there may be another.
    pub fn start_next(
        &mut self,
        now: Nanos,
        start: impl FnOnce(ProbeId, &Check, &mut P) -> StartResult<F>,
    ) -> bool {
        loop {
            let Some(slot) = self.ready.front() else { return false };
            let Some(entry) = self.table.entry_mut(slot).filter(|entry| entry.is_ready) else {
                // The check was removed after it became due.
                self.ready.pop();
                continue;
            };
            if !self.limiter.take() {
                self.stats.delayed_by_rate += self.ready.take_delayed() as u64;
                return false;
            }
            if !self.limiter.admit(entry, now) {
                self.limiter.refund();
                self.stats.delayed_by_rate += 1;
                self.ready.pop();
                self.arm_timer(slot);
                continue;
            }
            if self.start_check(slot, now, start) {
                self.ready.pop();
                self.report_and_rearm(slot);
            } else {
                self.limiter.refund();
                self.ready.defer();
            }
            return true;
        }
    }

    /// Returns the check in a slot.
    pub fn check_mut(&mut self, slot: u32) -> Option<(&Check, &mut P)> {
        self.table.entry_mut(slot).map(|entry| (&entry.check, &mut entry.plan))
    }

    /// Returns all active checks.
    pub fn checks(&self) -> impl Iterator<Item = (&Check, &P)> {
        self.table.entries().map(|entry| (&entry.check, &entry.plan))
    }

    /// Returns the data of a probe in flight.
    pub fn in_flight_mut(&mut self, id: ProbeId) -> Option<(&mut P, &mut F)> {
        let (entry, index) = self.table.find(id)?;
        let in_flight = entry.probes.get_mut(index)?.in_flight.as_mut()?;
        Some((&mut entry.plan, in_flight))
    }

    /// Returns the probe in flight, of the check in a slot, that satisfies `is_wanted`.
    pub fn find_in_flight(&self, slot: u32, is_wanted: impl Fn(&F) -> bool) -> Option<ProbeId> {
        let mut probes = self.table.entry(slot)?.probes.iter();
        let index = probes.position(|probe| probe.in_flight.as_ref().is_some_and(&is_wanted))?;
        self.table.probe_id(slot, index)
    }

    /// Finishes a probe, and returns its data if it was in flight.
    pub fn finish_probe(&mut self, id: ProbeId, verdict: Verdict, now: Nanos) -> Option<F> {
        let (entry, index) = self.table.find(id)?;
        let in_flight = entry.take_in_flight(index)?;
        entry.record_verdict(index, verdict, now);
        self.report_and_rearm(id.slot);
        Some(in_flight)
    }

    /// Takes the new outcomes; those of one check are in start order.
    pub fn take_reports(&mut self) -> impl Iterator<Item = OutcomeReport> {
        self.reports.drain(..)
    }

    /// Returns the latest time for the next iteration, if no socket event comes first.
    pub fn next_wakeup(&self, now: Nanos) -> Nanos {
        let start = match (self.ready.has_deferred(), self.ready.is_empty()) {
            (true, _) => now,
            (false, true) => Nanos::MAX,
            (false, false) => now + RATE_WAIT,
        };
        self.wheel.next_expiry().unwrap_or(Nanos::MAX).min(start)
    }

    /// Returns an address whose limit delayed a check since the last call.
    pub const fn take_delayed_address(&mut self) -> Option<IpAddr> {
        self.limiter.take_delayed_address()
    }

    /// Returns the counters of started and delayed probes, and their lateness. Other counters are 0.
    pub fn stats(&self) -> &ProberStats {
        &self.stats
    }

    fn time_out_overdue(
        &mut self,
        slot: u32,
        now: Nanos,
        timeout_verdict: &mut impl FnMut(&mut P, F, Nanos) -> Verdict,
    ) {
        let Some(entry) = self.table.entry_mut(slot) else { return };
        for index in 0..entry.probes.len() {
            let ProbeRecord { started, deadline, .. } = entry.probes[index];
            let overdue = if deadline <= now { entry.take_in_flight(index) } else { None };
            let Some(in_flight) = overdue else { continue };
            let verdict = timeout_verdict(&mut entry.plan, in_flight, started);
            let is_stalled = started <= self.last_stall;
            let verdict = if is_stalled { Verdict::new(OutcomeCode::Local, STALLED_DETAIL) } else { verdict };
            entry.record_verdict(index, verdict, now);
        }
    }

    fn mark_due(&mut self, slot: u32, now: Nanos) {
        let Some(entry) = self.table.entry_mut(slot) else { return };
        let Some(start) = entry.start_at().filter(|start| *start <= now) else { return };
        entry.due = start;
        if now.saturating_sub(entry.due) > STALL {
            entry.due = self.jitter.first_start(now, entry.interval);
            self.stats.delayed_by_stall += 1;
        } else {
            entry.is_ready = true;
            self.ready.push(slot);
        }
    }

    /// Starts a probe of the check in a slot. Returns false if the caller deferred it.
    fn start_check(
        &mut self,
        slot: u32,
        now: Nanos,
        start: impl FnOnce(ProbeId, &Check, &mut P) -> StartResult<F>,
    ) -> bool {
        let id = self.table.next_probe_id(slot);
        let Some(entry) = self.table.entry_mut(slot) else { return true };
        let (in_flight, result) = match start(id, &entry.check, &mut entry.plan) {
            StartResult::InFlight(in_flight) => (Some(in_flight), None),
            StartResult::Finished(verdict) => (None, Some((Duration::ZERO, verdict))),
            StartResult::Deferred => return false,
        };
        entry.is_ready = false;
        entry.not_before = 0;
        entry.seq += 1;
        self.stats.probes += 1;
        self.stats.lateness.record(now.saturating_sub(entry.due));
        // Lateness within the jitter is caught up, so that the mean interval holds. More than that is not.
        entry.last_due = entry.due.max(now.saturating_sub(nanos(entry.interval) / 10));
        entry.due = self.jitter.next_start(entry.last_due, entry.interval);
        entry.due_fast = self.jitter.next_start(entry.last_due, entry.check.fast_interval);
        let timeout = nanos(entry.timeout());
        entry.unanswered = if in_flight.is_some() { entry.unanswered + 1 } else { 0 };
        entry.probes.push_back(ProbeRecord { started: now, deadline: now + timeout, in_flight, result });
        self.table.set_newest(id);
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
        match self.table.entry(slot).and_then(ScheduledCheck::next_timer) {
            Some(at) => self.wheel.set(slot, at),
            None => self.wheel.cancel(slot),
        }
    }

    /// Sets an interval, counted from the last start. The next probe starts no earlier than now.
    fn set_interval(&mut self, slot: u32, interval: Duration, now: Nanos) {
        let Some(entry) = self.table.entry_mut(slot).filter(|entry| entry.interval != interval) else {
            return;
        };
        entry.interval = interval;
        entry.due = match entry.seq {
            0 => entry.due.min(self.jitter.first_start(now, interval)),
            _ => self.jitter.next_start(entry.last_due, interval).max(now),
        };
        self.report_and_rearm(slot);
    }
}

#[cfg(test)]
mod tests;
