//! Measures the prober's own work in an iteration, to tell it from a stall of the host.

use crate::clock::Nanos;

/// Duration of an iteration from which on the processor time is read, which takes a system call.
const LONG: Nanos = 1_000_000;
/// Longest time between two readings. The time of short iterations in between counts as work of the next long one.
const MAX_AGE: Nanos = 1_000_000_000;

/// The processor time of this thread at the last reading.
#[derive(Debug)]
pub struct WorkMeter {
    thread_time: Nanos,
    read_at: Nanos,
}

impl WorkMeter {
    /// Returns a meter that was read at `now`.
    pub const fn new(thread_time: Nanos, now: Nanos) -> Self {
        Self { thread_time, read_at: now }
    }

    /// Returns the work of the iteration from `began` to `now`: what passed without the processor is none.
    pub fn measure(&mut self, began: Nanos, now: Nanos, thread_time: impl FnOnce() -> Nanos) -> Nanos {
        let passed = now.saturating_sub(began);
        if passed < LONG && now.saturating_sub(self.read_at) < MAX_AGE {
            return passed;
        }
        self.read_at = now;
        let before = std::mem::replace(&mut self.thread_time, thread_time());
        passed.min(self.thread_time.saturating_sub(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn time_without_the_processor_is_no_work() {
        let mut meter = WorkMeter::new(5000 * MS, 0);
        // All of it was work, then a part, then a stop of the process.
        assert_eq!(meter.measure(10 * MS, 910 * MS, || 5900 * MS), 900 * MS);
        assert_eq!(meter.measure(1000 * MS, 1900 * MS, || 6000 * MS), 100 * MS);
        assert_eq!(meter.measure(2000 * MS, 9000 * MS, || 6000 * MS), 0);
    }

    #[test]
    fn short_iterations_read_the_clock_once_a_second() {
        let mut meter = WorkMeter::new(0, 0);
        let mut readings = 0;
        for ms in 0..3000 {
            let read = || {
                readings += 1;
                ms * MS
            };
            assert!(meter.measure(ms * MS, ms * MS + MS / 2, read) <= MS / 2);
        }
        assert_eq!(readings, 2);
    }
}
