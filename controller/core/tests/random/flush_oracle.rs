//! Flushes, and what they are for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use maglev_core::Name;
use maglev_core::config::{Config, Frontend};
use maglev_core::dataplane::{Step, VipKey, VipPlan};
use maglev_core::health::{Health, Transition};
use maglev_core::view::{MemberView, View};

use crate::oracle::frontend_of;
use crate::vpp::Vpp;

#[derive(Default)]
pub struct Flushes {
    /// The backends that are disabled: the VIPs and the address that they had then, and since when.
    disabled: BTreeMap<Name, (Vec<VipKey>, IpAddr, u64)>,
    /// When the backend of an address was last disabled, whatever became of it since.
    doubted: BTreeMap<IpAddr, u64>,
    /// Where the backend of an address has gone from up to down.
    fell: BTreeSet<(VipKey, IpAddr)>,
    under_way: BTreeMap<VipKey, VipPlan>,
    /// Which VPP it was that was last heard of.
    pid: Option<u32>,
}

impl Flushes {
    /// Another VPP than the one before has no flows.
    pub fn linked(&mut self, pid: u32) {
        if self.pid.replace(pid).is_some_and(|before| before != pid) {
            self.disabled.clear();
            self.fell.clear();
        }
    }

    pub fn moved(&mut self, backend: &Name, address: IpAddr, moved: &Transition, now: u64, config: &Config) {
        self.disabled.remove(backend);
        let uses = |f: &&Arc<Frontend>| f.pools.iter().any(|p| p.backends.contains_key(backend));
        let vips = config.frontends.values().filter(uses).map(|f| f.vip);
        match (moved.from, moved.to) {
            (_, Health::Disabled) => {
                self.disabled.insert(backend.clone(), (vips.collect(), address, now));
                self.doubted.insert(address, now);
            }
            (Health::Up, Health::Down) => self.fell.extend(vips.map(|vip| (vip, address))),
            _ => {}
        }
    }

    /// A flush hits only who is to lose flows, and may have some, or was disabled since the last one, or has gone down
    /// and may have been drained before there was this `maglevd`.
    pub fn planned(&self, run: &VipPlan, config: &Config, view: &View, vpp: &Vpp) {
        for server in flushed(&run.steps) {
            let member = members(config, view, &run.vip).find(|m| m.address == server).unwrap();
            assert!(loses_flows(config, &run.vip, member.health), "{server} is {}: {run:?}", member.health);
            let Some(found) = vpp.vips.get(&run.vip).and_then(|v| v.servers.get(&server)) else { continue };
            let disabled = self.doubted.get(&server).is_some_and(|at| *at >= found.flushed);
            let drained = found.idle && self.fell.contains(&(run.vip, server));
            let edited = vpp.edited.contains(&run.vip.address);
            assert!(
                found.dirty || found.unheard || disabled || drained || edited,
                "{server} is flushed for nothing: {run:?}"
            );
        }
    }

    pub fn sent(&mut self, run: &VipPlan) {
        self.under_way.insert(run.vip, run.clone());
    }

    /// The core hears that VPP has made the first steps of a run.
    pub fn made(&mut self, vip: VipKey, done: usize, vpp: &mut Vpp) {
        let Some(run) = self.under_way.remove(&vip) else { return };
        let Some(found) = vpp.vips.get_mut(&vip) else { return };
        for step in &run.steps[..done] {
            let (Step::AddAs { server, .. } | Step::SetWeight { server, flush: true, .. }) = step else {
                continue;
            };
            if let Some(server) = found.servers.get_mut(server) {
                (server.flushed, server.unheard) = (vpp.now, false);
            }
        }
    }

    /// Nobody keeps flows who is not to.
    pub fn complete(&self, config: &Config, view: &View, vpp: &Vpp) {
        for (vip, found) in vpp.vips.iter().filter(|(vip, _)| !vpp.edited.contains(&vip.address)) {
            for member in members(config, view, vip) {
                let Some(server) = found.servers.get(&member.address) else { continue };
                let disabled = self.disabled.get(&member.name);
                let disabled = disabled.filter(|(vips, at, _)| vips.contains(vip) && *at == member.address);
                let flushed = disabled.is_none_or(|(.., at)| server.flushed.max(server.added) >= *at);
                let drained = server.idle && self.fell.contains(&(*vip, member.address));
                let empty = !(server.dirty || drained) || !loses_flows(config, vip, member.health);
                assert!(flushed && empty, "{} keeps its flows on {vip}: {server:?}", member.name);
            }
        }
    }
}

fn loses_flows(config: &Config, vip: &VipKey, health: Health) -> bool {
    let flush_on_down = frontend_of(config, vip).is_some_and(|name| config.frontends[name].flush_on_down);
    health == Health::Disabled || health == Health::Down && flush_on_down
}

fn members<'a>(config: &Config, view: &'a View, vip: &VipKey) -> impl Iterator<Item = &'a MemberView> {
    let name = frontend_of(config, vip);
    let frontends = view.frontends.iter().filter(move |f| Some(&f.name) == name);
    frontends.flat_map(|f| &f.pools).flat_map(|p| &p.backends)
}

/// The servers that are flushed, and stay.
fn flushed(steps: &[Step]) -> impl Iterator<Item = IpAddr> {
    steps.iter().filter_map(|step| match step {
        Step::SetWeight { server, flush: true, .. } => Some(*server),
        _ => None,
    })
}
