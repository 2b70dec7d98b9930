//! The whole of what `maglevd` knows, and what follows from each thing that it is told.
//!
//! Three things remember: the health trackers, the operators' wishes, and what VPP was last seen to have. Everything
//! else (active pools, weights, steps) is computed from them, for the frontends that an input touches.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use maglev_ipc::{Check, CheckId, Outcome, ProberStats, Schedule, VerdictHistory};

use crate::config::{Bundle, Config};
use crate::cow_list::CowList;
use crate::dataplane::{ActualAs, ActualState, ActualVip, Encap, LbConf, VipKey, VipPlan};
use crate::event::{Audit, AuditAction, Event, Kind};
use crate::overrides::Overrides;
use crate::time::{MonoTime, Now};
use crate::view::VppInfo;

mod backends;
mod blind;
mod checks;
#[cfg(test)]
mod cost;
mod drift;
mod expiry;
mod explain;
mod frontends;
mod inferred;
mod operate;
mod preview;
mod prober;
mod reload;
mod shadow;
mod show;
mod sight;
mod summary;
mod sync;

pub use explain::{ExplanationLine, Topic};
pub use operate::{OperateError, OperatorCommand, Requester};
pub use preview::{PlanPreview, VipPreview};
pub use summary::StateSummary;

use backends::Backend;
use blind::Blind;
use frontends::Frontend;
use prober::Prober;
use summary::StateCounts;
use sync::Sync;

/// Something that the core is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The prober is there; it knows nothing of us yet.
    ProberUp,
    /// The prober is lost.
    ProberDown,
    /// It was tried to reach the prober, in vain: why.
    ProberUnreachable(String),
    /// The prober kept running while we were away, and remembers this.
    Histories(Vec<VerdictHistory>),
    /// The check set of that generation is in force.
    Committed(u64),
    /// The prober will not run a check.
    CheckRejected(CheckId, String),
    /// What the prober counts.
    ProberStats(ProberStats),
    /// What came of probes, in the order in which it is to count.
    Outcomes(Vec<Outcome>),
    /// A new configuration.
    Reload(Arc<Config>),
    /// VPP is there; nothing of it has been read yet.
    VppUp(VppInfo),
    /// VPP is lost. Nothing that was asked of it will be answered.
    VppDown,
    /// It was tried to reach VPP, in vain: why.
    VppUnreachable(String),
    /// The answer to [`Output::ReadAll`].
    AllRead(ActualState),
    /// The answer to [`Output::ListVips`].
    VipsListed(Option<LbConf>, BTreeMap<VipKey, ListedVip>),
    /// The answer to [`Output::ReadServers`].
    ServersRead(VipKey, BTreeMap<IpAddr, ActualAs>),
    /// The answer to [`Output::ReadVip`].
    VipRead(VipKey, Option<ActualVip>),
    /// The answer to [`Output::SetConf`]: VPP's word for why it refused, if it did.
    ConfSet(Option<String>),
    /// The answer to [`Output::Apply`].
    StepsApplied {
        /// The run's VIP.
        vip: VipKey,
        /// How many of its steps were made.
        done: usize,
        /// VPP's word for why the next one was not.
        error: Option<String>,
    },
    /// Compare everything with what VPP has, at once.
    Resync,
    /// An operator asks for something that is no override, which follows as an input of its own. It is only told.
    Audit(String, AuditAction),
    /// The VIPs whose address VPP has on an interface of its own, whole: they get no traffic.
    AddressConflicts(BTreeSet<VipKey>),
    /// The time that [`State::wake_at`] asked for has come.
    Tick,
}

/// A VIP as VPP lists it, without its servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListedVip {
    /// How packets travel to its servers.
    pub encap: Encap,
    /// The length of its new-flow table, where VPP tells.
    pub table_length: Option<u32>,
}

/// Something that the core wants done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Send the prober this set of checks, in place of any other or as an amendment to it.
    SetChecks(CheckSet),
    /// Tell the prober a check's new interval.
    SetInterval(CheckId, Duration),
    /// Read everything that VPP has; answered by [`Input::AllRead`].
    ReadAll,
    /// Read VPP's settings and the VIPs without their servers; answered by [`Input::VipsListed`].
    ListVips,
    /// Read a VIP's servers; answered by [`Input::ServersRead`].
    ReadServers(VipKey),
    /// Read a VIP and its servers; answered by [`Input::VipRead`].
    ReadVip(VipKey),
    /// Send VPP's global settings; answered by [`Input::ConfSet`].
    SetConf(LbConf),
    /// Make these steps, in order, until one fails; answered by [`Input::StepsApplied`].
    Apply(VipPlan),
    /// Tell whoever watches.
    Event(Event),
}

/// A set of checks, or an amendment to the one that was sent last.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CheckSet {
    /// Grows with every set.
    pub generation: u64,
    /// What leaves the set that was sent last; `None` is all of it.
    pub dropped: Option<Vec<CheckId>>,
    /// The certificates that the checks of a whole set refer to. Those of an amendment were sent with the set.
    pub bundles: Vec<Arc<Bundle>>,
    /// The checks.
    pub checks: Vec<(CheckId, Schedule, Check)>,
}

/// How often a static backend gets its synthetic pass.
const STATIC_PERIOD: Duration = Duration::from_secs(30);

/// What the core wants to be woken for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Timer {
    /// Static backends pass again.
    Static,
    /// A warm-up may be over.
    Release,
    /// Compare the next VIP with what VPP has.
    Drift,
    /// Compare everything with what VPP has.
    Resync,
    /// Send VPP's global settings again.
    RetryConf,
    /// Read this VIP again, and plan anew.
    Retry(VipKey),
    /// An override's time may be over.
    Expire,
    /// Verdicts that wait may have waited long enough.
    Doubt,
}

/// The moment, and the list that outputs go to.
struct Ctx<'a> {
    now: Now,
    out: &'a mut Vec<Output>,
}

impl Ctx<'_> {
    fn event(&mut self, kind: Kind) {
        self.out.push(Output::Event(Event { at: self.now.wall, kind }));
    }
}

/// The whole of what `maglevd` knows. To clone it costs little, however much it knows: a clone shares what stays as it is.
#[derive(Clone, Debug)]
pub struct State {
    config: Arc<Config>,
    /// Shared with whoever shows them or writes them down; a change makes another.
    overrides: Arc<Overrides>,
    /// By name.
    backends: CowList<Backend>,
    /// By name.
    frontends: CowList<Frontend>,
    /// Which frontend a VIP belongs to.
    vips: Arc<BTreeMap<VipKey, usize>>,
    counts: StateCounts,
    prober: Prober,
    blind: Blind,
    /// Of how many backends nothing but faults of this host is heard.
    unseen: usize,
    sync: Sync,
    timers: BTreeSet<(MonoTime, Timer)>,
}

impl State {
    /// The state at the start, with the `overrides` of the last run, of which those whose time is over are left out. With
    /// `vpp` false there is no VPP to be programmed.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        overrides: Arc<Overrides>,
        vpp: bool,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Self {
        let mut state = Self {
            config: Arc::clone(&config),
            overrides,
            backends: CowList::default(),
            frontends: CowList::default(),
            vips: Arc::default(),
            counts: StateCounts::default(),
            prober: Prober::new(now),
            blind: Blind::default(),
            unseen: 0,
            sync: Sync::new(vpp, now),
            timers: BTreeSet::new(),
        };
        let ctx = &mut Ctx { now, out };
        let over = state.take_overdue(ctx);
        state.start(config, ctx);
        state.tell_overdue(&over, ctx);
        state.set_timer(ctx, STATIC_PERIOD, Timer::Static);
        state
    }

    /// Takes in `input`, and appends to `out` what follows from it.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Vec<Output>) {
        let ctx = &mut Ctx { now, out };
        match input {
            Input::ProberUp => self.prober_up(ctx),
            Input::ProberDown => self.prober_down(ctx),
            Input::ProberUnreachable(why) => self.prober.fault = Some(why),
            Input::Histories(streaks) => self.streaks(&streaks, ctx),
            Input::Committed(generation) => self.committed(generation, ctx),
            Input::CheckRejected(check, why) => self.refused(check, why, ctx),
            Input::ProberStats(stats) => self.prober.stats = stats,
            Input::Outcomes(outcomes) => outcomes.iter().for_each(|outcome| self.outcome(outcome, ctx)),
            Input::Reload(config) => self.reload(config, ctx),
            Input::VppUp(info) => self.vpp_up(info, ctx),
            Input::VppDown => self.vpp_down(ctx),
            Input::VppUnreachable(why) => self.sync.fault = Some(why),
            Input::AllRead(actual) => self.all_read(actual, ctx),
            Input::VipsListed(conf, vips) => self.listed(conf, &vips, ctx),
            Input::ServersRead(vip, servers) => self.servers_read(vip, servers, ctx),
            Input::VipRead(vip, found) => self.vip_read(vip, found, ctx),
            Input::ConfSet(error) => self.conf_set(error, ctx),
            Input::StepsApplied { vip, done, error } => self.ran(vip, done, error, ctx),
            Input::Resync => self.resync(ctx),
            Input::Audit(who, what) => ctx.event(Kind::Operator(Audit::of(who, what))),
            Input::AddressConflicts(vips) => self.shadowed(vips, ctx),
            Input::Tick => self.tick(ctx),
        }
    }

    /// When [`Input::Tick`] is wanted next.
    #[must_use]
    pub fn wake_at(&self) -> Option<MonoTime> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// In what operators have overridden the configuration. After a change it is another allocation.
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
                Timer::Static => {
                    self.static_passes(ctx);
                    self.set_timer(ctx, STATIC_PERIOD, Timer::Static);
                }
                Timer::Release => self.refresh_held(ctx),
                Timer::Drift => self.next_drift_check(ctx),
                Timer::Resync => self.resync(ctx),
                Timer::RetryConf => self.retry_conf(ctx),
                Timer::Retry(vip) => self.retry(vip, ctx),
                Timer::Expire => self.expire(ctx),
                Timer::Doubt => self.end_doubt(ctx),
            }
        }
    }
}
