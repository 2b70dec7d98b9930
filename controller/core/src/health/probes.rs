//! What came of a backend's probes, counted for whoever draws it.

use core::time::Duration;

use maglev_ipc::OutcomeCode;

/// How many of a backend's probes came to what, and how long they took. It is kept with the backend, as each outcome looks
/// at both.
// In this order, so that what a quick pass counts in is close together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct ProbeCounters {
    /// How long all of them took together, in nanoseconds.
    nanos: u64,
    codes: [u64; OutcomeCode::ALL.len()],
    buckets: [u64; ProbeCounters::BOUNDS.len() + 1],
}

impl ProbeCounters {
    /// The upper bounds of the durations that are told apart, in nanoseconds.
    pub const BOUNDS: [u64; 11] = [
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
    pub fn count(&mut self, code: OutcomeCode, duration: Duration) {
        self.codes[code as usize] += 1;
        // Nothing went over the wire that could have taken time.
        if matches!(code, OutcomeCode::Static | OutcomeCode::Local) {
            return;
        }
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[Self::BOUNDS.partition_point(|bound| *bound < nanos)] += 1;
        self.nanos = self.nanos.saturating_add(nanos);
    }

    /// How many came to `code`.
    #[must_use]
    pub const fn of(&self, code: OutcomeCode) -> u64 {
        self.codes[code as usize]
    }

    /// How many took no longer than each of [`Self::BOUNDS`], but longer than the one before; the last are those beyond
    /// all of them.
    #[must_use]
    pub const fn buckets(&self) -> &[u64; Self::BOUNDS.len() + 1] {
        &self.buckets
    }

    /// How long all of them took together.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_belongs_to_its_code_and_to_the_bucket_up_to_its_bound() {
        let mut probes = ProbeCounters::default();
        for nanos in [0, 1_000_000, 1_000_001, 2_500_000_000, u64::MAX] {
            probes.count(OutcomeCode::L7Ok, Duration::from_nanos(nanos));
        }
        probes.count(OutcomeCode::Local, Duration::from_secs(1));
        assert_eq!(
            (probes.of(OutcomeCode::L7Ok), probes.of(OutcomeCode::Local), probes.of(OutcomeCode::L4Tout)),
            (5, 1, 0)
        );
        assert_eq!(probes.buckets(), &[2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(probes.duration(), Duration::from_nanos(u64::MAX));
    }
}
