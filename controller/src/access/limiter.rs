//! Rate limit of log messages about rejected clients.

use std::time::{Duration, Instant};

use maglev_time::TokenBucket;

/// Burst of messages, at one message a second: 10.
const BURST: Duration = Duration::from_secs(10);

/// A token bucket that counts suppressed messages.
#[derive(Debug, Default)]
pub struct LogLimiter {
    /// The bucket, and the time from which it counts. Created with the first message.
    bucket: Option<(TokenBucket, Instant)>,
    suppressed: u64,
}

impl LogLimiter {
    /// Takes a token for a message at `now`. Returns the number of messages suppressed since the last one, or `None` to
    /// suppress this one.
    pub fn take_log_token(&mut self, now: Instant) -> Option<u64> {
        let (bucket, start) =
            self.bucket.get_or_insert_with(|| (TokenBucket::new(1, BURST, Duration::ZERO), now));
        if !bucket.take_at(now.saturating_duration_since(*start)) {
            self.suppressed += 1;
            return None;
        }
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_is_rate_limited_and_counted() {
        let start = Instant::now();
        let mut limiter = LogLimiter::default();
        let admitted = (0..1000).filter(|_| limiter.take_log_token(start).is_some()).count();
        assert_eq!(admitted, 10);
        assert_eq!(limiter.take_log_token(start + Duration::from_millis(999)), None);
        assert_eq!(limiter.take_log_token(start + Duration::from_secs(1)), Some(991));
        assert_eq!(limiter.take_log_token(start + Duration::from_secs(1)), None);
        let admitted =
            (0..1000).filter(|_| limiter.take_log_token(start + Duration::from_secs(3600)).is_some()).count();
        assert_eq!(admitted, 10);
    }
}
