//! Clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maglev_core::time::{MonoTime, Now, WallTime};
use nix::time::{ClockId, clock_gettime};

/// Source of time for the core.
pub trait Clock: Send + 'static {
    /// Returns the current time.
    fn now(&self) -> Now;
}

/// Clocks of the system.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        now()
    }
}

/// Returns the current time of the system's clocks. The prober uses the same monotonic clock.
#[must_use]
pub fn now() -> Now {
    // Every Linux has CLOCK_MONOTONIC; without it, time stands still rather than jumps.
    let mono = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono: MonoTime(nanos(mono)), wall: WallTime(nanos(wall)) }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
