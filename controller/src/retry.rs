//! How a link that is lost is sought again: soon at first, then at leisure, and without filling the log.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The pauses between tries, and the complaint that was made last.
#[derive(Debug)]
pub struct RetryState {
    pause: Duration,
    last_error: Option<String>,
}

impl Default for RetryState {
    fn default() -> Self {
        Self { pause: FIRST, last_error: None }
    }
}

impl RetryState {
    /// How long to pause before the next try.
    pub fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        pause
    }

    /// Whether `last_error` differs from the one before.
    pub fn is_new_error(&mut self, last_error: &str) -> bool {
        let news = self.last_error.as_deref() != Some(last_error);
        if news {
            self.last_error = Some(last_error.to_owned());
        }
        news
    }

    /// The link is there: begin anew when it is lost.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew() {
        let mut retry = RetryState::default();
        let pauses: Vec<_> = (0..8).map(|_| retry.pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        retry.reset();
        assert_eq!(retry.pause(), FIRST);
    }

    #[test]
    fn only_a_new_complaint_is_news() {
        let mut retry = RetryState::default();
        assert_eq!(["a", "a", "b", "a"].map(|c| retry.is_new_error(c)), [true, false, true, true]);
        retry.reset();
        assert!(retry.is_new_error("a"));
    }
}
