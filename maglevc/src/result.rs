//! Results of commands.

use std::time::Duration;

use maglev_proto::v1::{
    Backend, CheckConfigResponse, Frontend, GetLbCountersResponse, GetLbStateResponse, GetVersionResponse,
    GetVppInfoResponse, Healthcheck, ListOverridesResponse, Plan, PoolBackend, Reason, ReloadConfigResponse,
};

/// Result of a command.
#[derive(Clone, Debug)]
pub enum CommandResult {
    /// The list of commands; those that begin so, if a word was given.
    Help(Option<String>),
    /// The daemon's version.
    Version(GetVersionResponse),
    /// All frontends.
    Frontends(Vec<Frontend>),
    /// One frontend.
    Frontend(Box<Frontend>),
    /// All backends.
    Backends(Vec<Backend>),
    /// One backend.
    Backend(Box<Backend>),
    /// All healthchecks.
    Healthchecks(Vec<Healthcheck>),
    /// One healthcheck.
    Healthcheck(Box<Healthcheck>),
    /// All overrides.
    Overrides(ListOverridesResponse),
    /// The connected VPP.
    VppInfo(GetVppInfoResponse),
    /// The state of VPP's load balancer.
    VppLbState(GetLbStateResponse),
    /// The traffic of VPP's load balancer.
    VppLbCounters(GetLbCountersResponse),
    /// Result of an action on a backend.
    Action(Box<ActionResult>),
    /// Result of a change of weight.
    Weight(Box<WeightResult>),
    /// An explanation.
    Explained(Vec<Reason>),
    /// Result of a sync with VPP.
    Synced {
        /// The plan.
        plan: Plan,
        /// True if the plan was not carried out.
        dry_run: bool,
    },
    /// Result of a check of the configuration file.
    Checked(CheckConfigResponse),
    /// Result of a reload.
    Reloaded(ReloadConfigResponse),
}

impl CommandResult {
    /// Reports whether the command failed.
    pub const fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Checked(CheckConfigResponse { fault: Some(_), .. })
                | Self::Reloaded(ReloadConfigResponse { fault: Some(_), .. })
        )
    }
}

/// Result of an action on a backend.
#[derive(Clone, Debug)]
pub struct ActionResult {
    /// The backend's name.
    pub name: String,
    /// The backend before the action; `None` if only an override of it was left.
    pub before: Option<Backend>,
    /// The backend after the action; `None` if it has left the configuration.
    pub after: Option<Backend>,
    /// Reason why a restart of the daemon would lose the change; empty if it would not.
    pub persist_error: String,
}

/// Result of a change of weight.
#[derive(Clone, Debug)]
pub struct WeightResult {
    /// The frontend's name.
    pub frontend: String,
    /// The pool's name.
    pub pool: String,
    /// The backend's name.
    pub backend: String,
    /// The member before the change; `None` if only an override of it was left.
    pub before: Option<PoolBackend>,
    /// The member after the change; `None` if it has left the configuration.
    pub after: Option<PoolBackend>,
    /// Lifetime of the override.
    pub lifetime: Option<Duration>,
    /// Reason why a restart of the daemon would lose the change; empty if it would not.
    pub persist_error: String,
}
