//! The clocks that the core is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maglev_core::time::{Mono, Now, Wall};
use nix::time::{ClockId, clock_gettime};

/// What tells the core the time.
pub trait Clock: Send + 'static {
    /// This moment.
    fn now(&self) -> Now;
}

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        now()
    }
}

/// This moment, by the system's clocks. The monotonic clock is the prober's too.
#[must_use]
pub fn now() -> Now {
    // CLOCK_MONOTONIC exists on every Linux; should it not, time would stand still rather than jump.
    let mono = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono: Mono(nanos(mono)), wall: Wall(nanos(wall)) }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
