//! What happened, for whoever watches: logs, metrics and subscribers are told the same.

use alloc::string::String;
use core::net::IpAddr;
use core::time::Duration;

use maglev_ipc::OutcomeDetail;

use crate::Name;
use crate::dataplane::{Step, VipKey};
use crate::failover::FrontendState;
use crate::health::{BackendAction, Transition};
use crate::plan::StepCounts;
use crate::time::WallTime;

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// When.
    pub at: WallTime,
    /// What.
    pub kind: Kind,
}

/// The kinds of event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A backend changed its state.
    Backend {
        /// The backend.
        name: Name,
        /// Its address.
        address: IpAddr,
        /// From what to what, and why.
        transition: Transition,
    },
    /// A frontend changed its state, or the pool that serves it.
    Frontend {
        /// The frontend.
        name: Name,
        /// The state before.
        from: FrontendState,
        /// The state after.
        to: FrontendState,
        /// The pool that serves it now.
        active_pool: Option<Name>,
    },
    /// The link to the prober came up (with its generation of checks in force) or was lost.
    Prober {
        /// Whether it is there now.
        connected: bool,
    },
    /// This host may be cut off, as all that was up fails at once, or knows that it is; or that is decided.
    Blind(Blindness),
    /// The prober will not probe a backend.
    Refused {
        /// The backend.
        name: Name,
        /// Why.
        why: String,
    },
    /// VPP came or went.
    Vpp {
        /// Whether it is there now.
        connected: bool,
    },
    /// Somebody else changed this VIP in VPP.
    Drift {
        /// The VIP.
        vip: VipKey,
        /// Whether it is mended. It is not if it is somebody else's.
        mended: bool,
    },
    /// VPP has a VIP's address on an interface of its own, so that the VIP gets no traffic; or no longer has.
    Shadowed {
        /// The VIP.
        vip: VipKey,
        /// Whether that is so now.
        shadowed: bool,
    },
    /// VPP's global settings were sent.
    ConfSent {
        /// VPP's word for why it refused them, if it did. They are sent again after a pause.
        error: Option<String>,
    },
    /// Steps were made in VPP.
    Synced {
        /// The VIP.
        vip: VipKey,
        /// What was done.
        counts: StepCounts,
    },
    /// A step failed. The VIP's run ended with it, and is planned anew after a pause.
    StepFailed {
        /// The VIP.
        vip: VipKey,
        /// The step.
        step: Step,
        /// VPP's word for it.
        error: String,
    },
    /// A new configuration is in force.
    Reloaded,
    /// An operator has changed something, or an override's time was over.
    Operator(Audit),
}

impl Kind {
    /// The name that it has everywhere: in the API, in the log, and in the guide.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Backend { .. } => "backend",
            Self::Frontend { .. } => "frontend",
            Self::Prober { .. } => "prober",
            Self::Blind(_) => "blind",
            Self::Refused { .. } => "refused",
            Self::Vpp { .. } => "vpp",
            Self::Drift { .. } => "drift",
            Self::Shadowed { .. } => "shadow",
            Self::ConfSent { .. } => "conf",
            Self::Synced { .. } => "sync",
            Self::StepFailed { .. } => "sync_failure",
            Self::Reloaded => "reload",
            Self::Operator(_) => "operator",
        }
    }
}

/// What this host makes of it when it does not see what it is to see.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Blindness {
    /// This host may be cut off: verdicts wait.
    Suspected {
        /// How many fail.
        failing: usize,
        /// Of how many that were up.
        of: usize,
        /// How long verdicts wait at most.
        wait: Duration,
    },
    /// Enough of them pass again, or the prober or the configuration is another: the outcomes to come decide.
    Refuted,
    /// Nothing has passed: the backends that waited are down.
    Confirmed,
    /// Nothing but faults of this host is heard of a backend any more, the first of perhaps many: their health stays, and is
    /// stale.
    Unseen {
        /// The backend.
        name: Name,
        /// The fault.
        fault: OutcomeDetail,
    },
    /// There is no such backend any more.
    Seen,
}

impl Blindness {
    /// All that can be made of it, as users see it.
    pub const WORDS: [&str; 5] = ["suspected", "refuted", "confirmed", "unseen", "seen"];

    /// As users see it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Suspected { .. } => "suspected",
            Self::Refuted => "refuted",
            Self::Confirmed => "confirmed",
            Self::Unseen { .. } => "unseen",
            Self::Seen => "seen",
        }
    }
}

/// What an operator can ask for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Deed {
    /// That a backend's probes stop.
    Pause,
    /// That a backend be probed again.
    Resume,
    /// That a backend be taken out.
    Disable,
    /// That a backend be put in.
    Enable,
    /// Another weight.
    SetWeight,
    /// The configured weight.
    UnsetWeight,
    /// A comparison with what VPP has.
    Sync,
    /// A new configuration.
    Reload,
}

impl Deed {
    /// Every one of them.
    pub const ALL: [Self; 8] = [
        Self::Pause,
        Self::Resume,
        Self::Disable,
        Self::Enable,
        Self::SetWeight,
        Self::UnsetWeight,
        Self::Sync,
        Self::Reload,
    ];

    /// As users see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::SetWeight => "set weight",
            Self::UnsetWeight => "unset weight",
            Self::Sync => "sync",
            Self::Reload => "reload",
        }
    }
}

impl From<BackendAction> for Deed {
    fn from(action: BackendAction) -> Self {
        match action {
            BackendAction::Pause => Self::Pause,
            BackendAction::Resume => Self::Resume,
            BackendAction::Disable => Self::Disable,
            BackendAction::Enable => Self::Enable,
        }
    }
}

/// A line of the audit trail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Audit {
    /// Who asked; [`EXPIRY`] if it was the clock.
    pub who: String,
    /// What for.
    pub what: Deed,
    /// Of what, such as `backend web3`; empty if it is of everything.
    pub subject: String,
    /// What it was before; empty where there is no such thing.
    pub from: String,
    /// What it is now; empty where there is no such thing.
    pub to: String,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
    /// When it is undone by itself; `None` is never.
    pub expires: Option<WallTime>,
}

impl Audit {
    /// That `who` asked for `what`.
    #[must_use]
    pub fn of(who: String, what: Deed) -> Self {
        let (subject, from, to, reason) = Default::default();
        Self { who, what, subject, from, to, reason, expires: None }
    }
}

/// Who undoes an override whose time is over.
pub const EXPIRY: &str = "expiry";
