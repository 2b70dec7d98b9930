//! Progress output.

use std::time::{Duration, Instant};

/// Progress of a run.
#[derive(Debug)]
pub struct ProgressScreen {
    began: Instant,
    total: Duration,
    done: Duration,
}

impl ProgressScreen {
    /// Starts a run with the estimated duration `total`.
    #[must_use]
    pub fn new(total: Duration) -> Self {
        Self { began: Instant::now(), total, done: Duration::ZERO }
    }

    /// Prints a heading.
    pub fn title(&self, title: &str) {
        println!("\n== {title}");
    }

    /// Prints a result and the estimated remaining time. `took` is the estimate of the finished step.
    pub fn report(&mut self, took: Duration, what: &str) {
        self.done += took;
        // Scales the remaining estimate by the overrun so far.
        let pace = self.began.elapsed().as_secs_f64() / self.done.as_secs_f64().max(1e-3);
        let left = self.total.saturating_sub(self.done).mul_f64(pace);
        println!("{:>3} min {:02} s left  {what}", left.as_secs() / 60, left.as_secs() % 60);
    }
}
