//! Snapshot of the state for display. Replies, metrics and tables are functions of a [`View`].

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use maglev_ipc::{CertificateExpiry, ProberStats};

use crate::Name;
use crate::config::Config;
use crate::dataplane::{ActualState, VipKey};
use crate::failover::FrontendState;
use crate::health::{Health, LastOutcome, ProbeCounters, Transition};
use crate::overrides::Overrides;
use crate::time::{Now, WallTime};

/// Snapshot of the state.
#[derive(Clone, Debug)]
pub struct View {
    /// Time of the snapshot.
    pub at: Now,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// Backends by name.
    pub backends: Vec<BackendView>,
    /// Frontends by name.
    pub frontends: Vec<FrontendView>,
    /// State of the prober.
    pub prober: ProberView,
    /// State of VPP.
    pub vpp: VppView,
    /// Operator overrides.
    pub overrides: Arc<Overrides>,
}

/// State of a backend.
#[derive(Clone, Debug)]
pub struct BackendView {
    /// Its name.
    pub name: Name,
    /// Its address.
    pub address: IpAddr,
    /// Name of its healthcheck; `None` if static.
    pub healthcheck: Option<Name>,
    /// Kind of its probes: `icmp`, `tcp`, `http`, `https`, or `static`.
    pub kind: &'static str,
    /// False if disabled.
    pub enabled: bool,
    /// Its health.
    pub health: Health,
    /// The rise/fall counter, 0 ..= rise + fall - 1.
    pub counter: u32,
    /// Number of passes that bring it up.
    pub rise: u32,
    /// Number of failures that take it down.
    pub fall: u32,
    /// True if there has been no verdict since the prober was lost or rejected its check, or only local faults for too
    /// long.
    pub stale: bool,
    /// True if only local faults arrive about it, for too long, while other backends of its address family answer.
    pub hidden: bool,
    /// Time of the last change of health.
    pub since: WallTime,
    /// Its newest outcome.
    pub last: Option<LastOutcome>,
    /// Counters of its probes since its check changed.
    pub probes: ProbeCounters,
    /// Expiry of the server's last shown certificates.
    pub not_after: Option<CertificateExpiry>,
    /// Its transitions, the newest first.
    pub transitions: Vec<Transition>,
}

/// State of a frontend.
#[derive(Clone, Debug)]
pub struct FrontendView {
    /// Its name.
    pub name: Name,
    /// Its state.
    pub state: FrontendState,
    /// Time of the last change of state.
    pub since: WallTime,
    /// True once its weights follow health. Until then VPP keeps its weights.
    pub startup_done: bool,
    /// Index of the active pool.
    pub active_pool: Option<usize>,
    /// Its pools, by descending priority.
    pub pools: Vec<PoolView>,
    /// Length of its new-flow table: VPP's if known, else the one for its creation.
    pub table_length: u32,
    /// True if its weights in VPP exceed the table length, which distorts the shares.
    pub weights_exceed_table: bool,
    /// True if its table in VPP has another length than one created now.
    pub other_table: bool,
    /// Problems that affect its traffic.
    pub problems: Problems,
    /// Warnings for operators.
    pub warnings: Vec<String>,
}

/// Problems that keep VPP from serving a frontend by its health.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Problems {
    /// Another VIP in VPP on its address prevents its creation.
    pub vip_conflict: bool,
    /// The last change to its VIP failed, or VPP rejects the global settings.
    pub sync_failed: bool,
    /// VPP has its address on one of its interfaces.
    pub address_conflict: bool,
}

/// State of a pool.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// Its name.
    pub name: Name,
    /// Its members by name.
    pub backends: Vec<MemberView>,
}

/// State of a pool member.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// Its name.
    pub name: Name,
    /// Its address.
    pub address: IpAddr,
    /// Its health.
    pub health: Health,
    /// Its weight, as configured or set by an operator.
    pub weight: u8,
    /// Its configured weight.
    pub configured: u8,
    /// True if an operator set the weight.
    pub overridden: bool,
    /// Its weight as a whole number of VPP's units.
    pub rounded: u8,
    /// Its weight after health and failover.
    pub effective: u8,
    /// Its weight in VPP, if VPP has this server.
    pub in_vpp: Option<u8>,
    /// Number of its entries in VPP's new-flow table.
    pub buckets: Option<u32>,
}

/// State of the prober.
#[derive(Clone, Debug, Default)]
pub struct ProberView {
    /// True if connected.
    pub connected: bool,
    /// Time of the last connection or loss.
    pub since: WallTime,
    /// True while DOWN transitions are deferred because of a suspected mass failure.
    pub mass_failure_pending: bool,
    /// Its last counters.
    pub stats: ProberStats,
    /// Rejected checks by backend, with the reason.
    pub rejected_checks: Vec<(Name, String)>,
}

/// State of VPP.
#[derive(Clone, Debug, Default)]
pub struct VppView {
    /// False if maglevd runs without VPP.
    pub enabled: bool,
    /// The connected VPP.
    pub info: Option<VppInfo>,
    /// Time of the last connection or loss.
    pub since: WallTime,
    /// VPP's last observed state, updated by applied steps.
    pub actual: Option<Arc<ActualState>>,
    /// VIPs with a failed plan, and the error.
    pub failing: Vec<(VipKey, String)>,
}

/// Properties of a VPP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VppInfo {
    /// Its version.
    pub version: String,
    /// Its build date.
    pub build_date: String,
    /// Its process id.
    pub pid: u32,
    /// Its start time; `None` if the stats segment does not contain it.
    pub boot: Option<WallTime>,
}
