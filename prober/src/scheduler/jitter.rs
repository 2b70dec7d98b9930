//! Start times of probes, with jitter.

use std::time::Duration;

use super::timer_wheel::TICK;
use crate::clock::{Nanos, nanos};

/// Granularity of starts: one wakeup then serves many probes, and a wakeup costs as much as a probe.
const START_GRAIN: Nanos = 4 * TICK;
/// Longest period over which first probes are spread.
const MAX_SPREAD: Duration = Duration::from_secs(1);

/// Draws start times from a seeded generator.
#[derive(Debug)]
pub struct Jitter(fastrand::Rng);

impl Jitter {
    /// Returns a generator; equal seeds draw equal times.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Returns the time of a check's first probe, spread over its interval so that many new checks make no burst.
    pub fn first_start(&mut self, now: Nanos, interval: Duration) -> Nanos {
        now + self.0.u64(0..=nanos(interval.min(MAX_SPREAD)))
    }

    /// Returns the time of the probe after the one at `start`: one interval later, ±10 %, rounded to the granularity.
    pub fn next_start(&mut self, start: Nanos, interval: Duration) -> Nanos {
        let interval = nanos(interval);
        let due = start + interval - interval / 10 + self.0.u64(0..=interval / 5);
        (due + START_GRAIN / 2) / START_GRAIN * START_GRAIN
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Nanos = 1_000_000;

    proptest! {
        #[test]
        fn jitter_stays_within_ten_percent(seed: u64, ms in 10u64..3_600_000) {
            let interval = Duration::from_millis(ms);
            let due = Jitter::new(seed).next_start(0, interval);
            let (low, high) = (ms * MS * 9 / 10, ms * MS * 11 / 10);
            prop_assert!(due + START_GRAIN / 2 >= low && due <= high + START_GRAIN / 2);
        }

        #[test]
        fn first_probes_spread_over_interval_or_second(seed: u64, ms in 10u64..3_600_000) {
            let first = Jitter::new(seed).first_start(7, Duration::from_millis(ms));
            prop_assert!((7..=7 + ms.min(1000) * MS).contains(&first));
        }
    }

    #[test]
    fn mean_interval_is_configured_interval() {
        let mut jitter = Jitter::new(1);
        let end = (0..10_000).fold(0, |start, _| jitter.next_start(start, Duration::from_millis(500)));
        let mean = end / 10_000;
        assert!((499 * MS..=501 * MS).contains(&mean), "{mean}");
    }
}
