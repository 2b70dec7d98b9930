//! When probes start, jitter included.

use std::time::Duration;

use super::timer_wheel::TICK;
use crate::clock::{Nanos, nanos};

/// Starts fall on multiples of this, so that one wake-up serves many: a wake-up costs as much as a probe.
const LAUNCH_GRAIN: Nanos = 4 * TICK;
/// First probes are spread over the interval, but over no more than this.
const MAX_SPREAD: Duration = Duration::from_secs(1);

/// Draws the times of probes.
#[derive(Debug)]
pub struct Jitter(fastrand::Rng);

impl Jitter {
    /// The same seed draws the same times.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// When a check of that interval is probed for the first time: the first probes of many make no burst.
    pub fn first(&mut self, now: Nanos, interval: Duration) -> Nanos {
        now + self.0.u64(0..=nanos(interval.min(MAX_SPREAD)))
    }

    /// When the probe after the one that started at `start` is due: the interval later, ±10 %, at the nearest grain.
    pub fn next(&mut self, start: Nanos, interval: Duration) -> Nanos {
        let interval = nanos(interval);
        let due = start + interval - interval / 10 + self.0.u64(0..=interval / 5);
        (due + LAUNCH_GRAIN / 2) / LAUNCH_GRAIN * LAUNCH_GRAIN
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Nanos = 1_000_000;

    proptest! {
        #[test]
        fn jitter_stays_within_a_tenth(seed: u64, ms in 10u64..3_600_000) {
            let interval = Duration::from_millis(ms);
            let due = Jitter::new(seed).next(0, interval);
            let (low, high) = (ms * MS * 9 / 10, ms * MS * 11 / 10);
            prop_assert!(due + LAUNCH_GRAIN / 2 >= low && due <= high + LAUNCH_GRAIN / 2);
        }

        #[test]
        fn first_probes_are_spread_over_the_interval_or_a_second(seed: u64, ms in 10u64..3_600_000) {
            let first = Jitter::new(seed).first(7, Duration::from_millis(ms));
            prop_assert!((7..=7 + ms.min(1000) * MS).contains(&first));
        }
    }

    #[test]
    fn the_mean_interval_is_the_one_asked_for() {
        let mut jitter = Jitter::new(1);
        let end = (0..10_000).fold(0, |start, _| jitter.next(start, Duration::from_millis(500)));
        let mean = end / 10_000;
        assert!((499 * MS..=501 * MS).contains(&mean), "{mean}");
    }
}
