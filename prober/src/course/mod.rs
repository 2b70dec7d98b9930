//! What is probed when, and what came of it: all that a prober decides. Told the time, it knows no clock and no
//! socket, nor what a probe is; it begins with a seed, and the same inputs give the same outputs.
//!
//! `P` is what whoever probes keeps with a check, `F` what it keeps with a probe in flight. Its turn, in this order:
//! [`Course::woken`], [`Course::end`] for all that is over, [`Course::expire`], [`Course::launch`] until there is nothing
//! left, [`Course::told`]; and [`Course::next`] says when the next turn is wanted.

mod held;
mod history;
mod latency;
mod pace;
mod rate;
mod table;
mod wheel;

use std::collections::VecDeque;
use std::time::Duration;

use maglev_ipc::{Check, CheckId, Code, Stats, Streak};

use crate::clock::{Nanos, nanos};
use crate::probe::Verdict;
use held::{Held, Probe};
pub use held::{Member, Told};
use pace::Pace;
use rate::Rate;
use table::Table;
pub use table::{Change, Key};
use wheel::Wheel;

/// A turn that begins so much late shows that this host had stopped us. What timed out meanwhile may have been
/// answered in a buffer that overflowed, so it is no verdict; and what fell due meanwhile is spread anew.
const STALL: Nanos = 250_000_000;
/// What such a time-out says.
const STOPPED: &str = "this host had stopped the prober";
/// How long a probe that was put off by the rate waits for the next turn.
const RATE_WAIT: Nanos = 1_000_000;

/// The checks in force, and their probes.
#[derive(Debug)]
pub struct Course<P, F> {
    table: Table<P, F>,
    wheel: Wheel,
    pace: Pace,
    rate: Rate,
    /// Slots of checks that are due, in the order in which they fell due.
    ready: VecDeque<u32>,
    /// How many of them fell due in this turn.
    fresh: usize,
    /// Slots of checks that are due and were put off by whoever probes, in that order.
    later: VecDeque<u32>,
    /// One of them was put off in this turn.
    is_late: bool,
    /// When the last stall ended.
    stalled: Nanos,
    stats: Stats,
    told: Vec<Told>,
    expired: Vec<u32>,
}

/// What became of a probe that was to start.
#[derive(Debug)]
pub enum Start<F> {
    /// It is in flight.
    Flying(F),
    /// It is over.
    Over(Verdict),
    /// Nothing: it is to be started in another turn, with the first.
    Later,
}

impl<F> From<Result<F, Verdict>> for Start<F> {
    fn from(result: Result<F, Verdict>) -> Self {
        result.map_or_else(Self::Over, Self::Flying)
    }
}

impl<P, F> Course<P, F> {
    /// Without checks. `seed` draws the jitter, `rate` is how many probes a second may start.
    pub fn new(seed: u64, rate: u32, now: Nanos) -> Self {
        Self {
            table: Table::default(),
            wheel: Wheel::new(now),
            pace: Pace::new(seed),
            rate: Rate::new(rate, now),
            ready: VecDeque::new(),
            fresh: 0,
            later: VecDeque::new(),
            is_late: false,
            stalled: 0,
            stats: Stats::default(),
            told: Vec::new(),
            expired: Vec::new(),
        }
    }

    /// Puts a set in force. Probes in flight of checks that are gone are dropped.
    pub fn replace(&mut self, members: Vec<Member<P>>, now: Nanos) -> Change<F> {
        let change = self.table.replace(members);
        self.follow(&change, now);
        change
    }

    /// Takes the checks `gone` out of the set in force, with their probes in flight, and puts `members` in it.
    pub fn amend(&mut self, gone: &[CheckId], members: Vec<Member<P>>, now: Nanos) -> Change<F> {
        let change = self.table.amend(gone, members);
        self.follow(&change, now);
        change
    }

    fn follow(&mut self, change: &Change<F>, now: Nanos) {
        for slot in &change.dropped {
            self.wheel.cancel(*slot);
        }
        for slot in &change.added {
            if let Some(held) = self.table.held_mut(*slot) {
                held.due = self.pace.first(now, held.interval);
                self.wheel.set(*slot, held.due);
            }
        }
        for (slot, interval) in &change.kept {
            self.set_interval(*slot, *interval, now);
        }
    }

    /// Gives checks new intervals. Those that are gone since the controller named them are passed over: it may not
    /// know yet.
    pub fn set_paces(&mut self, paces: &[(CheckId, Duration)], now: Nanos) {
        for (id, interval) in paces {
            if let Some(slot) = self.table.slot(*id) {
                self.set_interval(slot, *interval, now);
            }
        }
    }

    /// What is known of the checks in `slots`.
    pub fn streaks(&self, slots: impl Iterator<Item = u32>) -> impl Iterator<Item = Streak> {
        slots.filter_map(|slot| self.table.held(slot)).filter_map(|held| held.history.streak(held.id))
    }

    /// A turn begins, which was to begin at `planned`.
    pub fn woken(&mut self, planned: Nanos, now: Nanos) {
        if now.saturating_sub(planned) > STALL {
            self.stalled = now;
        }
    }

    /// Gives up probes that are overdue, and finds what is due. `give_up` says what an overdue probe, which started then,
    /// waited for.
    pub fn expire(&mut self, now: Nanos, mut give_up: impl FnMut(&mut P, F, Nanos) -> Verdict) {
        self.rate.refill(now);
        self.is_late = false;
        let before = self.ready.len();
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(now, &mut expired);
        for slot in expired.drain(..) {
            self.give_up(slot, now, &mut give_up);
            self.tell(slot);
            self.fall_due(slot, now);
            self.set_timer(slot);
        }
        self.expired = expired;
        self.fresh = self.ready.len() - before;
    }

    /// Starts the next probe that is due, if the rate allows one: `start` says what became of it. Returns whether there
    /// may be more.
    pub fn launch(&mut self, now: Nanos, start: impl FnOnce(Key, &Check, &mut P) -> Start<F>) -> bool {
        loop {
            // Those that were put off come first, until one of them is again.
            let from_later = !self.is_late && !self.later.is_empty();
            let queue = if from_later { &mut self.later } else { &mut self.ready };
            let Some(slot) = queue.front().copied() else { return false };
            if !self.table.held(slot).is_some_and(|held| held.ready) {
                // It left after it fell due.
                queue.pop_front();
                continue;
            }
            if !self.rate.take() {
                self.stats.rate += std::mem::take(&mut self.fresh).min(self.ready.len()) as u64;
                return false;
            }
            queue.pop_front();
            if self.begin(slot, now, start) {
                self.settle(slot);
                return true;
            }
            self.rate.give_back();
            self.is_late = true;
            if from_later {
                self.later.push_front(slot);
            } else {
                self.later.push_back(slot);
            }
            return true;
        }
    }

    /// The check in a slot.
    pub fn check(&mut self, slot: u32) -> Option<(&Check, &mut P)> {
        self.table.held_mut(slot).map(|held| (&held.check, &mut held.plan))
    }

    /// All checks in force.
    pub fn checks(&self) -> impl Iterator<Item = (&Check, &P)> {
        self.table.all().map(|held| (&held.check, &held.plan))
    }

    /// A probe that is in flight.
    pub fn flight(&mut self, key: Key) -> Option<(&mut P, &mut F)> {
        let (held, index) = self.table.find(key)?;
        let flight = held.probes.get_mut(index)?.flight.as_mut()?;
        Some((&mut held.plan, flight))
    }

    /// The probe of the check in a slot that is in flight and that `wanted` knows.
    pub fn find(&self, slot: u32, wanted: impl Fn(&F) -> bool) -> Option<Key> {
        let mut probes = self.table.held(slot)?.probes.iter();
        let index = probes.position(|probe| probe.flight.as_ref().is_some_and(&wanted))?;
        self.table.key(slot, index)
    }

    /// Ends a probe, and returns it if it was in flight.
    pub fn end(&mut self, key: Key, verdict: Verdict, now: Nanos) -> Option<F> {
        let (held, index) = self.table.find(key)?;
        let flight = held.land(index)?;
        held.judge(index, verdict, now);
        self.settle(key.slot);
        Some(flight)
    }

    /// Takes the outcomes that can be told, those of each check in the order in which its probes started.
    pub fn told(&mut self) -> impl Iterator<Item = Told> {
        self.told.drain(..)
    }

    /// When there is something to do at the latest, if nothing happens before.
    pub fn next(&self, now: Nanos) -> Nanos {
        let launch = match (self.is_late, self.ready.is_empty() && self.later.is_empty()) {
            (true, _) => now,
            (false, true) => Nanos::MAX,
            (false, false) => now + RATE_WAIT,
        };
        self.wheel.next().unwrap_or(Nanos::MAX).min(launch)
    }

    /// Probes started and put off, and how late they were; all else is left at 0.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    fn give_up(&mut self, slot: u32, now: Nanos, give_up: &mut impl FnMut(&mut P, F, Nanos) -> Verdict) {
        let Some(held) = self.table.held_mut(slot) else { return };
        for index in 0..held.probes.len() {
            let Probe { started, deadline, .. } = held.probes[index];
            let overdue = if deadline <= now { held.land(index) } else { None };
            let Some(flight) = overdue else { continue };
            let waited = give_up(&mut held.plan, flight, started);
            let stalled = started <= self.stalled;
            held.judge(index, if stalled { Verdict::new(Code::Local, STOPPED) } else { waited }, now);
        }
    }

    fn fall_due(&mut self, slot: u32, now: Nanos) {
        let Some(held) = self.table.held_mut(slot) else { return };
        let Some(start) = held.start_at().filter(|start| *start <= now) else { return };
        held.due = start;
        if now.saturating_sub(held.due) > STALL {
            held.due = self.pace.first(now, held.interval);
            self.stats.stalled += 1;
        } else {
            held.ready = true;
            self.ready.push_back(slot);
        }
    }

    /// Returns whether the probe has begun.
    fn begin(&mut self, slot: u32, now: Nanos, start: impl FnOnce(Key, &Check, &mut P) -> Start<F>) -> bool {
        let key = self.table.next_key(slot);
        let Some(held) = self.table.held_mut(slot) else { return true };
        let (flight, end) = match start(key, &held.check, &mut held.plan) {
            Start::Flying(flight) => (Some(flight), None),
            Start::Over(verdict) => (None, Some((Duration::ZERO, verdict))),
            Start::Later => return false,
        };
        held.ready = false;
        held.seq += 1;
        self.stats.probes += 1;
        self.stats.lateness.count(now.saturating_sub(held.due));
        // Lateness within the jitter is caught up, so that the mean interval holds; more than that is forgotten.
        held.slated = held.due.max(now.saturating_sub(nanos(held.interval) / 10));
        held.due = self.pace.next(held.slated, held.interval);
        held.hurried = self.pace.next(held.slated, held.check.fast);
        let timeout = nanos(held.timeout());
        held.unanswered = if flight.is_some() { held.unanswered + 1 } else { 0 };
        held.probes.push_back(Probe { started: now, deadline: now + timeout, flight, end });
        self.table.advance(key);
        true
    }

    fn settle(&mut self, slot: u32) {
        self.tell(slot);
        self.set_timer(slot);
    }

    fn tell(&mut self, slot: u32) {
        if let Some(held) = self.table.held_mut(slot) {
            self.told.extend(std::iter::from_fn(|| held.tell()));
        }
    }

    fn set_timer(&mut self, slot: u32) {
        match self.table.held(slot).and_then(Held::wake_at) {
            Some(at) => self.wheel.set(slot, at),
            None => self.wheel.cancel(slot),
        }
    }

    /// The next probe follows the new interval, counted from the last start, and not before now.
    fn set_interval(&mut self, slot: u32, interval: Duration, now: Nanos) {
        let Some(held) = self.table.held_mut(slot).filter(|held| held.interval != interval) else { return };
        held.interval = interval;
        held.due = match held.seq {
            0 => held.due.min(self.pace.first(now, interval)),
            _ => self.pace.next(held.slated, interval).max(now),
        };
        self.settle(slot);
    }
}

#[cfg(test)]
mod tests;
