//! The rate limiter.

use core::time::Duration;

/// Cost of one token in credit, so that one nanosecond at one token a second earns one unit of credit.
const TOKEN: i64 = 1_000_000_000;

/// A token bucket: admits `rate` events a second in the long run, and a burst after a pause.
///
/// No window of time admits more than `burst + rate × window` events. The bucket reads no clock: times are durations since
/// any fixed moment of a monotonic clock. Credit has a resolution of a billionth of a token, so fractions are kept.
///
/// ```
/// use core::time::Duration;
/// use maglev_time::TokenBucket;
///
/// let second = Duration::from_secs(1);
/// // Two a second, and three seconds' worth at once.
/// let mut bucket = TokenBucket::new(2, 3 * second, Duration::ZERO);
/// assert_eq!((0..10).filter(|_| bucket.take_at(Duration::ZERO)).count(), 6);
/// assert_eq!((0..10).filter(|_| bucket.take_at(second)).count(), 2);
/// // A caller that can wait reserves the next token, and learns the delay.
/// assert_eq!(bucket.reserve(second), second / 2);
/// ```
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// Tokens a second.
    rate: u32,
    /// Largest credit.
    burst: i64,
    /// Negative while reserved tokens are not earned yet.
    credit: i64,
    refilled: Duration,
}

impl TokenBucket {
    /// Creates a full bucket that earns `rate` tokens a second. It holds the tokens that `burst` earns, and at least one.
    #[must_use]
    pub fn new(rate: u32, burst: Duration, now: Duration) -> Self {
        let burst = earned(rate, burst).max(TOKEN);
        Self { rate, burst, credit: burst, refilled: now }
    }

    /// Leaves at most `tokens` in the bucket, for a start without a burst.
    #[must_use]
    pub fn with_tokens(mut self, tokens: u32) -> Self {
        self.credit = self.credit.min(TOKEN.saturating_mul(tokens.into()));
        self
    }

    /// Adds the tokens earned until `now`. A time before the last one earns nothing.
    pub fn refill(&mut self, now: Duration) {
        let earned = earned(self.rate, now.saturating_sub(self.refilled));
        self.credit = self.credit.saturating_add(earned).min(self.burst);
        self.refilled = self.refilled.max(now);
    }

    /// Takes a token without a refill. Returns false, without effect, if there is none.
    pub const fn take(&mut self) -> bool {
        let is_admitted = self.credit >= TOKEN;
        if is_admitted {
            self.credit -= TOKEN;
        }
        is_admitted
    }

    /// Refills, then takes a token. Returns false if there is none.
    pub fn take_at(&mut self, now: Duration) -> bool {
        self.refill(now);
        self.take()
    }

    /// Puts back a token whose event did not happen.
    pub fn refund(&mut self) {
        self.credit = self.credit.saturating_add(TOKEN).min(self.burst);
    }

    /// Returns the number of whole tokens; 0 while reserved or spent tokens are not earned yet.
    #[must_use]
    pub fn balance_at(&mut self, now: Duration) -> u64 {
        self.refill(now);
        (self.credit.max(0) / TOKEN).unsigned_abs()
    }

    /// Takes the tokens of an event whose cost is known only afterwards. They may not be earned yet.
    pub fn charge(&mut self, tokens: u64) {
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_sub(TOKEN.saturating_mul(tokens));
    }

    /// Takes a token that may not be earned yet. Returns the delay after which its event may happen.
    pub fn reserve(&mut self, now: Duration) -> Duration {
        self.refill(now);
        self.credit = self.credit.saturating_sub(TOKEN);
        let debt = self.credit.min(0).unsigned_abs();
        if self.rate == 0 && debt > 0 {
            return Duration::MAX;
        }
        Duration::from_nanos(debt.div_ceil(u64::from(self.rate.max(1))))
    }
}

/// Returns the credit that `time` earns at `rate` tokens a second.
fn earned(rate: u32, time: Duration) -> i64 {
    i64::try_from(time.as_nanos().saturating_mul(rate.into())).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bucket_after_long_pause_admits_one_burst() {
        let mut bucket = TokenBucket::new(1, 10 * SECOND, Duration::ZERO);
        let mut admitted = |now| (0..1000).filter(|_| bucket.take_at(now)).count();
        assert_eq!(admitted(Duration::ZERO), 10);
        assert_eq!(admitted(SECOND - Duration::from_nanos(1)), 0);
        assert_eq!(admitted(SECOND), 1);
        assert_eq!(admitted(3600 * SECOND), 10);
    }

    #[test]
    fn fractions_of_a_token_add_up() {
        let mut bucket = TokenBucket::new(3, SECOND, Duration::ZERO).with_tokens(0);
        let admitted: Vec<_> = (1..=1000).filter(|ms| bucket.take_at(Duration::from_millis(*ms))).collect();
        assert_eq!(admitted, [334, 667, 1000]);
    }

    #[test]
    fn refund_restores_one_token_within_burst() {
        let mut bucket = TokenBucket::new(1, SECOND, Duration::ZERO);
        assert!(bucket.take() && !bucket.take());
        bucket.refund();
        bucket.refund();
        assert!(bucket.take() && !bucket.take());
    }

    #[test]
    fn reservations_follow_at_the_rate() {
        let mut bucket = TokenBucket::new(2, SECOND, Duration::ZERO);
        let delays: Vec<_> = (0..5).map(|_| bucket.reserve(Duration::ZERO)).collect();
        let half = SECOND / 2;
        assert_eq!(delays, [Duration::ZERO, Duration::ZERO, half, SECOND, half * 3]);
        assert_eq!(TokenBucket::new(0, SECOND, Duration::ZERO).with_tokens(0).reserve(SECOND), Duration::MAX);
    }

    #[test]
    fn charge_beyond_credit_is_earned_back() {
        let mut bucket = TokenBucket::new(2, 5 * SECOND, Duration::ZERO);
        bucket.charge(4);
        assert_eq!(bucket.balance_at(Duration::ZERO), 6);
        bucket.charge(10);
        assert_eq!(bucket.balance_at(SECOND), 0);
        assert_eq!([bucket.balance_at(2 * SECOND), bucket.balance_at(3 * SECOND)], [0, 2]);
        bucket.charge(u64::MAX);
        assert_eq!(bucket.balance_at(3600 * SECOND), 0);
    }

    #[test]
    fn time_that_goes_back_earns_nothing() {
        let mut bucket = TokenBucket::new(1, SECOND, 10 * SECOND).with_tokens(0);
        assert!(!bucket.take_at(5 * SECOND));
        assert!(!bucket.take_at(10 * SECOND) && bucket.take_at(11 * SECOND));
    }

    proptest! {
        /// Takes with refunds and reservations, in all windows of the run.
        #[test]
        fn no_window_exceeds_burst_and_rate(
            rate in 1u32..10_000,
            burst in 0u64..3000,
            steps in vec((0u64..200, 0u32..10, any::<bool>()), 1..20),
        ) {
            let burst = Duration::from_millis(burst);
            let mut bucket = TokenBucket::new(rate, burst, Duration::ZERO);
            let (mut now, mut events) = (Duration::ZERO, Vec::new());
            for (step, takes, reserves) in steps {
                now += Duration::from_millis(step);
                for take in 0..takes {
                    if reserves {
                        events.push(now + bucket.reserve(now));
                    } else if bucket.take_at(now) {
                        // Every third probe does not start.
                        if take % 3 == 2 { bucket.refund() } else { events.push(now) }
                    }
                }
            }
            let most = (f64::from(rate) * burst.as_secs_f64()).max(1.0);
            for (first, from) in events.iter().enumerate() {
                for (last, to) in events.iter().enumerate().skip(first) {
                    let window = (*to - *from).as_secs_f64();
                    let admitted = (last - first + 1) as f64;
                    prop_assert!(admitted <= most + f64::from(rate) * window + 1e-6, "{from:?} to {to:?}: {admitted}");
                }
            }
        }
    }
}
