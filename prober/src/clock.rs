//! The prober's only clock.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub type Nanos = u64;

/// Returns the current time.
pub fn now() -> Nanos {
    // Linux has had this clock since 2.6; reading it does not fail.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| nanos(Duration::from(time)))
}

/// Returns the processor time of this thread. It stands still while another process has the processor, or this one is stopped.
pub fn thread_time() -> Nanos {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0, |time| nanos(Duration::from(time)))
}

/// Converts `duration` to nanoseconds, saturating at 584 years.
pub fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
