//! How often something may be told.

use std::time::Instant;

/// How many may be told at once; one more may with each second that passes.
const BURST: u32 = 10;

/// A bucket of things that may be told.
#[derive(Debug)]
pub struct Limiter {
    left: u32,
    filled: Option<Instant>,
    suppressed: u64,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { left: BURST, filled: None, suppressed: 0 }
    }
}

impl Limiter {
    /// Whether one more may be told, and if so how many before it were not.
    pub fn take_log_token(&mut self, now: Instant) -> Option<u64> {
        let filled = *self.filled.get_or_insert(now);
        let seconds = now.saturating_duration_since(filled).as_secs();
        if seconds > 0 {
            let refill = u32::try_from(seconds).unwrap_or(BURST);
            self.left = self.left.saturating_add(refill).min(BURST);
            self.filled = Some(now);
        }
        if self.left == 0 {
            self.suppressed += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn flood_is_rate_limited_and_counted() {
        let start = Instant::now();
        let mut limiter = Limiter::default();
        let told = (0..1000).filter(|_| limiter.take_log_token(start).is_some()).count();
        assert_eq!(told, 10);
        assert_eq!(limiter.take_log_token(start + Duration::from_millis(999)), None);
        assert_eq!(limiter.take_log_token(start + Duration::from_secs(1)), Some(991));
        assert_eq!(limiter.take_log_token(start + Duration::from_secs(1)), None);
        let told =
            (0..1000).filter(|_| limiter.take_log_token(start + Duration::from_secs(3600)).is_some()).count();
        assert_eq!(told, 10);
    }
}
