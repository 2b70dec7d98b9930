//! Drift checks: another program may change VPP too. One VIP after the other is compared with VPP, then VPP's list of VIPs
//! with the configuration, so that one round takes `sync-interval`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::vip_reconciler::VipJob;
use super::{Ctx, ListedVip, Output, State, Timer};
use crate::dataplane::{ActualAs, ActualVip, Encap, LbConf, VipKey};
use crate::event::Kind;
use crate::time::MonoTime;

impl State {
    pub(super) fn schedule_drift_check(&mut self, ctx: &Ctx) {
        let pause = self.drift_check_interval();
        if let Some(replaced) = self.vip_jobs.set_drift_check(ctx.now.mono + pause) {
            self.timers.remove(&(replaced, Timer::DriftCheck));
        }
        self.set_timer(ctx, pause, Timer::DriftCheck);
    }

    /// Brings the next check forward if `sync-interval` became shorter.
    pub(super) fn hasten_drift_check(&mut self, ctx: &Ctx) {
        let latest = ctx.now.mono + self.drift_check_interval();
        if self.observed.is_fresh() && self.vip_jobs.next_drift_check().is_some_and(|set| set > latest) {
            self.schedule_drift_check(ctx);
        }
    }

    fn drift_check_interval(&self) -> Duration {
        let checks = u32::try_from(self.frontend_by_vip.len()).unwrap_or(u32::MAX).saturating_add(1);
        self.config.lb.sync_interval / checks
    }

    /// Compares the next VIP with VPP; after the last one, VPP's list of VIPs with the configuration.
    pub(super) fn next_drift_check(&mut self, ctx: &mut Ctx) {
        if !self.observed.is_fresh() {
            return;
        }
        self.schedule_drift_check(ctx);
        match self.vip_jobs.advance_cursor(&self.frontend_by_vip) {
            Some(vip) => self.verify_vip(vip, ctx),
            None => self.request_list(ctx),
        }
    }

    /// Compares everything with VPP, at once.
    pub(super) fn resync(&mut self, ctx: &mut Ctx) {
        if !self.observed.is_fresh() {
            return;
        }
        self.request_list(ctx);
        let vips: Vec<_> = self.frontend_by_vip.keys().copied().collect();
        for vip in vips {
            self.verify_vip(vip, ctx);
        }
    }

    fn verify_vip(&mut self, vip: VipKey, ctx: &mut Ctx) {
        if self.vip_jobs.is_busy(&vip) {
            return;
        }
        if self.observed.vip(&vip).is_some() {
            self.vip_jobs.begin(vip, VipJob::Reading);
            ctx.out.push(Output::ReadServers(vip));
        } else {
            // The VIP that blocked its creation may be gone.
            self.sync_vip(vip, ctx);
        }
    }

    fn request_list(&mut self, ctx: &mut Ctx) {
        if self.vip_jobs.begin_list() {
            self.conf_job.begin_list();
            ctx.out.push(Output::ListVips);
        }
    }

    pub(super) fn servers_read(&mut self, vip: VipKey, servers: BTreeMap<IpAddr, ActualAs>, ctx: &mut Ctx) {
        let Some(VipJob::Reading) = self.vip_jobs.job(&vip) else { return };
        let found = self.observed.latest().and_then(|actual| actual.vips.get(&vip));
        // An answer without servers leaves open whether the VIP itself still exists.
        let Some(found) = found.filter(|found| !servers.is_empty() || found.servers.is_empty()) else {
            ctx.out.push(Output::ReadVip(vip));
            return;
        };
        let before = found.weights();
        // An unchanged VIP stays shared with clones of the state.
        if found.servers != servers
            && let Some(found) = self.observed.vip_mut(&vip)
        {
            found.servers = servers;
        }
        // A VIP without servers was found by the list just now, and has its event.
        let drifted =
            !before.is_empty() && self.observed.vip(&vip).is_some_and(|found| found.weights() != before);
        self.vip_jobs.end(&vip);
        if drifted {
            let found = self.observed.vip(&vip);
            let reverted = found.is_none_or(|found| !self.is_left_alone(&vip, found.encap));
            self.drifted(vip, reverted, ctx);
        }
        self.sync_vip(vip, ctx);
    }

    pub(super) fn vips_listed(
        &mut self,
        conf: Option<LbConf>,
        vips: &BTreeMap<VipKey, ListedVip>,
        ctx: &mut Ctx,
    ) {
        let Some(touched) = self.vip_jobs.end_list() else { return };
        self.conf_listed(conf, ctx);
        let Some(actual) = self.observed.latest() else { return };
        let is_comparable = |vip: &VipKey| !touched.contains(vip) && !self.vip_jobs.is_busy(vip);
        let gone: Vec<_> =
            actual.vips.keys().filter(|v| !vips.contains_key(v) && is_comparable(v)).copied().collect();
        let differs = |(vip, listed): &(&VipKey, &ListedVip)| {
            is_comparable(vip) && actual.vips.get(vip).is_none_or(|found| found.encap != listed.encap)
        };
        let new: Vec<_> = vips.iter().filter(differs).map(|(vip, listed)| (*vip, *listed)).collect();
        self.sync_conf(ctx);
        for vip in gone {
            let found = self.observed.latest_mut().and_then(|actual| actual.vips.remove(&vip));
            self.inferred.vip_gone(vip);
            let reverted = found.is_none_or(|found| !self.is_left_alone(&vip, found.encap));
            self.drifted(vip, reverted, ctx);
            self.sync_vip(vip, ctx);
            self.sync_neighbours(vip, ctx);
        }
        for (vip, listed) in new {
            self.read_new_vip(vip, listed, ctx);
        }
    }

    /// Reports that another client has changed a VIP.
    pub(super) fn drifted(&mut self, vip: VipKey, reverted: bool, ctx: &mut Ctx) {
        self.observed.record_drift();
        ctx.event(Kind::Drift { vip: Some(vip), reverted });
        if self.frontend_by_vip.contains_key(&vip) {
            self.drifts.record(vip, self.config.lb.sync_interval, ctx.now.mono);
        }
    }

    /// Returns a warning while a VIP is changed again and again.
    pub(super) fn drift_warning(&self, vip: &VipKey, now: MonoTime) -> Option<String> {
        self.drifts.warning(vip, self.config.lb.sync_interval, now)
    }

    /// Records the global settings that came with VPP's list. Another client may have changed them.
    fn conf_listed(&mut self, conf: Option<LbConf>, ctx: &mut Ctx) {
        let before = self.observed.latest().and_then(|actual| actual.conf);
        if self.conf_job.end_list() || before == conf {
            return;
        }
        if let Some(actual) = self.observed.latest_mut() {
            actual.conf = conf;
        }
        // Settings that VPP did not report before show no change.
        if before.is_some() && conf.is_some() {
            self.observed.record_drift();
            ctx.event(Kind::Drift { vip: None, reverted: !self.config.frontends.is_empty() });
        }
    }

    /// Reports whether a VIP is foreign and stays, so that its drift is not reverted.
    fn is_left_alone(&self, vip: &VipKey, encap: Encap) -> bool {
        !self.frontend_by_vip.contains_key(vip) && !self.is_unwanted(vip, encap)
    }

    /// Records a VIP that another program has created or replaced, and requests its servers.
    fn read_new_vip(&mut self, vip: VipKey, listed: ListedVip, ctx: &mut Ctx) {
        self.drifted(vip, !self.is_left_alone(&vip, listed.encap), ctx);
        self.inferred.vip_gone(vip);
        let src_ip_sticky = self.inferred_sticky(&vip);
        let Some(actual) = self.observed.latest_mut() else { return };
        let ListedVip { encap, table_length } = listed;
        actual.vips.insert(vip, ActualVip { encap, table_length, src_ip_sticky, servers: BTreeMap::new() });
        self.vip_jobs.begin(vip, VipJob::Reading);
        ctx.out.push(Output::ReadServers(vip));
    }
}
