//! Brings VPP to the desired state: connection, full read, plans, their results, and retries.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::conf_reconciler::ConfResult;
use super::inferred::InferredState;
use super::vip_reconciler::{VipJob, of_prefix};
use super::vpp_session::InstanceChange;
use super::{Ctx, Output, State, Timer};
use crate::config::ForeignVips;
use crate::dataplane::{ActualState, ActualVip, Encap, Step, VipKey, VipPlan};
use crate::event::Kind;
use crate::ownership::OwnedVips;
use crate::plan::{self, StepCounts};
use crate::time::Now;
use crate::view::VppInfo;

/// Backoff after the first failure. It doubles with each further one, up to `sync-interval` or [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_secs(1);

/// Longest backoff: a VIP's health changes wait for as long.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Delay of the resync after VPP was reconnected.
const RESYNC_AFTER_RECONNECT: Duration = Duration::from_secs(1);

impl State {
    pub(super) fn vpp_up(&mut self, info: VppInfo, ctx: &mut Ctx) {
        match self.vpp.connect(info, ctx.now) {
            InstanceChange::First => self.reclaim_vips(),
            // A VPP that was stopped may apply requests of the old connection after this one has read it.
            InstanceChange::Same => self.set_timer(ctx, RESYNC_AFTER_RECONNECT, Timer::Resync),
            InstanceChange::Restarted => {
                self.inferred = InferredState::default();
                self.vip_jobs.clear_retired();
            }
            // VIPs retired since the last connection may be in this instance.
            InstanceChange::MaybeRestarted => self.inferred = InferredState::default(),
        }
        self.observed.mark_unread();
        self.heap.connected();
        ctx.event(Kind::Vpp { connected: true });
        ctx.out.push(Output::ReadAll);
    }

    /// Retires the VIPs of the last run that left the configuration meanwhile, if VPP is still the same one.
    fn reclaim_vips(&mut self) {
        let last = core::mem::take(&mut self.last_run);
        if last.vpp.is_some() && last.vpp == self.vpp.run() {
            let vips: BTreeMap<_, _> = last.vips().into_iter().map(|vip| (vip, ())).collect();
            let configured = self.frontend_by_vip.keys().map(|vip| (*vip, ())).collect();
            self.vip_jobs.retire(&vips, &configured);
        }
    }

    /// Takes over the VIPs of the last run. They are foreign unless VPP is still the same one.
    pub fn restore_ownership(&mut self, last: OwnedVips) {
        self.last_run = last;
    }

    /// Returns the VIPs that are ours in VPP.
    #[must_use]
    pub fn owned_vips(&self) -> OwnedVips {
        OwnedVips {
            vpp: self.vpp.run().or(self.last_run.vpp),
            configured: Arc::clone(&self.frontend_by_vip),
            retired: Arc::clone(self.vip_jobs.retired_shared()),
            restored: Arc::clone(&self.last_run.restored),
        }
    }

    pub(super) fn vpp_down(&mut self, ctx: &mut Ctx) {
        if !self.vpp.disconnect(ctx.now) {
            return;
        }
        self.discard_jobs();
        self.observed.set_conflicts(BTreeSet::new());
        self.observed.set_surroundings(BTreeMap::new());
        self.timers.retain(|(_, timer)| {
            !matches!(timer, Timer::DriftCheck | Timer::Resync | Timer::RetryConf | Timer::RetryVip(_))
        });
        ctx.event(Kind::Vpp { connected: false });
    }

    /// Discards all jobs, and requires a full read before the next one.
    pub(super) fn discard_jobs(&mut self) {
        self.observed.mark_unread();
        self.vip_jobs.reset();
        self.conf_job.reset();
    }

    pub(super) fn all_read(&mut self, mut actual: ActualState, ctx: &mut Ctx) {
        // VPP was lost and reconnected, so it was read twice. The second read may miss steps applied since the first.
        if self.observed.is_fresh() {
            return;
        }
        for (vip, found) in &mut actual.vips {
            if let Some(sticky) = found.src_ip_sticky {
                self.inferred.sticky_observed(*vip, sticky);
            }
            found.src_ip_sticky = self.inferred_sticky(vip);
        }
        self.inferred.full_read(&actual);
        self.heap.found(&actual);
        self.weigh_heap(ctx);
        let is_first = self.observed.latest().is_none();
        self.observed.set(actual);
        self.mark_served_slots();
        if is_first {
            self.adopt_servers(ctx);
        }
        self.sync_all(ctx);
        // Their holds may have waited for this read.
        self.refresh_held_frontends(ctx);
        self.schedule_drift_check(ctx);
    }

    /// Reconciles the global settings and every VIP.
    pub(super) fn sync_all(&mut self, ctx: &mut Ctx) {
        self.sync_conf(ctx);
        let configured = self.frontend_by_vip.keys().copied();
        let found = self.observed.fresh().into_iter().flat_map(|actual| actual.vips.keys().copied());
        let vips: BTreeSet<_> = configured.chain(found).chain(self.vip_jobs.retired()).collect();
        for vip in vips {
            self.sync_vip(vip, ctx);
        }
    }

    /// Starts the steps that bring a VIP to its desired state, unless it has a job.
    pub(super) fn sync_vip(&mut self, vip: VipKey, ctx: &mut Ctx) {
        if !self.observed.is_fresh() || self.vip_jobs.is_busy(&vip) {
            return;
        }
        let steps = self.plan_vip(vip, ctx.now);
        let exists = self.observed.vip(&vip).is_some();
        if steps.is_empty() {
            self.vip_jobs.clear_failure(&vip);
            if !exists {
                self.vip_jobs.unretire(&vip);
            }
            return;
        }
        self.inferred.step_requested(vip, &steps, exists);
        self.vip_jobs.begin(vip, VipJob::Running(steps.clone()));
        ctx.out.push(Output::Apply(VipPlan { vip, steps }));
    }

    fn plan_vip(&self, vip: VipKey, now: Now) -> Vec<Step> {
        let found = self.observed.vip(&vip);
        let Some(index) = self.frontend_by_vip.get(&vip) else {
            let goes = found.is_some_and(|found| self.is_unwanted(&vip, found.encap));
            return if goes { plan::plan(None, found, false) } else { Vec::new() };
        };
        let wanted = self.desired(&self.frontends[*index], found, now.mono);
        let may_create = self.may_create(&vip, wanted.encap);
        plan::plan(Some(&wanted), found, may_create)
    }

    /// Reports whether a VIP without a frontend is to be removed. A file without frontends removes none, unless it says that
    /// this is meant: a template without its data makes such a file.
    pub(super) fn is_unwanted(&self, vip: &VipKey, encap: Encap) -> bool {
        let lb = &self.config.lb;
        let foreign = lb.foreign_vips == ForeignVips::Remove && !is_nat(encap);
        let is_meant = lb.allow_no_frontends || !self.config.frontends.is_empty();
        is_meant && (foreign || self.vip_jobs.is_retired(vip))
    }

    /// Reports whether VPP accepts the creation of a VIP.
    pub(super) fn may_create(&self, vip: &VipKey, encap: Encap) -> bool {
        self.observed.is_fresh()
            && self.heap.excess().is_none()
            && self.creation_blocker(vip, encap).is_none()
    }

    /// Returns the VIP, in VPP or being created, that makes VPP reject the creation of this one.
    pub(super) fn creation_blocker(&self, vip: &VipKey, encap: Encap) -> Option<VipKey> {
        let actual = self.observed.fresh()?;
        let existing = of_prefix(&actual.vips, vip).map(|(key, found)| (key, found.encap));
        let mut all = existing.chain(self.vip_jobs.creations(vip));
        all.find(|other| plan::blocks_creation(*other, (vip, encap))).map(|(key, _)| *key)
    }

    pub(super) fn steps_applied(&mut self, vip: VipKey, done: usize, error: Option<String>, ctx: &mut Ctx) {
        let Some(VipJob::Running(steps)) = self.vip_jobs.end(&vip) else { return };
        let done = done.min(steps.len());
        let (applied, left) = steps.split_at(done);
        self.record_applied(vip, applied);
        if !applied.is_empty() {
            ctx.event(Kind::Synced { vip, counts: StepCounts::of(applied) });
        }
        if let (Some(error), Some(step)) = (error, left.first()) {
            self.step_failed(vip, *step, error, ctx);
        } else {
            self.vip_jobs.clear_failure(&vip);
            self.sync_vip(vip, ctx);
        }
        if self.observed.vip(&vip).is_none() {
            self.sync_neighbours(vip, ctx);
        }
    }

    /// Updates the observed state by the steps that VPP has applied.
    fn record_applied(&mut self, vip: VipKey, applied: &[Step]) {
        for step in applied {
            self.inferred.step_applied(vip, step);
        }
        let Some(actual) = self.observed.latest_mut() else { return };
        let mut found = actual.vips.remove(&vip);
        for step in applied {
            plan::apply(step, &mut found);
        }
        if let Some(mut found) = found {
            found.recompute_buckets();
            actual.vips.insert(vip, found);
        }
    }

    fn step_failed(&mut self, vip: VipKey, step: Step, error: String, ctx: &mut Ctx) {
        let times = self.vip_jobs.record_failure(vip, step, error.clone());
        self.vip_jobs.begin(vip, VipJob::Waiting);
        let pause = backoff(times, self.config.lb.sync_interval);
        self.set_timer(ctx, pause, Timer::RetryVip(vip));
        ctx.event(Kind::StepFailed { vip, step, error });
    }

    /// Ends the backoff of a VIP: reads it again before the next plan.
    pub(super) fn retry_vip(&mut self, vip: VipKey, ctx: &mut Ctx) {
        if let Some(VipJob::Waiting) = self.vip_jobs.job(&vip) {
            self.vip_jobs.begin(vip, VipJob::Reading);
            ctx.out.push(Output::ReadVip(vip));
        }
    }

    pub(super) fn vip_read(&mut self, vip: VipKey, found: Option<ActualVip>, ctx: &mut Ctx) {
        let Some(VipJob::Reading) = self.vip_jobs.end(&vip) else { return };
        let src_ip_sticky = self.inferred_sticky(&vip);
        let Some(before) = self.observed.latest_mut().map(|actual| actual.vips.remove(&vip)) else { return };
        if before.as_ref().map(ActualVip::weights) != found.as_ref().map(ActualVip::weights) {
            self.drifted(vip, true, ctx);
        }
        match (found, self.observed.latest_mut()) {
            (Some(found), Some(actual)) => {
                actual.vips.insert(vip, ActualVip { src_ip_sticky, ..found });
            }
            _ => self.inferred.vip_gone(vip),
        }
        self.sync_vip(vip, ctx);
    }

    /// Reconciles the VIPs of the same prefix: `gone` may have blocked their creation.
    pub(super) fn sync_neighbours(&mut self, gone: VipKey, ctx: &mut Ctx) {
        let neighbours: Vec<_> = of_prefix(&self.frontend_by_vip, &gone).map(|(vip, _)| *vip).collect();
        for vip in neighbours {
            self.sync_vip(vip, ctx);
        }
    }

    /// Ends the backoff of the global settings.
    pub(super) fn retry_conf(&mut self, ctx: &mut Ctx) {
        if self.conf_job.end_wait() {
            self.sync_conf(ctx);
        }
    }

    /// Sends the global settings if VPP has others.
    pub(super) fn sync_conf(&mut self, ctx: &mut Ctx) {
        let Some(actual) = self.observed.fresh().filter(|_| self.conf_job.is_idle()) else { return };
        // Without frontends they are not needed. They may belong to another program, and a change can drop all flows.
        if self.config.frontends.is_empty() {
            return;
        }
        let wanted = self.config.lb.conf;
        let is_resized =
            actual.conf.map(|conf| conf.sticky_buckets_per_core) != Some(wanted.sticky_buckets_per_core);
        if is_resized && self.heap.excess().is_some() {
            return;
        }
        if actual.conf != Some(wanted) {
            self.conf_job.begin(wanted);
            ctx.out.push(Output::SetConf(wanted));
        }
    }

    pub(super) fn conf_set(&mut self, error: Option<String>, ctx: &mut Ctx) {
        let Some(result) = self.conf_job.end(error.clone()) else { return };
        ctx.event(Kind::LbConf { error });
        match result {
            ConfResult::Rejected(times) => {
                let pause = backoff(times, self.config.lb.sync_interval);
                self.set_timer(ctx, pause, Timer::RetryConf);
            }
            ConfResult::Applied(conf) => {
                if let Some(actual) = self.observed.latest_mut() {
                    actual.conf = Some(conf);
                }
                self.sync_conf(ctx);
            }
        }
    }

    pub(super) fn inferred_sticky(&mut self, vip: &VipKey) -> Option<bool> {
        let frontend = self.frontend_by_vip.get(vip);
        let configured = frontend.is_some_and(|index| self.frontends[*index].config.src_ip_sticky);
        self.inferred.sticky(*vip, configured)
    }
}

/// Reports whether a VIP translates addresses. `maglevd` never removes a foreign one: VPP crashes when it collects two
/// removed VIPs of this kind that share a server.
const fn is_nat(encap: Encap) -> bool {
    matches!(encap, Encap::Nat4 | Encap::Nat6)
}

/// Returns the pause before the next attempt.
fn backoff(failures: u32, longest: Duration) -> Duration {
    MIN_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest).min(MAX_BACKOFF)
}
