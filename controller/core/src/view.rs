//! Everything that can be shown, at one moment: replies, metrics and tables are functions of this value.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use maglev_ipc::ProberStats;

use crate::Name;
use crate::config::Config;
use crate::dataplane::{ActualState, VipKey};
use crate::failover::FrontendState;
use crate::health::{Health, LastOutcome, ProbeCounters, Transition};
use crate::overrides::Overrides;
use crate::time::{Now, WallTime};

/// Everything that can be shown, at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The moment.
    pub at: Now,
    /// The configuration in force; healthchecks are shown from it.
    pub config: Arc<Config>,
    /// By name.
    pub backends: Vec<BackendView>,
    /// By name.
    pub frontends: Vec<FrontendView>,
    /// The prober, as seen from here.
    pub prober: ProberView,
    /// VPP, as seen from here.
    pub vpp: VppView,
    /// In what operators have overridden the configuration.
    pub overrides: Arc<Overrides>,
}

/// One backend.
#[derive(Clone, Debug)]
pub struct BackendView {
    /// Its name.
    pub name: Name,
    /// Its address.
    pub address: IpAddr,
    /// Its healthcheck's name; `None` when it is static.
    pub healthcheck: Option<Name>,
    /// What it is probed by: `icmp`, `tcp`, `http`, `https`, or `static`.
    pub kind: &'static str,
    /// Whether it is not disabled.
    pub enabled: bool,
    /// What it is.
    pub health: Health,
    /// The rise/fall counter, 0 ..= rise + fall - 1.
    pub counter: u32,
    /// How many passes bring it up.
    pub rise: u32,
    /// How many failures take it down.
    pub fall: u32,
    /// Whether there is no verdict since the prober was lost or refused its check, or has been none but faults of this host
    /// for too long.
    pub stale: bool,
    /// Since when it is what it is.
    pub since: WallTime,
    /// Its newest outcome.
    pub last: Option<LastOutcome>,
    /// What came of its probes since it is probed by what it is probed by.
    pub probes: ProbeCounters,
    /// Until when the certificate is valid that its server showed last, in seconds since the Unix epoch.
    pub not_after: Option<u64>,
    /// Its newest transitions, the newest first.
    pub transitions: Vec<Transition>,
}

/// One frontend.
#[derive(Clone, Debug)]
pub struct FrontendView {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub state: FrontendState,
    /// Since when.
    pub since: WallTime,
    /// Whether its weights follow health; until then, those that VPP has stay.
    pub startup_done: bool,
    /// The index of the pool that serves it.
    pub active_pool: Option<usize>,
    /// Its pools, by descending priority.
    pub pools: Vec<PoolView>,
    /// The length of its new-flow table: VPP's where it tells, else the one that we would create it with.
    pub table_length: u32,
    /// Whether the sum of its weights in VPP is beyond its table's length, which distorts the shares.
    pub weights_exceed_table: bool,
    /// What keeps VPP from serving it as it should.
    pub problems: Problems,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// What keeps VPP from serving a frontend as it should.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Problems {
    /// VPP has another VIP on its address that does not allow this one.
    pub vip_conflict: bool,
    /// The last change to its VIP has failed, or VPP rejects the global settings.
    pub sync_failed: bool,
    /// VPP has its address on an interface of its own.
    pub address_conflict: bool,
}

/// One pool of a frontend.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// Its name.
    pub name: Name,
    /// Its backends by name.
    pub backends: Vec<MemberView>,
}

/// One backend of a pool.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// Its name.
    pub name: Name,
    /// Its address.
    pub address: IpAddr,
    /// What it is.
    pub health: Health,
    /// Its weight as configured, or as an operator has set it.
    pub weight: u8,
    /// Its weight as configured.
    pub configured: u8,
    /// Whether an operator has set that weight.
    pub overridden: bool,
    /// The weight that follows from health and failover.
    pub effective: u8,
    /// The weight that VPP has, if it has this server.
    pub in_vpp: Option<u8>,
    /// How many entries of VPP's new-flow table are its own.
    pub buckets: Option<u32>,
}

/// The prober, as seen from here.
#[derive(Clone, Debug, Default)]
pub struct ProberView {
    /// Whether the link is up.
    pub connected: bool,
    /// Since when that is so.
    pub since: WallTime,
    /// Whether verdicts wait, as all that was up fails at once.
    pub mass_failure_pending: bool,
    /// What it last said that it counted.
    pub stats: ProberStats,
    /// The checks that it refuses, by backend, with its reason.
    pub rejected_checks: Vec<(Name, String)>,
}

/// VPP, as seen from here.
#[derive(Clone, Debug, Default)]
pub struct VppView {
    /// Whether it is to be programmed at all.
    pub enabled: bool,
    /// The VPP that is connected.
    pub info: Option<VppInfo>,
    /// Since when it is connected, or not.
    pub since: WallTime,
    /// What it was last seen to have, kept up to date by what was done to it since.
    pub actual: Option<Arc<ActualState>>,
    /// VIPs whose last run failed, and why.
    pub failing: Vec<(VipKey, String)>,
}

/// A VPP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VppInfo {
    /// Its version.
    pub version: String,
    /// When it was built.
    pub build_date: String,
    /// Its process.
    pub pid: u32,
    /// When it started; `None` if its stats segment does not tell.
    pub boot: Option<WallTime>,
}
