//! VPP, as seen from the core: what it has, what is being done to it, and when to look again.
//!
//! At most one thing is under way per VIP. What changes meanwhile is looked at when it ends, so VPP sees the latest
//! state and not each step on the way there.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::inferred::InferredState;
use super::{Ctx, Output, State, Timer};
use crate::config::ForeignVips;
use crate::dataplane::{ActualState, ActualVip, Encap, LbConf, Step, VipKey, VipPlan};
use crate::event::Kind;
use crate::plan;
use crate::plan::StepCounts;
use crate::time::{MonoTime, Now, WallTime};
use crate::view::VppInfo;

/// The pause after the first failure; it doubles with each one that follows, up to `sync-interval` or [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest such pause: what becomes of a VIP's backends waits for as long.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// After this long, a VPP that was lost and is back is looked at once more.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// VPP, as seen from the core.
#[derive(Clone, Debug)]
pub(super) struct Sync {
    pub enabled: bool,
    pub info: Option<VppInfo>,
    pub since: WallTime,
    /// Why VPP could not be reached when that was tried last, since it was there.
    pub fault: Option<String>,
    /// What it was last seen to have, with what was done to it since. Outlives the connection.
    pub seen: Option<Arc<ActualState>>,
    /// Whether `seen` is of this connection.
    pub current: bool,
    pub failures: BTreeMap<VipKey, Failure>,
    /// VIPs that were ours until a reload, and go whatever becomes of foreign ones; until they are seen to be gone.
    pub retired: BTreeSet<VipKey>,
    /// VIPs whose address VPP has on an interface of its own, as of this connection.
    pub shadowed: BTreeSet<VipKey>,
    pub jobs: BTreeMap<VipKey, Job>,
    /// While VPP is being asked for its VIPs: those to which something was done meanwhile, so that the answer is stale.
    pub listing: Option<BTreeSet<VipKey>>,
    pub conf: ConfJob,
    conf_failures: u32,
    /// VPP's word for why it refused its global settings, as long as it does.
    pub conf_refusal: Option<String>,
    /// The last VIP that was compared with what VPP has.
    pub cursor: Option<VipKey>,
    /// When the next VIP is to be compared.
    pub drift_check: Option<MonoTime>,
    life: Option<Life>,
    pub inferred: InferredState,
}

/// Tells one life of VPP from the next.
#[derive(Clone, Copy, Debug)]
struct Life {
    pid: u32,
    /// When it began, as far as that was ever told.
    boot: Option<WallTime>,
    /// Whether that was told on the last connection.
    told: bool,
}

/// A VIP's last runs, all of which failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The step that VPP refused last.
    pub step: Step,
    pub error: String,
    pub times: u32,
}

/// What is under way for a VIP.
#[derive(Clone, Debug)]
pub(super) enum Job {
    Running(Vec<Step>),
    Reading,
    /// For its alarm, after a failure.
    Waiting,
}

/// What is under way for VPP's global settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ConfJob {
    Idle,
    Sent(LbConf),
    /// For its alarm, after a failure.
    Waiting,
}

impl Sync {
    pub fn new(enabled: bool, now: Now) -> Self {
        Self {
            enabled,
            info: None,
            since: now.wall,
            fault: None,
            seen: None,
            current: false,
            failures: BTreeMap::new(),
            retired: BTreeSet::new(),
            shadowed: BTreeSet::new(),
            jobs: BTreeMap::new(),
            listing: None,
            conf: ConfJob::Idle,
            conf_failures: 0,
            conf_refusal: None,
            cursor: None,
            drift_check: None,
            life: None,
            inferred: InferredState::default(),
        }
    }

    /// What VPP was last seen to have, if that is of this connection.
    pub fn now(&self) -> Option<&ActualState> {
        self.seen.as_deref().filter(|_| self.current)
    }

    /// As `seen`, to be changed.
    pub fn seen_mut(&mut self) -> Option<&mut ActualState> {
        self.seen.as_mut().map(Arc::make_mut)
    }

    /// As [`Self::found`], to be changed.
    pub fn found_mut(&mut self, vip: &VipKey) -> Option<&mut ActualVip> {
        self.seen_mut()?.vips.get_mut(vip)
    }

    /// Nothing is under way any more, and what VPP has is to be read before anything is.
    pub fn forget_jobs(&mut self) {
        self.current = false;
        self.jobs.clear();
        self.failures.clear();
        self.listing = None;
        self.conf = ConfJob::Idle;
        self.conf_failures = 0;
        self.conf_refusal = None;
    }

    pub fn found(&self, vip: &VipKey) -> Option<&ActualVip> {
        self.now()?.vips.get(vip)
    }

    pub fn begin(&mut self, vip: VipKey, job: Job) {
        self.jobs.insert(vip, job);
        if let Some(touched) = &mut self.listing {
            touched.insert(vip);
        }
    }

    /// Whether no VIP that VPP has, or is being given, keeps it from creating this one.
    pub fn may_create(&self, vip: &VipKey, encap: Encap) -> bool {
        self.current && self.blocker(vip, encap).is_none()
    }

    /// The VIP that VPP has, or is being given, and that keeps it from creating this one.
    pub fn blocker(&self, vip: &VipKey, encap: Encap) -> Option<VipKey> {
        let actual = self.now()?;
        let there = of_prefix(&actual.vips, vip).map(|(key, found)| (key, found.encap));
        let coming = of_prefix(&self.jobs, vip).filter_map(|(key, job)| match job {
            Job::Running(steps) => plan::created_options(steps).map(|(encap, _)| (key, encap)),
            Job::Reading | Job::Waiting => None,
        });
        there.chain(coming).find(|other| plan::blocks_creation(*other, (vip, encap))).map(|(key, _)| *key)
    }
}

/// What is known of the VIPs of one prefix.
fn of_prefix<'a, T>(
    vips: &'a BTreeMap<VipKey, T>,
    vip: &VipKey,
) -> impl Iterator<Item = (&'a VipKey, &'a T)> + use<'a, T> {
    let first = VipKey { protocol: 0, port: 0, ..*vip };
    let last = VipKey { protocol: u8::MAX, port: u16::MAX, ..*vip };
    vips.range(first..=last)
}

/// VPP dies when it collects two removed VIPs of this kind that share a server, so nobody's are left alone.
pub(super) const fn is_nat(encap: Encap) -> bool {
    matches!(encap, Encap::Nat4 | Encap::Nat6)
}

/// Between one failure and the next try.
fn backoff(failures: u32, longest: Duration) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest).min(LAST_RETRY)
}

impl State {
    pub(super) fn vpp_up(&mut self, info: VppInfo, ctx: &mut Ctx) {
        let before = self.sync.life;
        // ProberStats that cannot be read this time do not make it another.
        let same = before.is_some_and(|life| {
            life.pid == info.pid && life.boot.is_none_or(|before| info.boot.is_none_or(|now| now == before))
        });
        let known = before.filter(|_| same).and_then(|life| life.boot);
        let boot = info.boot.or(known);
        self.sync.life = Some(Life { pid: info.pid, boot, told: info.boot.is_some() });
        if same {
            // A VPP that had stopped may do what it was asked on the old connection after it is read on this one.
            self.set_timer(ctx, SECOND_LOOK, Timer::Resync);
        } else if let Some(before) = before {
            // What is believed of one VPP is not true of another.
            self.sync.inferred = InferredState::default();
            // Unless it may have been this one already on the last connection: then what has left since was ours in it.
            if before.told || before.pid != info.pid {
                self.sync.retired.clear();
            }
        }
        self.sync.info = Some(info);
        self.sync.fault = None;
        self.sync.since = ctx.now.wall;
        self.sync.current = false;
        ctx.event(Kind::Vpp { connected: true });
        ctx.out.push(Output::ReadAll);
    }

    pub(super) fn vpp_down(&mut self, ctx: &mut Ctx) {
        if self.sync.info.take().is_none() {
            return;
        }
        self.sync.since = ctx.now.wall;
        self.sync.forget_jobs();
        self.sync.shadowed.clear();
        self.timers.retain(|(_, timer)| {
            !matches!(timer, Timer::Drift | Timer::Resync | Timer::RetryConf | Timer::Retry(_))
        });
        ctx.event(Kind::Vpp { connected: false });
    }

    pub(super) fn all_read(&mut self, mut actual: ActualState, ctx: &mut Ctx) {
        // Asked for twice, as VPP was lost and back meanwhile. What was done since the first reading is not in this one.
        if self.sync.current {
            return;
        }
        for (vip, found) in &mut actual.vips {
            if let Some(told) = found.src_ip_sticky {
                self.sync.inferred.told(*vip, told);
            }
            found.src_ip_sticky = self.sticky_belief(vip);
        }
        self.sync.inferred.found(&actual);
        self.sync.seen = Some(Arc::new(actual));
        self.sync.current = true;
        self.sync_all(ctx);
        self.schedule_drift_check(ctx);
    }

    /// Brings VPP's settings and every VIP to what they should be.
    pub(super) fn sync_all(&mut self, ctx: &mut Ctx) {
        self.sync_conf(ctx);
        let ours = self.vips.keys().copied();
        let there = self.sync.now().into_iter().flat_map(|actual| actual.vips.keys().copied());
        let vips: BTreeSet<_> = ours.chain(there).chain(self.sync.retired.iter().copied()).collect();
        for vip in vips {
            self.sync_vip(vip, ctx);
        }
    }

    /// Starts the steps that bring a VIP to what it should be, unless something is under way for it already.
    pub(super) fn sync_vip(&mut self, vip: VipKey, ctx: &mut Ctx) {
        if !self.sync.current || self.sync.jobs.contains_key(&vip) {
            return;
        }
        let steps = self.steps(vip, ctx.now);
        if steps.is_empty() {
            self.sync.failures.remove(&vip);
            if self.sync.found(&vip).is_none() {
                self.sync.retired.remove(&vip);
            }
            return;
        }
        let exists = self.sync.found(&vip).is_some();
        self.sync.inferred.asked(vip, &steps, exists);
        self.sync.begin(vip, Job::Running(steps.clone()));
        ctx.out.push(Output::Apply(VipPlan { vip, steps }));
    }

    fn steps(&self, vip: VipKey, now: Now) -> Vec<Step> {
        let found = self.sync.found(&vip);
        let Some(index) = self.vips.get(&vip) else {
            let foreign = self.config.lb.foreign_vips == ForeignVips::Remove
                && !found.is_some_and(|found| is_nat(found.encap));
            let goes = foreign || self.sync.retired.contains(&vip);
            return if goes { plan::plan(None, found, false) } else { Vec::new() };
        };
        let wanted = self.desired(&self.frontends[*index], found, now.mono);
        let may_create = self.sync.may_create(&vip, wanted.encap);
        plan::plan(Some(&wanted), found, may_create)
    }

    pub(super) fn ran(&mut self, vip: VipKey, done: usize, error: Option<String>, ctx: &mut Ctx) {
        let Some(Job::Running(steps)) = self.sync.jobs.remove(&vip) else { return };
        let done = done.min(steps.len());
        let (made, left) = steps.split_at(done);
        self.note_made(vip, made);
        if !made.is_empty() {
            ctx.event(Kind::Synced { vip, counts: StepCounts::of(made) });
        }
        if let (Some(error), Some(step)) = (error, left.first()) {
            self.failed(vip, *step, error, ctx);
        } else {
            self.sync.failures.remove(&vip);
            self.sync_vip(vip, ctx);
        }
        if self.sync.found(&vip).is_none() {
            self.sync_neighbours(vip, ctx);
        }
    }

    /// Writes down what VPP has done.
    fn note_made(&mut self, vip: VipKey, made: &[Step]) {
        for step in made {
            self.sync.inferred.made(vip, step);
        }
        let Some(actual) = self.sync.seen_mut() else { return };
        let mut found = actual.vips.remove(&vip);
        for step in made {
            plan::apply(step, &mut found);
        }
        if let Some(mut found) = found {
            found.recompute_buckets();
            actual.vips.insert(vip, found);
        }
    }

    fn failed(&mut self, vip: VipKey, step: Step, error: String, ctx: &mut Ctx) {
        let times = self.sync.failures.get(&vip).map_or(0, |f| f.times) + 1;
        self.sync.failures.insert(vip, Failure { step, error: error.clone(), times });
        self.sync.begin(vip, Job::Waiting);
        let pause = backoff(times, self.config.lb.sync_interval);
        self.set_timer(ctx, pause, Timer::Retry(vip));
        ctx.event(Kind::StepFailed { vip, step, error });
    }

    pub(super) fn retry(&mut self, vip: VipKey, ctx: &mut Ctx) {
        if let Some(Job::Waiting) = self.sync.jobs.get(&vip) {
            self.sync.begin(vip, Job::Reading);
            ctx.out.push(Output::ReadVip(vip));
        }
    }

    pub(super) fn vip_read(&mut self, vip: VipKey, found: Option<ActualVip>, ctx: &mut Ctx) {
        let Some(Job::Reading) = self.sync.jobs.remove(&vip) else { return };
        let src_ip_sticky = self.sticky_belief(&vip);
        let Some(actual) = self.sync.seen.as_mut().map(Arc::make_mut) else { return };
        let before = actual.vips.remove(&vip);
        if before.as_ref().map(ActualVip::weights) != found.as_ref().map(ActualVip::weights) {
            ctx.event(Kind::Drift { vip, reverted: true });
        }
        if let Some(found) = found {
            actual.vips.insert(vip, ActualVip { src_ip_sticky, ..found });
        } else {
            self.sync.inferred.gone(vip);
        }
        self.sync_vip(vip, ctx);
    }

    /// VIPs that may have waited for this one to go, or not to come.
    pub(super) fn sync_neighbours(&mut self, gone: VipKey, ctx: &mut Ctx) {
        let neighbours: Vec<_> = of_prefix(&self.vips, &gone).map(|(vip, _)| *vip).collect();
        for vip in neighbours {
            self.sync_vip(vip, ctx);
        }
    }

    pub(super) fn retry_conf(&mut self, ctx: &mut Ctx) {
        if self.sync.conf == ConfJob::Waiting {
            self.sync.conf = ConfJob::Idle;
            self.sync_conf(ctx);
        }
    }

    pub(super) fn sync_conf(&mut self, ctx: &mut Ctx) {
        let (Some(actual), ConfJob::Idle) = (self.sync.now(), self.sync.conf) else { return };
        // Nothing of ours needs them. They may be somebody else's, and a change can cost all flows.
        if self.config.frontends.is_empty() {
            return;
        }
        let wanted = self.config.lb.conf;
        if actual.conf != Some(wanted) {
            self.sync.conf = ConfJob::Sent(wanted);
            ctx.out.push(Output::SetConf(wanted));
        }
    }

    pub(super) fn conf_set(&mut self, error: Option<String>, ctx: &mut Ctx) {
        let ConfJob::Sent(conf) = self.sync.conf else { return };
        ctx.event(Kind::LbConf { error: error.clone() });
        self.sync.conf_refusal.clone_from(&error);
        if error.is_some() {
            self.sync.conf = ConfJob::Waiting;
            self.sync.conf_failures += 1;
            let pause = backoff(self.sync.conf_failures, self.config.lb.sync_interval);
            self.set_timer(ctx, pause, Timer::RetryConf);
            return;
        }
        self.sync.conf = ConfJob::Idle;
        self.sync.conf_failures = 0;
        if let Some(actual) = self.sync.seen_mut() {
            actual.conf = Some(conf);
        }
        self.sync_conf(ctx);
    }

    pub(super) fn sticky_belief(&mut self, vip: &VipKey) -> Option<bool> {
        let configured = self.vips.get(vip).is_some_and(|index| self.frontends[*index].config.src_ip_sticky);
        self.sync.inferred.sticky(*vip, configured)
    }
}
