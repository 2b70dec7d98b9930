//! How long a check's probes take, and what follows for its time-out: a few numbers per check.

use std::time::Duration;

use crate::clock::Nanos;

/// How many answers it takes to know anything.
const KNOWN: u8 = 4;
/// A server that becomes ten times slower than it usually is still answers in time, though the mean is somewhat off.
const SLACK: u64 = 12;

/// A running mean and mean deviation, as TCP keeps of round trips (RFC 6298).
#[derive(Clone, Copy, Debug, Default)]
pub struct LatencyEstimate {
    samples: u8,
    mean: Nanos,
    deviation: Nanos,
    /// How long those take that make a whole connection, while not all do: most may be far quicker than these. They are few,
    /// so each counts for much.
    whole: Nanos,
    /// Not all do.
    has_short: bool,
}

impl LatencyEstimate {
    /// An answer that passed took so long; `is_short` is one that needed no whole connection.
    pub fn sample(&mut self, took: Nanos, is_short: bool) {
        self.has_short |= is_short;
        if !is_short {
            self.whole = if self.whole == 0 { took } else { self.whole / 2 + took / 2 };
        }
        if self.samples == 0 {
            (self.mean, self.deviation) = (took, took / 2);
        } else {
            let off = took.abs_diff(self.mean);
            self.deviation = self.deviation - self.deviation / 4 + off / 4;
            self.mean = self.mean - self.mean / 8 + took / 8;
        }
        self.samples = (self.samples + 1).min(KNOWN);
    }

    /// Answers seldom take longer than this; `None` while too little is known.
    pub fn usual(&self) -> Option<Nanos> {
        (self.samples >= KNOWN).then(|| self.mean.saturating_add(self.deviation.saturating_mul(4)))
    }

    /// A time-out for the next probe, within `min` and `max`. It doubles with each probe that is not answered, as TCP's
    /// does: what misses it can never be measured, so it must come to meet a server that has become slower still.
    pub fn timeout(&self, min: Duration, max: Duration, unanswered: u32) -> Duration {
        let Some(usual) = self.usual() else { return max };
        let mean = if self.has_short { self.mean.max(self.whole) } else { self.mean };
        let calm = usual.max(mean.saturating_mul(SLACK));
        let doubled = Duration::from_nanos(calm).max(min).saturating_mul(1 << unanswered.min(16));
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
        samples.into_iter().for_each(|took| latency.sample(took, false));
        latency
    }

    #[test]
    fn little_is_not_enough() {
        let latency = after([MS; KNOWN as usize - 1]);
        assert_eq!((latency.usual(), latency.timeout(MIN, MAX, 0)), (None, MAX));
        assert!(after([MS; KNOWN as usize]).usual().is_some());
    }

    #[test]
    fn it_follows_and_forgets() {
        let mut latency = after([20 * MS; 100]);
        assert_eq!(latency.timeout(MIN, MAX, 0).as_millis(), 240);
        assert!(latency.usual().unwrap() < 21 * MS);
        // One slow answer among many makes the next less suspicious.
        latency.sample(200 * MS, false);
        assert!(latency.usual().unwrap() > 200 * MS);
        (0..100).for_each(|_| latency.sample(MS, false));
        assert_eq!(latency.timeout(MIN, MAX, 0), MIN);
    }

    #[test]
    fn it_doubles_from_its_lower_bound_to_its_upper() {
        let latency = after([MS; 100]);
        assert_eq!([1, 2, 3].map(|n| latency.timeout(MIN, MAX, n)), [MIN * 2, MIN * 4, MIN * 8]);
        assert_eq!(latency.timeout(MIN, MAX, u32::MAX), MAX);
        assert_eq!(after([u64::MAX; 10]).timeout(MIN, MAX, u32::MAX), MAX);
    }

    proptest! {
        /// Whatever was measured before, ten times as long as in a steady run is in time.
        #[test]
        fn ten_times_slower_is_in_time(
            before in proptest::collection::vec(0..3_600_000 * MS, 0..50), usual in 1..1000 * MS, steady in 4usize..200
        ) {
            let before = before.into_iter().filter(|took| *took >= usual);
            let latency = after(before.chain(vec![usual; steady]));
            let timeout = latency.timeout(Duration::ZERO, MAX, 0);
            prop_assert!(timeout >= Duration::from_nanos(usual * 10).min(MAX));
        }
    }
}
