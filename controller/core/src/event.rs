//! Events for logs, metrics and subscribers.

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

/// An event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Time of the event.
    pub at: WallTime,
    /// Kind of the event.
    pub kind: Kind,
}

/// Kind of an event, with its details.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A backend changed its state.
    Backend {
        /// The backend.
        name: Name,
        /// Its address.
        address: IpAddr,
        /// The transition with its cause.
        transition: Transition,
    },
    /// A frontend changed its state or its active pool.
    Frontend {
        /// The frontend.
        name: Name,
        /// The state before.
        from: FrontendState,
        /// The state after.
        to: FrontendState,
        /// The active pool.
        active_pool: Option<Name>,
    },
    /// The prober connected and accepted its checks, or was lost.
    Prober {
        /// True if connected.
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
    /// VPP connected or was lost.
    Vpp {
        /// True if connected.
        connected: bool,
    },
    /// Another client changed VPP.
    Drift {
        /// The changed VIP; `None` for the global settings.
        vip: Option<VipKey>,
        /// True if maglevd reverts the change. It leaves foreign VIPs alone, and all settings while no frontend needs them.
        reverted: bool,
    },
    /// An address conflict began or ended: VPP has a VIP's address on one of its interfaces, so that the VIP gets no
    /// traffic.
    AddressConflict {
        /// The VIP.
        vip: VipKey,
        /// True while the conflict exists.
        conflicting: bool,
    },
    /// maglevd sent VPP's global settings.
    LbConf {
        /// VPP's error, if it rejected them. maglevd retries after a pause.
        error: Option<String>,
    },
    /// Steps were applied to VPP.
    Synced {
        /// The VIP.
        vip: VipKey,
        /// Number of steps by kind.
        counts: StepCounts,
    },
    /// A step failed. It ends the VIP's plan; maglevd retries after a pause.
    StepFailed {
        /// The VIP.
        vip: VipKey,
        /// The failed step.
        step: Step,
        /// VPP's error.
        error: String,
    },
    /// A new configuration is in force.
    Reloaded,
    /// An operator changed something, or an override expired.
    Operator(Audit),
}

impl Kind {
    /// Returns the event's name in the API, the log and the guide.
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
    /// An unobservable backend had further local faults although other backends of its address family answered.
    Hidden {
        /// The backend.
        name: Name,
        /// The fault.
        fault: OutcomeDetail,
    },
    /// No backend is unobservable any more.
    Cleared,
}

/// Action of an operator.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum AuditAction {
    /// Stop a backend's probes.
    Pause,
    /// Probe a backend again.
    Resume,
    /// Take a backend out of service.
    Disable,
    /// Put a backend into service.
    Enable,
    /// Override a weight.
    SetWeight,
    /// Restore the configured weight.
    UnsetWeight,
    /// Reconcile VPP.
    Sync,
    /// Reload the configuration.
    Reload,
}

impl AuditAction {
    /// All actions.
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

    /// Returns the name that users see.
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

/// An entry of the audit trail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Audit {
    /// Requester; [`EXPIRY`] if an override expired.
    pub actor: String,
    /// Requested action.
    pub action: AuditAction,
    /// Changed item, such as `backend web3`; empty for everything.
    pub subject: String,
    /// Value before; may be empty.
    pub from: String,
    /// Value after; may be empty.
    pub to: String,
    /// The operator's reason; may be empty.
    pub reason: String,
    /// Expiry; `None` for none.
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

/// Actor of an expiry.
pub const EXPIRY: &str = "expiry";
