//! Retry of a lost link: exponential backoff, and a log of new errors only.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Backoff, and the last error.
#[derive(Debug)]
pub struct RetryState {
    pause: Duration,
    last_error: Option<String>,
}

impl Default for RetryState {
    fn default() -> Self {
        Self::new()
    }
}

impl RetryState {
    /// Creates the state before the first attempt.
    #[must_use]
    pub const fn new() -> Self {
        Self { pause: FIRST, last_error: None }
    }

    /// Returns the pause before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        pause
    }

    /// Returns true if `error` differs from the previous one.
    pub fn is_new_error(&mut self, error: &str) -> bool {
        let news = self.last_error.as_deref() != Some(error);
        if news {
            self.last_error = Some(error.to_owned());
        }
        news
    }

    /// Resets the backoff after a success.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_bound_and_reset() {
        let mut retry = RetryState::default();
        let pauses: Vec<_> = (0..8).map(|_| retry.pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        retry.reset();
        assert_eq!(retry.pause(), FIRST);
    }

    #[test]
    fn repeated_error_is_not_new() {
        let mut retry = RetryState::default();
        assert_eq!(["a", "a", "b", "a"].map(|c| retry.is_new_error(c)), [true, false, true, true]);
        retry.reset();
        assert!(retry.is_new_error("a"));
    }
}
