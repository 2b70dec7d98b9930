//! What is said while it runs.

use std::time::{Duration, Instant};

/// Knows what is to come.
#[derive(Debug)]
pub struct Screen {
    began: Instant,
    total: Duration,
    done: Duration,
}

impl Screen {
    /// All of it is believed to take `total`.
    #[must_use]
    pub fn new(total: Duration) -> Self {
        Self { began: Instant::now(), total, done: Duration::ZERO }
    }

    /// A headline.
    pub fn title(&self, title: &str) {
        println!("\n== {title}");
    }

    /// One thing more is known, which was believed to take so long.
    pub fn tell(&mut self, took: Duration, what: &str) {
        self.done += took;
        // Whatever takes longer than was believed, the rest will, too.
        let pace = self.began.elapsed().as_secs_f64() / self.done.as_secs_f64().max(1e-3);
        let left = self.total.saturating_sub(self.done).mul_f64(pace);
        println!("{:>3} min {:02} s left  {what}", left.as_secs() / 60, left.as_secs() % 60);
    }
}
