//! How a link that is lost is sought again: soon at first, then at leisure, and without filling the log.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The pauses between tries, and the complaint that was made last.
#[derive(Debug)]
pub struct Retry {
    pause: Duration,
    complaint: Option<String>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { pause: FIRST, complaint: None }
    }
}

impl Retry {
    /// How long to pause before the next try.
    pub fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        pause
    }

    /// Whether `complaint` differs from the one before.
    pub fn is_news(&mut self, complaint: &str) -> bool {
        let news = self.complaint.as_deref() != Some(complaint);
        if news {
            self.complaint = Some(complaint.to_owned());
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
        let mut retry = Retry::default();
        let pauses: Vec<_> = (0..8).map(|_| retry.pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        retry.reset();
        assert_eq!(retry.pause(), FIRST);
    }

    #[test]
    fn only_a_new_complaint_is_news() {
        let mut retry = Retry::default();
        assert_eq!(["a", "a", "b", "a"].map(|c| retry.is_news(c)), [true, false, true, true]);
        retry.reset();
        assert!(retry.is_news("a"));
    }
}
