//! Arrival times of probes and the gaps between them, per backend.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Recorded arrivals.
#[derive(Debug)]
pub struct Arrivals(Mutex<ArrivalLog>);

#[derive(Debug)]
struct ArrivalLog {
    /// Last arrival at each backend; 0 for none.
    last: Vec<u64>,
    /// Gaps in ns since [`Arrivals::begin`].
    gaps: Vec<u64>,
}

impl Arrivals {
    /// Returns an empty record for that number of backends.
    #[must_use]
    pub fn new(backends: usize) -> Self {
        Self(Mutex::new(ArrivalLog { last: vec![0; backends], gaps: Vec::new() }))
    }

    /// Records an arrival at `backend` at time `at` of [`now`]'s clock.
    pub fn saw(&self, backend: u32, at: u64) {
        let mut known = self.known();
        let ArrivalLog { last, gaps } = &mut *known;
        let Some(last) = last.get_mut(backend as usize) else { return };
        if *last > 0 {
            gaps.push(at.saturating_sub(*last));
        }
        *last = at;
    }

    /// Clears the recorded gaps.
    pub fn begin(&self) {
        self.known().gaps.clear();
    }

    /// Clears everything.
    pub fn forget(&self) {
        let mut known = self.known();
        known.last.fill(0);
        known.gaps.clear();
    }

    /// Returns the gaps since [`Self::begin`], ascending.
    #[must_use]
    pub fn gaps(&self) -> Vec<Duration> {
        let mut gaps: Vec<_> = self.known().gaps.iter().map(|&gap| Duration::from_nanos(gap)).collect();
        gaps.sort_unstable();
        gaps
    }

    /// Locks the record. No update can be half done, so poisoning is ignored.
    fn known(&self) -> MutexGuard<'_, ArrivalLog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the time of the clock that stamps packets, in ns.
#[must_use]
pub fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_per_backend() {
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
