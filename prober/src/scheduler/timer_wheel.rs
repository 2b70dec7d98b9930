//! One timer per slot.

use crate::clock::Nanos;

/// Resolution of timers; epoll cannot wait for less.
pub const TICK: Nanos = 1_000_000;
/// Number of buckets, a power of two. Timers more than one revolution away stay in their bucket until they are due.
const BUCKETS: usize = 4096;
/// End of a list.
const NONE: u32 = u32::MAX;

/// A hashed timer wheel (Varghese and Lauck, scheme 6), with one timer per slot: setting and cancelling take constant
/// time.
///
/// ```
/// use maglevd_prober::scheduler::timer_wheel::{TICK, TimerWheel};
///
/// let mut wheel = TimerWheel::new(0);
/// wheel.set(7, 5 * TICK);
/// wheel.set(8, 9 * TICK);
/// wheel.cancel(8);
/// assert_eq!(wheel.next_expiry(), Some(5 * TICK));
///
/// let mut expired = Vec::new();
/// wheel.expire(5 * TICK, &mut expired);
/// assert_eq!(expired, [7]);
/// assert_eq!(wheel.next_expiry(), None);
/// ```
#[derive(Debug)]
pub struct TimerWheel {
    /// All timers up to this tick have expired.
    tick: u64,
    heads: Vec<u32>,
    /// One bit per bucket, set if the bucket has timers.
    occupied: [u64; BUCKETS / 64],
    timers: Vec<SlotTimer>,
}

#[derive(Clone, Copy, Debug)]
struct SlotTimer {
    at: u64,
    next: u32,
    previous: u32,
    is_set: bool,
}

const UNSET: SlotTimer = SlotTimer { at: 0, next: NONE, previous: NONE, is_set: false };

impl TimerWheel {
    /// Returns a wheel without timers.
    pub fn new(now: Nanos) -> Self {
        Self { tick: now / TICK, heads: vec![NONE; BUCKETS], occupied: [0; BUCKETS / 64], timers: Vec::new() }
    }

    /// Sets the timer of `slot`, replacing an earlier one. It never expires before `at`.
    pub fn set(&mut self, slot: u32, at: Nanos) {
        self.cancel(slot);
        let index = slot as usize;
        if index >= self.timers.len() {
            self.timers.resize(index + 1, UNSET);
        }
        let at = at.div_ceil(TICK).max(self.tick + 1);
        let bucket = bucket(at);
        let next = std::mem::replace(&mut self.heads[bucket], slot);
        if next != NONE {
            self.timers[next as usize].previous = slot;
        }
        self.timers[index] = SlotTimer { at, next, previous: NONE, is_set: true };
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
    }

    /// Cancels the timer of `slot`, if it is set.
    pub fn cancel(&mut self, slot: u32) {
        let Some(timer) = self.timers.get_mut(slot as usize).filter(|timer| timer.is_set) else { return };
        let SlotTimer { at, next, previous, .. } = std::mem::replace(timer, UNSET);
        if next != NONE {
            self.timers[next as usize].previous = previous;
        }
        if previous != NONE {
            self.timers[previous as usize].next = next;
            return;
        }
        let bucket = bucket(at);
        self.heads[bucket] = next;
        if next == NONE {
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        }
    }

    /// Appends to `expired` the slots whose timers have expired by `now`, and clears their timers.
    pub fn expire(&mut self, now: Nanos, expired: &mut Vec<u32>) {
        let until = now / TICK;
        let revolution = self.tick + BUCKETS as u64;
        for tick in self.tick + 1..=until.min(revolution) {
            let mut slot = self.heads[bucket(tick)];
            while slot != NONE {
                let SlotTimer { at, next, .. } = self.timers[slot as usize];
                if at <= until {
                    self.cancel(slot);
                    expired.push(slot);
                }
                slot = next;
            }
        }
        self.tick = self.tick.max(until);
    }

    /// Returns a time before which no timer expires. It may be early for timers more than one revolution away.
    pub fn next_expiry(&self) -> Option<Nanos> {
        let start = bucket(self.tick + 1);
        let (word, bit) = (start / 64, start % 64);
        let words = self.occupied.len();
        let ahead = self.occupied[word] & (u64::MAX << bit);
        let behind = self.occupied[word] & !(u64::MAX << bit);
        let found = std::iter::once((0, ahead))
            .chain((1..words).map(|i| (i, self.occupied[(word + i) % words])))
            .chain(std::iter::once((words, behind)))
            .find(|(_, bits)| *bits != 0);
        found.map(|(i, bits)| {
            let distance = i * 64 + bits.trailing_zeros() as usize - bit;
            (self.tick + 1 + distance as u64) * TICK
        })
    }
}

fn bucket(tick: u64) -> usize {
    (tick % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Nanos = 1_000_000;

    proptest! {
        /// Compares the wheel with a plain list of times.
        #[test]
        fn wheel_matches_list_of_times(
            steps in proptest::collection::vec((0u32..20, 0u64..12_000, 0u8..4), 1..200)
        ) {
            let (mut wheel, mut now) = (TimerWheel::new(5 * MS), 5 * MS);
            let mut model: Vec<Option<Nanos>> = vec![None; 20];
            for (slot, delay, what) in steps {
                match what {
                    0 | 1 => {
                        wheel.set(slot, now + delay * MS);
                        model[slot as usize] = Some((now + delay * MS).max(now + MS));
                    }
                    2 => {
                        wheel.cancel(slot);
                        model[slot as usize] = None;
                    }
                    _ => {
                        now += delay * MS;
                        let mut expired = Vec::new();
                        wheel.expire(now, &mut expired);
                        expired.sort_unstable();
                        let due: Vec<u32> =
                            (0..20).filter(|s| model[*s as usize].is_some_and(|at| at <= now)).collect();
                        prop_assert_eq!(&expired, &due);
                        for slot in due {
                            model[slot as usize] = None;
                        }
                    }
                }
                let earliest = model.iter().flatten().min().copied();
                prop_assert_eq!(wheel.next_expiry().is_some(), earliest.is_some());
                if let (Some(next), Some(earliest)) = (wheel.next_expiry(), earliest) {
                    prop_assert!(now < next && next <= earliest);
                }
            }
        }
    }
}
