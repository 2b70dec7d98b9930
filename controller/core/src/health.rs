//! The health of one backend: rise, fall, and what an operator wants.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use maglev_ipc::{Outcome, OutcomeCode, OutcomeDetail};

use crate::time::WallTime;

mod probes;
mod recent;
mod tracker;

pub use probes::ProbeCounters;
pub use recent::OutcomeRun;
pub use tracker::Tracker;

/// What a backend is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Health {
    /// Nothing is known yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
    /// An operator has stopped its probes.
    Paused,
    /// An operator has taken it out.
    Disabled,
    /// It has left the configuration.
    Removed,
}

impl Health {
    /// Every state, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Up, Self::Down, Self::Paused, Self::Disabled, Self::Removed];

    /// The state as users see it.
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

/// What an operator can do to a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BackendAction {
    /// Stop its probes.
    Pause,
    /// Probe it again.
    Resume,
    /// Take it out.
    Disable,
    /// Put it back.
    Enable,
}

impl BackendAction {
    /// The action as users type it.
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

/// What moved a backend from one state to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TransitionCause {
    /// A probe's outcome.
    Outcome {
        /// The verdict.
        code: OutcomeCode,
        /// What a person would ask next.
        detail: OutcomeDetail,
    },
    /// An operator.
    Operator(BackendAction),
    /// A new configuration.
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

/// A backend's move from one state to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transition {
    /// The state before.
    pub from: Health,
    /// The state after.
    pub to: Health,
    /// When.
    pub at: WallTime,
    /// Why.
    pub cause: TransitionCause,
}

/// The newest outcome of a backend's probes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastOutcome {
    /// When it was heard.
    pub at: WallTime,
    /// How long the probe took.
    pub duration: Duration,
    /// The verdict.
    pub code: OutcomeCode,
    /// What a person would ask next.
    pub detail: OutcomeDetail,
    /// What the next probe is given, if the time-out is derived.
    pub timeout: Option<Duration>,
}

/// Why an operator's wish was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActionRejected(pub String);

/// How many passes and failures decide; both at least 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Thresholds {
    /// How many passes bring a backend up.
    pub rise: u32,
    /// How many failures take it down.
    pub fall: u32,
}

impl Thresholds {
    /// A backend without a healthcheck: one synthetic outcome decides.
    pub const STATIC: Self = Self { rise: 1, fall: 1 };

    /// The counter of a backend that is up and has missed nothing.
    #[must_use]
    pub const fn max_counter(self) -> u32 {
        self.rise.saturating_add(self.fall).saturating_sub(1)
    }

    /// After how many passes in a row a backend that is probed is up and has missed nothing, wherever it stood.
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
