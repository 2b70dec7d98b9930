//! The state of `maglevd`, and its reaction to each input.
//!
//! ```text
//!   Input ──► State ──► Output
//!
//!   Outcomes ──────► Tracker ──► Transition ──► failover::decide ──► desired VIP ┐
//!   operate() ─────► overrides ──────┘                                           ├─► plan::plan ──► Apply
//!   Reload ────────► config ─────────┘                    observed VIP ──────────┘
//!   AllRead, VipRead, ServersRead, VipsListed, StepsApplied ──► observed VIP
//! ```
//!
//! Stored:
//!
//! | what | where | until |
//! |---|---|---|
//! | health, with counter, freshness and history | a [`Tracker`](crate::health::Tracker) per backend | the backend or its check changes |
//! | operators' overrides | `overrides`; saved on disk | an operator removes them, or they expire |
//! | VIPs of the last run | `last_run`; all owned VIPs are saved on disk | VPP is connected |
//! | VPP as read last, plus the steps applied since | `observed`; its address conflicts with it | the next full read |
//! | external changes that were reverted | `drifts` | none for ten minutes; the VIP leaves the configuration |
//! | VPP's memory and its tables at the connection | `heap` | the next connection |
//! | facts that VPP does not report | `inferred` | another VPP instance |
//! | jobs, retry counters, cursor and next time of the drift checks | `vip_jobs`, `conf_job` | the job ends, or VPP is lost |
//! | the last rejection of the global settings | `conf_job` | VPP accepts them, or is lost |
//! | VIPs that left the configuration (retired) | `vip_jobs` | VPP no longer has them |
//! | connection, fault and identity of VPP | `vpp` | the next connection |
//! | connection and fault of the prober, rejected checks, generations, `made_room` | `prober` | the next connection or check set |
//! | the pending mass failure and the bound of the confirmed one | `mass_failure` | the window ends; a backend recovers |
//! | evidence that this host has a network | `route_faults` | the process ends |
//! | number of unobserved backends | `local_faults` | recounted on changes |
//! | startup holds, leaving servers, and the last state of each frontend | `frontends` | the hold ends; a new server is known; the next decision |
//! | counts of backends and frontends by state | `counts` | updated with each transition |
//! | timers | `timers` | they fire |
//!
//! Everything else (active pools, weights, steps, views, explanations) is computed from these on demand, for the frontends
//! that an input touches.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use maglev_ipc::{Check, CheckId, Outcome, ProberStats, Schedule, VerdictHistory};

use crate::config::{Bundle, Config};
use crate::cow_list::CowList;
use crate::dataplane::{ActualAs, ActualState, ActualVip, Encap, LbConf, VipKey, VipPlan, VppMemory};
use crate::event::{Audit, AuditAction, Event, Kind};
use crate::overrides::Overrides;
use crate::ownership::OwnedVips;
use crate::surroundings::Surroundings;
use crate::time::{MonoTime, Now};
use crate::view::VppInfo;

mod address_conflict;
mod backends;
mod check_index;
mod conf_reconciler;
#[cfg(test)]
mod cost;
mod drift;
mod drift_history;
mod expiry;
mod explain;
mod frontends;
mod heap;
mod inferred;
mod leaving;
mod local_faults;
mod mass_failure;
mod observed;
mod operate;
mod plan_notes;
mod preview;
mod prober;
mod reconcile;
mod reload;
mod route_faults;
mod show;
mod stale;
mod startup_hold;
mod summary;
mod vip_reconciler;
mod vpp_session;

pub use explain::{ExplanationLine, Topic};
pub use observed::VppReads;
pub use operate::{OperateError, OperatorCommand, Requester};
pub use plan_notes::PlanNote;
pub use preview::{PlanPreview, VipPreview};
pub use summary::StateSummary;

use backends::BackendEntry;
use conf_reconciler::ConfReconciler;
use drift_history::DriftHistory;
use frontends::FrontendEntry;
use heap::HeapGuard;
use inferred::InferredState;
use local_faults::LocalFaults;
use mass_failure::MassFailure;
use observed::ObservedState;
use prober::ProberState;
use route_faults::RouteEvidence;
use summary::StateCounts;
use vip_reconciler::VipReconciler;
use vpp_session::VppSession;

/// An input of the core.
#[derive(Clone, Debug)]
pub enum Input {
    /// The prober connected. It has no check set of this controller yet.
    ProberUp,
    /// The connection to the prober was lost.
    ProberDown,
    /// A connection attempt to the prober failed, for this reason.
    ProberUnreachable(String),
    /// Verdict histories of a prober that ran while the controller did not.
    Histories(Vec<VerdictHistory>),
    /// The prober has put the check set of that generation in force.
    Committed(u64),
    /// The prober rejected a check, for this reason.
    CheckRejected(CheckId, String),
    /// Counters of the prober.
    ProberStats(ProberStats),
    /// Probe outcomes, in the order in which they count.
    Outcomes(Vec<Outcome>),
    /// A new configuration.
    Reload(Arc<Config>),
    /// VPP connected. Nothing has been read from it yet.
    VppUp(VppInfo),
    /// Memory of the connected VPP. Sent before the answer to the first read.
    VppMeasured(VppMemory),
    /// The connection to VPP was lost. Outstanding requests get no answer.
    VppDown,
    /// A connection attempt to VPP failed, for this reason.
    VppUnreachable(String),
    /// Answer to [`Output::ReadAll`].
    AllRead(ActualState),
    /// Answer to [`Output::ListVips`].
    VipsListed(Option<LbConf>, BTreeMap<VipKey, ListedVip>),
    /// Answer to [`Output::ReadServers`].
    ServersRead(VipKey, BTreeMap<IpAddr, ActualAs>),
    /// Answer to [`Output::ReadVip`].
    VipRead(VipKey, Option<ActualVip>),
    /// Answer to [`Output::SetConf`]: VPP's error, if it rejected the settings.
    ConfSet(Option<String>),
    /// Answer to [`Output::Apply`].
    StepsApplied {
        /// VIP of the plan.
        vip: VipKey,
        /// Number of applied steps.
        done: usize,
        /// VPP's error for the next step, if it failed.
        error: Option<String>,
    },
    /// Compare everything with VPP now.
    Resync,
    /// Audit entry for an operator's request that follows as another input.
    Audit(String, AuditAction),
    /// All VIPs whose address VPP has on an interface, so that they get no traffic.
    AddressConflicts(BTreeSet<VipKey>),
    /// Surroundings of all VIPs, as far as VPP knows them.
    Surroundings(BTreeMap<VipKey, Surroundings>),
    /// The time returned by [`State::wake_at`] has come.
    Tick,
}

/// A VIP in VPP's list, without its servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListedVip {
    /// Encapsulation of packets to its servers.
    pub encap: Encap,
    /// Length of its new-flow table, if VPP reports it.
    pub table_length: Option<u32>,
}

/// A request of the core.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Send the prober a check set, or an amendment to the last one.
    SetChecks(CheckSet),
    /// Set the interval of a check in the prober.
    SetInterval(CheckId, Duration),
    /// Read all of VPP's state; answered by [`Input::AllRead`].
    ReadAll,
    /// Read VPP's global settings and list its VIPs; answered by [`Input::VipsListed`].
    ListVips,
    /// Read the servers of a VIP; answered by [`Input::ServersRead`].
    ReadServers(VipKey),
    /// Read a VIP and its servers; answered by [`Input::VipRead`].
    ReadVip(VipKey),
    /// Send VPP's global settings; answered by [`Input::ConfSet`].
    SetConf(LbConf),
    /// Apply these steps in order, until one fails; answered by [`Input::StepsApplied`].
    Apply(VipPlan),
    /// Publish this event.
    Event(Event),
}

/// A check set, or an amendment to the last one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CheckSet {
    /// Increases with every set and amendment.
    pub generation: u64,
    /// Checks that an amendment removes; `None` for a whole set, which replaces the last one.
    pub dropped: Option<Vec<CheckId>>,
    /// Certificates of the checks in a whole set. The checks of an amendment refer to those of the set.
    pub bundles: Vec<Arc<Bundle>>,
    /// Checks.
    pub checks: Vec<(CheckId, Schedule, Check)>,
}

/// Interval of the synthetic passes of static backends.
const STATIC_PERIOD: Duration = Duration::from_secs(30);

/// Reason of a wake-up. Simultaneous timers fire in this order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Timer {
    /// Static backends pass.
    StaticPass,
    /// A startup hold may end.
    HoldEnd,
    /// The next VIP is compared with VPP.
    DriftCheck,
    /// Everything is compared with VPP.
    Resync,
    /// The backoff of the global settings ends.
    RetryConf,
    /// The backoff of this VIP ends.
    RetryVip(VipKey),
    /// An override may expire.
    OverrideExpiry,
    /// The window of a mass failure may end.
    MassFailureWindow,
}

/// Context of one input: its time, and the list of outputs.
struct Ctx<'a> {
    now: Now,
    out: &'a mut Vec<Output>,
}

impl Ctx<'_> {
    fn event(&mut self, kind: Kind) {
        self.out.push(Output::Event(Event { at: self.now.wall, kind }));
    }
}

/// The state of `maglevd`. A clone is cheap at any size: it shares all parts that neither side changes.
#[derive(Clone, Debug)]
pub struct State {
    config: Arc<Config>,
    /// Shared with the readers and the writer of the overrides file; a change allocates another one.
    overrides: Arc<Overrides>,
    /// Sorted by name.
    backends: CowList<BackendEntry>,
    /// Sorted by name.
    frontends: CowList<FrontendEntry>,
    frontend_by_vip: Arc<BTreeMap<VipKey, usize>>,
    counts: StateCounts,
    prober: ProberState,
    mass_failure: MassFailure,
    local_faults: LocalFaults,
    route_evidence: RouteEvidence,
    vpp: VppSession,
    observed: ObservedState,
    drifts: DriftHistory,
    heap: HeapGuard,
    inferred: InferredState,
    vip_jobs: VipReconciler,
    conf_job: ConfReconciler,
    /// VIPs of the last run, until VPP is connected.
    last_run: OwnedVips,
    timers: BTreeSet<(MonoTime, Timer)>,
}

impl State {
    /// Creates the state at the start. `overrides` are those of the last run; expired ones are dropped. Without
    /// `vpp_enabled`, no VPP is programmed.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        overrides: Arc<Overrides>,
        vpp_enabled: bool,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Self {
        let mut state = Self {
            config: Arc::clone(&config),
            overrides,
            backends: CowList::default(),
            frontends: CowList::default(),
            frontend_by_vip: Arc::default(),
            counts: StateCounts::default(),
            prober: ProberState::new(now),
            mass_failure: MassFailure::default(),
            local_faults: LocalFaults::default(),
            route_evidence: RouteEvidence::default(),
            vpp: VppSession::new(vpp_enabled, now),
            observed: ObservedState::default(),
            drifts: DriftHistory::default(),
            heap: HeapGuard::default(),
            inferred: InferredState::default(),
            vip_jobs: VipReconciler::default(),
            conf_job: ConfReconciler::default(),
            last_run: OwnedVips::default(),
            timers: BTreeSet::new(),
        };
        let ctx = &mut Ctx { now, out };
        let expired = state.take_expired(ctx);
        state.start(config, ctx);
        state.audit_expired(&expired, ctx);
        state.set_timer(ctx, STATIC_PERIOD, Timer::StaticPass);
        state
    }

    /// Processes `input`, and appends the resulting requests to `out`.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Vec<Output>) {
        let ctx = &mut Ctx { now, out };
        match input {
            Input::ProberUp => self.prober_up(ctx),
            Input::ProberDown => self.prober_down(ctx),
            Input::ProberUnreachable(fault) => self.prober.fault = Some(fault),
            Input::Histories(histories) => self.replay_histories(&histories, ctx),
            Input::Committed(generation) => self.committed(generation, ctx),
            Input::CheckRejected(check, reason) => self.check_rejected(check, reason, ctx),
            Input::ProberStats(stats) => self.prober.stats = stats,
            Input::Outcomes(outcomes) => {
                outcomes.iter().for_each(|outcome| self.record_outcome(outcome, ctx));
            }
            Input::Reload(config) => self.reload(config, ctx),
            Input::VppUp(info) => self.vpp_up(info, ctx),
            Input::VppMeasured(memory) => self.heap.measured(memory),
            Input::VppDown => self.vpp_down(ctx),
            Input::VppUnreachable(fault) => self.vpp.set_fault(fault),
            Input::AllRead(actual) => self.all_read(actual, ctx),
            Input::VipsListed(conf, vips) => self.vips_listed(conf, &vips, ctx),
            Input::ServersRead(vip, servers) => self.servers_read(vip, servers, ctx),
            Input::VipRead(vip, found) => self.vip_read(vip, found, ctx),
            Input::ConfSet(error) => self.conf_set(error, ctx),
            Input::StepsApplied { vip, done, error } => self.steps_applied(vip, done, error, ctx),
            Input::Resync => self.resync(ctx),
            Input::Audit(actor, action) => ctx.event(Kind::Operator(Audit::of(actor, action))),
            Input::AddressConflicts(vips) => self.update_conflicts(vips, ctx),
            Input::Surroundings(vips) => self.observed.set_surroundings(vips),
            Input::Tick => self.tick(ctx),
        }
    }

    /// Returns the time at which the core needs the next [`Input::Tick`].
    #[must_use]
    pub fn wake_at(&self) -> Option<MonoTime> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Returns the operators' overrides. Each change is another allocation, so pointer equality detects it.
    #[must_use]
    pub const fn overrides(&self) -> &Arc<Overrides> {
        &self.overrides
    }

    fn set_timer(&mut self, ctx: &Ctx, after: Duration, timer: Timer) {
        self.timers.insert((ctx.now.mono + after, timer));
    }

    fn tick(&mut self, ctx: &mut Ctx) {
        while let Some(&(at, timer)) = self.timers.first()
            && at <= ctx.now.mono
        {
            self.timers.pop_first();
            match timer {
                Timer::StaticPass => {
                    self.pass_static_backends(ctx);
                    self.set_timer(ctx, STATIC_PERIOD, Timer::StaticPass);
                }
                Timer::HoldEnd => self.refresh_held_frontends(ctx),
                Timer::DriftCheck => self.next_drift_check(ctx),
                Timer::Resync => self.resync(ctx),
                Timer::RetryConf => self.retry_conf(ctx),
                Timer::RetryVip(vip) => self.retry_vip(vip, ctx),
                Timer::OverrideExpiry => self.expire_overrides(ctx),
                Timer::MassFailureWindow => self.close_window(ctx),
            }
        }
    }
}
