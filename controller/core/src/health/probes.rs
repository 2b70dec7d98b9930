//! Counters of a backend's probes.

use core::time::Duration;

use maglev_ipc::OutcomeCode;

/// Counters of one backend's probes by outcome, with a histogram of their durations. They are stored with the backend, as
/// each outcome touches both. The bounds live here and not in the metrics: the core sorts each duration as it arrives.
// In this order, so that the fields of a quick pass share a cache line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct ProbeCounters {
    /// Sum of all durations, in nanoseconds.
    total_ns: u64,
    codes: [u64; OutcomeCode::ALL.len()],
    buckets: [u64; ProbeCounters::BOUNDS_NS.len() + 1],
}

impl ProbeCounters {
    /// Upper bounds of the histogram's buckets, in nanoseconds.
    pub const BOUNDS_NS: [u64; 11] = [
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
    ];

    /// Counts a probe.
    pub fn record(&mut self, code: OutcomeCode, duration: Duration) {
        self.codes[code as usize] += 1;
        // These probes sent no packet, so they have no duration.
        if matches!(code, OutcomeCode::Static | OutcomeCode::Local) {
            return;
        }
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[Self::BOUNDS_NS.partition_point(|bound| *bound < nanos)] += 1;
        self.total_ns = self.total_ns.saturating_add(nanos);
    }

    /// Returns the number of probes with outcome `code`.
    #[must_use]
    pub const fn count(&self, code: OutcomeCode) -> u64 {
        self.codes[code as usize]
    }

    /// Returns the number of probes per bucket. Bucket `i` covers durations above bound `i - 1`, up to and including bound
    /// `i` of [`Self::BOUNDS_NS`]; the last bucket has no upper bound.
    #[must_use]
    pub const fn buckets(&self) -> &[u64; Self::BOUNDS_NS.len() + 1] {
        &self.buckets
    }

    /// Returns the sum of all durations.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        Duration::from_nanos(self.total_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_counts_in_bucket_up_to_bound() {
        let mut probes = ProbeCounters::default();
        for nanos in [0, 1_000_000, 1_000_001, 2_500_000_000, u64::MAX] {
            probes.record(OutcomeCode::L7Ok, Duration::from_nanos(nanos));
        }
        probes.record(OutcomeCode::Local, Duration::from_secs(1));
        assert_eq!(
            (
                probes.count(OutcomeCode::L7Ok),
                probes.count(OutcomeCode::Local),
                probes.count(OutcomeCode::L4Tout)
            ),
            (5, 1, 0)
        );
        assert_eq!(probes.buckets(), &[2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(probes.duration(), Duration::from_nanos(u64::MAX));
    }
}
