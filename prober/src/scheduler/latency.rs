//! Probe latency of a check, and the derived timeout.

use std::time::Duration;

use crate::clock::Nanos;

/// Number of samples below which no estimate is made.
const MIN_SAMPLES: u8 = 4;
/// Multiple of the mean that is still in time: a server that becomes ten times slower passes, even if the mean is
/// somewhat off.
const SLOWDOWN: u64 = 12;

/// A running mean and mean deviation, as TCP keeps them of round-trip times (RFC 6298).
#[derive(Clone, Copy, Debug, Default)]
pub struct LatencyEstimate {
    samples: u8,
    mean: Nanos,
    deviation: Nanos,
    /// Latency of probes that set up a connection. They may be rare and far slower than the rest, so each counts for half.
    with_setup: Nanos,
    /// True if some probes skipped the setup.
    has_skipped_setup: bool,
}

impl LatencyEstimate {
    /// Adds the latency of a passed probe.
    pub fn add_sample(&mut self, took: Nanos, skipped_setup: bool) {
        self.has_skipped_setup |= skipped_setup;
        if !skipped_setup {
            self.with_setup = if self.with_setup == 0 { took } else { self.with_setup / 2 + took / 2 };
        }
        if self.samples == 0 {
            (self.mean, self.deviation) = (took, took / 2);
        } else {
            let error = took.abs_diff(self.mean);
            self.deviation = self.deviation - self.deviation / 4 + error / 4;
            self.mean = self.mean - self.mean / 8 + took / 8;
        }
        self.samples = (self.samples + 1).min(MIN_SAMPLES);
    }

    /// Returns the latency that replies seldom exceed, or `None` with too few samples.
    pub fn expected_max(&self) -> Option<Nanos> {
        (self.samples >= MIN_SAMPLES).then(|| self.mean.saturating_add(self.deviation.saturating_mul(4)))
    }

    /// Returns the timeout of the next probe, within `min` and `max`. It doubles with each unanswered probe, as TCP's
    /// does: a reply after the timeout is never measured, so only backoff can reach a server that became slower still.
    pub fn timeout(&self, min: Duration, max: Duration, unanswered: u32) -> Duration {
        let Some(expected) = self.expected_max() else { return max };
        let mean = if self.has_skipped_setup { self.mean.max(self.with_setup) } else { self.mean };
        let base = expected.max(mean.saturating_mul(SLOWDOWN));
        let doubled = Duration::from_nanos(base).max(min).saturating_mul(1 << unanswered.min(16));
        doubled.min(max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Nanos = 1_000_000;
    const MIN: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(60);

    fn after(samples: impl IntoIterator<Item = Nanos>) -> LatencyEstimate {
        let mut latency = LatencyEstimate::default();
        samples.into_iter().for_each(|took| latency.add_sample(took, false));
        latency
    }

    #[test]
    fn too_few_samples_yield_max_timeout() {
        let latency = after([MS; MIN_SAMPLES as usize - 1]);
        assert_eq!((latency.expected_max(), latency.timeout(MIN, MAX, 0)), (None, MAX));
        assert!(after([MS; MIN_SAMPLES as usize]).expected_max().is_some());
    }

    #[test]
    fn estimate_follows_changes_and_forgets() {
        let mut latency = after([20 * MS; 100]);
        assert_eq!(latency.timeout(MIN, MAX, 0).as_millis(), 240);
        assert!(latency.expected_max().unwrap() < 21 * MS);
        // One slow reply among many raises the expectation.
        latency.add_sample(200 * MS, false);
        assert!(latency.expected_max().unwrap() > 200 * MS);
        (0..100).for_each(|_| latency.add_sample(MS, false));
        assert_eq!(latency.timeout(MIN, MAX, 0), MIN);
    }

    #[test]
    fn timeout_doubles_from_min_to_max() {
        let latency = after([MS; 100]);
        assert_eq!([1, 2, 3].map(|n| latency.timeout(MIN, MAX, n)), [MIN * 2, MIN * 4, MIN * 8]);
        assert_eq!(latency.timeout(MIN, MAX, u32::MAX), MAX);
        assert_eq!(after([u64::MAX; 10]).timeout(MIN, MAX, u32::MAX), MAX);
    }

    proptest! {
        /// Ten times the latency of a steady run is in time, for any earlier samples.
        #[test]
        fn tenfold_slowdown_stays_within_timeout(
            before in proptest::collection::vec(0..3_600_000 * MS, 0..50), usual in 1..1000 * MS, steady in 4usize..200
        ) {
            let before = before.into_iter().filter(|took| *took >= usual);
            let latency = after(before.chain(vec![usual; steady]));
            let timeout = latency.timeout(Duration::ZERO, MAX, 0);
            prop_assert!(timeout >= Duration::from_nanos(usual * 10).min(MAX));
        }
    }
}
