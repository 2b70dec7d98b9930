//! The health of one backend: the rise/fall counter, freshness, and operators' actions.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use maglev_ipc::{Outcome, OutcomeCode, OutcomeDetail};

use crate::time::WallTime;

mod freshness;
mod probes;
mod recent;
mod rise_fall;
mod tracker;

pub use probes::ProbeCounters;
pub use recent::OutcomeRun;
pub use rise_fall::RiseFall;
pub use tracker::Tracker;

/// State of a backend.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Health {
    /// No verdict yet.
    Unknown,
    /// The backend passes its healthcheck.
    Up,
    /// The backend fails its healthcheck.
    Down,
    /// An operator has stopped its probes.
    Paused,
    /// An operator or the configuration has taken it out.
    Disabled,
    /// The configuration does not contain it any more.
    Removed,
}

impl Health {
    /// All states, in display order.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Up, Self::Down, Self::Paused, Self::Disabled, Self::Removed];

    /// Returns the name that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Operator's action on a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BackendAction {
    /// Stop its probes and take its weight.
    Pause,
    /// Start its probes again.
    Resume,
    /// Take it out, and flush its flows.
    Disable,
    /// Put it back.
    Enable,
}

impl BackendAction {
    /// Returns the name that users type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Disable => "disable",
            Self::Enable => "enable",
        }
    }
}

/// Cause of a transition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TransitionCause {
    /// Outcome of a probe.
    Outcome {
        /// Verdict.
        code: OutcomeCode,
        /// Detail of the verdict.
        detail: OutcomeDetail,
    },
    /// Action of an operator.
    Operator(BackendAction),
    /// Change of the configuration.
    Config,
}

impl fmt::Display for TransitionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome { code, detail: OutcomeDetail::None } => write!(f, "{code}"),
            Self::Outcome { code, detail } => write!(f, "{code} {detail}"),
            Self::Operator(action) => write!(f, "operator: {}", action.as_str()),
            Self::Config => f.write_str("configuration"),
        }
    }
}

/// Transition of a backend from one state to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transition {
    /// State before.
    pub from: Health,
    /// State after.
    pub to: Health,
    /// Time of the transition.
    pub at: WallTime,
    /// Cause of the transition.
    pub cause: TransitionCause,
}

/// Newest outcome of a backend's probes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastOutcome {
    /// Arrival of the outcome.
    pub at: WallTime,
    /// Duration of the probe.
    pub duration: Duration,
    /// Verdict.
    pub code: OutcomeCode,
    /// Detail of the verdict.
    pub detail: OutcomeDetail,
    /// Timeout of the next probe, if the timeout is derived.
    pub timeout: Option<Duration>,
}

/// Reason for which an operator's action was rejected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActionRejected(pub String);

/// Contribution of one backend to the detection of mass failures.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Signal {
    /// Up, without a recent failure.
    Healthy,
    /// Failing since this time, in nanoseconds of `CLOCK_MONOTONIC`.
    FailingSince(u64),
    /// Neither: unknown, stale, or not probed.
    #[default]
    Neutral,
}

/// Thresholds of the rise/fall counter; both at least 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Thresholds {
    /// Passes in a row that bring a backend up.
    pub rise: u32,
    /// Failures in a row that take it down.
    pub fall: u32,
}

impl Thresholds {
    /// Thresholds of a backend without a healthcheck: one synthetic pass decides.
    pub const STATIC: Self = Self { rise: 1, fall: 1 };

    /// Returns the counter of a backend that is up without a recent failure.
    #[must_use]
    pub const fn max_counter(self) -> u32 {
        self.rise.saturating_add(self.fall).saturating_sub(1)
    }

    /// Returns the number of passes in a row after which any probed backend is up with a full counter.
    #[must_use]
    pub fn stable_after(self) -> u16 {
        u16::try_from(self.rise.max(self.fall)).unwrap_or(u16::MAX)
    }
}

impl From<&Outcome> for TransitionCause {
    fn from(outcome: &Outcome) -> Self {
        Self::Outcome { code: outcome.code, detail: outcome.detail.clone() }
    }
}
