//! Somebody else may work on VPP too: one VIP after the other is compared with what it should be, and then the list of
//! them, so that everything has been looked at once in `sync-interval`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Bound;
use core::time::Duration;

use super::sync::{ConfJob, Job, is_nat};
use super::{Ctx, ListedVip, Output, State, Timer};
use crate::config::ForeignVips;
use crate::dataplane::{ActualAs, ActualVip, Encap, LbConf, VipKey};
use crate::event::Kind;

impl State {
    pub(super) fn schedule_drift_check(&mut self, ctx: &Ctx) {
        if let Some(set) = self.sync.drift_check.take() {
            self.timers.remove(&(set, Timer::Drift));
        }
        let pause = self.between_drift_checks();
        self.sync.drift_check = Some(ctx.now.mono + pause);
        self.set_timer(ctx, pause, Timer::Drift);
    }

    /// After a change of how often there is one: the next is no further away than it would be now.
    pub(super) fn hasten_drift_check(&mut self, ctx: &Ctx) {
        let latest = ctx.now.mono + self.between_drift_checks();
        if self.sync.current && self.sync.drift_check.is_some_and(|set| set > latest) {
            self.schedule_drift_check(ctx);
        }
    }

    fn between_drift_checks(&self) -> Duration {
        let checks = u32::try_from(self.vips.len()).unwrap_or(u32::MAX).saturating_add(1);
        self.config.lb.sync_interval / checks
    }

    /// Compares the next VIP with what VPP has; after the last one, VPP's list of VIPs with ours.
    pub(super) fn next_drift_check(&mut self, ctx: &mut Ctx) {
        if !self.sync.current {
            return;
        }
        self.schedule_drift_check(ctx);
        let after = self.sync.cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.vips.range((after, Bound::Unbounded)).next().map(|(vip, _)| *vip);
        self.sync.cursor = next;
        match next {
            Some(vip) => self.look_at(vip, ctx),
            None => self.list(ctx),
        }
    }

    /// Compares everything with what VPP has, at once.
    pub(super) fn resync(&mut self, ctx: &mut Ctx) {
        if !self.sync.current {
            return;
        }
        self.list(ctx);
        let vips: Vec<_> = self.vips.keys().copied().collect();
        for vip in vips {
            self.look_at(vip, ctx);
        }
    }

    fn look_at(&mut self, vip: VipKey, ctx: &mut Ctx) {
        if self.sync.jobs.contains_key(&vip) {
            return;
        }
        if self.sync.found(&vip).is_some() {
            self.sync.begin(vip, Job::Reading);
            ctx.out.push(Output::ReadServers(vip));
        } else {
            // Whoever kept VPP from creating it may be gone.
            self.sync_vip(vip, ctx);
        }
    }

    fn list(&mut self, ctx: &mut Ctx) {
        if self.sync.listing.is_none() {
            // What is under way may be done before the list is read, or after.
            self.sync.listing = Some(self.sync.jobs.keys().copied().collect());
            ctx.out.push(Output::ListVips);
        }
    }

    pub(super) fn servers_read(&mut self, vip: VipKey, servers: BTreeMap<IpAddr, ActualAs>, ctx: &mut Ctx) {
        let Some(Job::Reading) = self.sync.jobs.get(&vip) else { return };
        let found = self.sync.seen.as_ref().and_then(|actual| actual.vips.get(&vip));
        // Without servers the answer does not tell whether the VIP itself is still there.
        let Some(found) = found.filter(|found| !servers.is_empty() || found.servers.is_empty()) else {
            ctx.out.push(Output::ReadVip(vip));
            return;
        };
        let before = found.weights();
        // What stays as it is, as almost everything does, goes on being shared with those who show it.
        if found.servers != servers
            && let Some(found) = self.sync.found_mut(&vip)
        {
            found.servers = servers;
        }
        // A VIP without servers was found just now, and told of.
        let drifted =
            !before.is_empty() && self.sync.found(&vip).is_some_and(|found| found.weights() != before);
        self.sync.jobs.remove(&vip);
        if drifted {
            let found = self.sync.found(&vip);
            let reverted = found.is_none_or(|found| !self.is_left_alone(&vip, found.encap));
            ctx.event(Kind::Drift { vip, reverted });
        }
        self.sync_vip(vip, ctx);
    }

    pub(super) fn listed(&mut self, conf: Option<LbConf>, vips: &BTreeMap<VipKey, ListedVip>, ctx: &mut Ctx) {
        let Some(touched) = self.sync.listing.take() else { return };
        if !matches!(self.sync.conf, ConfJob::Sent(_))
            && self.sync.seen.as_ref().is_some_and(|actual| actual.conf != conf)
            && let Some(actual) = self.sync.seen_mut()
        {
            actual.conf = conf;
        }
        let Some(actual) = &self.sync.seen else { return };
        let settled = |vip: &VipKey| !touched.contains(vip) && !self.sync.jobs.contains_key(vip);
        let gone: Vec<_> =
            actual.vips.keys().filter(|v| !vips.contains_key(v) && settled(v)).copied().collect();
        let differs = |(vip, listed): &(&VipKey, &ListedVip)| {
            settled(vip) && actual.vips.get(vip).is_none_or(|found| found.encap != listed.encap)
        };
        let new: Vec<_> = vips.iter().filter(differs).map(|(vip, listed)| (*vip, *listed)).collect();
        self.sync_conf(ctx);
        for vip in gone {
            let found = self.sync.seen_mut().and_then(|actual| actual.vips.remove(&vip));
            self.sync.inferred.gone(vip);
            let reverted = found.is_none_or(|found| !self.is_left_alone(&vip, found.encap));
            ctx.event(Kind::Drift { vip, reverted });
            self.sync_vip(vip, ctx);
            // It may have kept them from being created.
            self.sync_neighbours(vip, ctx);
        }
        for (vip, listed) in new {
            self.found_vip(vip, listed, ctx);
        }
    }

    /// Whether a VIP is somebody else's, and stays so: what becomes of it is not reverted.
    fn is_left_alone(&self, vip: &VipKey, encap: Encap) -> bool {
        let stays = self.config.lb.foreign_vips == ForeignVips::Keep || is_nat(encap);
        stays && !self.vips.contains_key(vip) && !self.sync.retired.contains(vip)
    }

    /// Somebody else has created a VIP, or made one anew: its servers are still to be read.
    fn found_vip(&mut self, vip: VipKey, listed: ListedVip, ctx: &mut Ctx) {
        ctx.event(Kind::Drift { vip, reverted: !self.is_left_alone(&vip, listed.encap) });
        self.sync.inferred.gone(vip);
        let src_ip_sticky = self.sticky_belief(&vip);
        let Some(actual) = self.sync.seen_mut() else { return };
        let ListedVip { encap, table_length } = listed;
        actual.vips.insert(vip, ActualVip { encap, table_length, src_ip_sticky, servers: BTreeMap::new() });
        self.sync.begin(vip, Job::Reading);
        ctx.out.push(Output::ReadServers(vip));
    }
}
