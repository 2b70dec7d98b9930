//! Times passed to the core.

use core::ops::{Add, Sub};
use core::time::Duration;

/// Monotonic time: nanoseconds since a fixed moment, of the same clock as [`maglev_ipc::Outcome::started`].
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct MonoTime(pub u64);

/// Wall-clock time: nanoseconds since the Unix epoch. It is displayed; only the expiry of overrides is computed with it, as
/// overrides survive a reboot.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct WallTime(pub u64);

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    /// Time for computations.
    pub mono: MonoTime,
    /// Time for display, and for the expiry of overrides.
    pub wall: WallTime,
}

impl Add<Duration> for MonoTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for WallTime {
    type Output = Duration;

    /// Returns the time since `earlier`; zero if that is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Sub for MonoTime {
    type Output = Duration;

    /// Returns the time since `earlier`; zero if that is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
