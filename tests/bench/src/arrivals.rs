//! When probes arrived, and how long each backend had waited for its one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// What is known of arrivals.
#[derive(Debug)]
pub struct Arrivals(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// When the last one of each backend arrived; 0 is never.
    last: Vec<u64>,
    /// In ns, since [`Arrivals::begin`].
    gaps: Vec<u64>,
}

impl Arrivals {
    /// None, at so many backends.
    #[must_use]
    pub fn new(backends: usize) -> Self {
        Self(Mutex::new(Known { last: vec![0; backends], gaps: Vec::new() }))
    }

    /// One arrived for `backend` at `at`, by [`now`]'s clock.
    pub fn saw(&self, backend: u32, at: u64) {
        let mut known = self.known();
        let Known { last, gaps } = &mut *known;
        let Some(last) = last.get_mut(backend as usize) else { return };
        if *last > 0 {
            gaps.push(at.saturating_sub(*last));
        }
        *last = at;
    }

    /// Forgets the times between arrivals so far.
    pub fn begin(&self) {
        self.known().gaps.clear();
    }

    /// Forgets all.
    pub fn forget(&self) {
        let mut known = self.known();
        known.last.fill(0);
        known.gaps.clear();
    }

    /// The times between two arrivals at one backend since [`Self::begin`], the shortest first.
    #[must_use]
    pub fn gaps(&self) -> Vec<Duration> {
        let mut gaps: Vec<_> = self.known().gaps.iter().map(|&gap| Duration::from_nanos(gap)).collect();
        gaps.sort_unstable();
        gaps
    }

    /// Whoever panicked with it had nothing half done.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time by the clock that the kernel stamps packets with, in ns.
#[must_use]
pub fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_between_two_arrivals_at_one_backend() {
        let arrivals = Arrivals::new(2);
        arrivals.saw(0, 1_000);
        arrivals.saw(1, 1_500);
        arrivals.begin();
        arrivals.saw(0, 4_000);
        arrivals.saw(1, 2_500);
        arrivals.saw(7, 2_500);
        assert_eq!(arrivals.gaps(), [1_000, 3_000].map(Duration::from_nanos));
    }
}
