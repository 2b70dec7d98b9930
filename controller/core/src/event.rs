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
    /// A suspected mass failure, or its resolution.
    MassFailure(MassFailureResult),
    /// Backends became unobservable because of faults on the prober's host, or the last one recovered.
    LocalFaults(LocalFaultsChange),
    /// The prober rejected a backend's check.
    CheckRejected {
        /// The backend.
        name: Name,
        /// The prober's reason.
        reason: String,
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
        /// Whether it is reverted. It is not if it is somebody else's.
        reverted: bool,
    },
    /// VPP has a VIP's address on an interface of its own, so that the VIP gets no traffic; or no longer has.
    AddressConflict {
        /// The VIP.
        vip: VipKey,
        /// True while the conflict exists.
        conflicting: bool,
    },
    /// VPP's global settings were sent.
    LbConf {
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
    /// Returns the name in the API, the log and the documentation.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name_and_category().0
    }

    /// Returns the category by which subscribers filter.
    #[must_use]
    pub const fn category(&self) -> EventCategory {
        self.name_and_category().1
    }

    const fn name_and_category(&self) -> (&'static str, EventCategory) {
        use EventCategory::{Backend, Configuration, Frontend, Operator, Vpp};
        match self {
            Self::Backend { .. } => ("backend", Backend),
            Self::Frontend { .. } => ("frontend", Frontend),
            Self::Prober { .. } => ("prober", Backend),
            Self::MassFailure(_) => ("mass_failure", Backend),
            Self::LocalFaults(_) => ("local_faults", Backend),
            Self::CheckRejected { .. } => ("check_rejected", Backend),
            Self::Vpp { .. } => ("vpp", Vpp),
            Self::Drift { .. } => ("drift", Vpp),
            Self::AddressConflict { .. } => ("address_conflict", Vpp),
            Self::LbConf { .. } => ("lb_conf", Vpp),
            Self::Synced { .. } => ("sync", Vpp),
            Self::StepFailed { .. } => ("sync_failure", Vpp),
            Self::Reloaded => ("reload", Configuration),
            Self::Operator(_) => ("operator", Operator),
        }
    }
}

/// Category of events, by which subscribers filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventCategory {
    /// Health of backends, and the prober.
    Backend,
    /// State of frontends.
    Frontend,
    /// VPP and its VIPs.
    Vpp,
    /// Actions of operators.
    Operator,
    /// Reloads, of interest to subscribers of backends and of frontends.
    Configuration,
}

/// Stage of a suspected mass failure: nearly all backends failed at once, possibly because this host is cut off.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MassFailureResult {
    /// The failure may be on this host: DOWN transitions are deferred.
    Suspected {
        /// Number of failing backends.
        failing: usize,
        /// Number of backends that were up.
        total: usize,
        /// Longest time for which DOWN transitions are deferred.
        hold: Duration,
    },
    /// Enough backends pass again, or the prober or the configuration was replaced. Later outcomes decide.
    Dismissed,
    /// Too few backends passed in time: the deferred DOWN transitions happened.
    Confirmed,
}

impl MassFailureResult {
    /// Names of all stages, as users see them.
    pub const NAMES: [&str; 3] = ["suspected", "dismissed", "confirmed"];

    /// Returns the name that users see.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Suspected { .. } => "suspected",
            Self::Dismissed => "dismissed",
            Self::Confirmed => "confirmed",
        }
    }
}

/// Change of the set of unobservable backends: those with only faults of this host for too long.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LocalFaultsChange {
    /// A first backend became unobservable. Its health is frozen and stale.
    Unobserved {
        /// The backend.
        name: Name,
        /// The fault.
        fault: OutcomeDetail,
    },
    /// No backend is unobservable any more.
    Cleared,
}

/// What an operator can ask for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum AuditAction {
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

impl AuditAction {
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
            Self::SetWeight => "set_weight",
            Self::UnsetWeight => "unset_weight",
            Self::Sync => "sync",
            Self::Reload => "reload",
        }
    }
}

impl From<BackendAction> for AuditAction {
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
    /// Requester; [`EXPIRY`] if an override expired.
    pub actor: String,
    /// Requested action.
    pub action: AuditAction,
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
    /// Creates an entry for `action` by `actor`, with all other fields empty.
    #[must_use]
    pub fn of(actor: String, action: AuditAction) -> Self {
        let (subject, from, to, reason) = Default::default();
        Self { actor, action, subject, from, to, reason, expires: None }
    }
}

/// Who undoes an override whose time is over.
pub const EXPIRY: &str = "expiry";
