//! The bound on probes a second.

use crate::clock::Nanos;

/// A token bucket.
#[derive(Debug)]
pub struct RateLimiter {
    per_second: u64,
    /// In billionths of a probe.
    credit: u64,
    refilled: Nanos,
}

/// What one probe costs.
const PROBE: u64 = 1_000_000_000;

impl RateLimiter {
    /// As many as `per_second`, and never more at once than 50 ms of them.
    pub fn new(per_second: u32, now: Nanos) -> Self {
        Self { per_second: per_second.into(), credit: PROBE, refilled: now }
    }

    /// Lets the time pass.
    pub fn refill(&mut self, now: Nanos) {
        let most = (self.per_second * (PROBE / 20)).max(PROBE);
        let earned = self.per_second.saturating_mul(now.saturating_sub(self.refilled));
        self.credit = self.credit.saturating_add(earned).min(most);
        self.refilled = now;
    }

    /// Whether one more probe may start now.
    pub fn take(&mut self) -> bool {
        let rest = self.credit.checked_sub(PROBE);
        self.credit = rest.unwrap_or(self.credit);
        rest.is_some()
    }

    /// The probe did not start.
    pub fn give_back(&mut self) {
        self.credit = self.credit.saturating_add(PROBE);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Nanos = 1_000_000;

    proptest! {
        #[test]
        fn no_window_sees_more_than_its_rate(per_second in 1u32..10_000, steps in proptest::collection::vec(0u64..50, 1..100)) {
            let (mut rate, mut now, mut taken) = (RateLimiter::new(per_second, 0), 0, 0u64);
            for step in steps {
                now += step * MS;
                rate.refill(now);
                while rate.take() {
                    taken += 1;
                }
            }
            prop_assert!(taken <= 1 + u64::from(per_second) * now / 1_000_000_000);
        }
    }
}
