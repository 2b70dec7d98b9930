//! Oracle for flushes: each one has a reason, and none is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use maglev_core::Name;
use maglev_core::config::{Config, Frontend};
use maglev_core::dataplane::{Step, VipKey, VipPlan};
use maglev_core::health::{Health, Transition};
use maglev_core::view::{MemberView, View};

use crate::oracle::frontend_of;
use crate::vpp::VppModel;

#[derive(Default)]
pub struct FlushOracle {
    /// Disabled backends, with their VIPs, address and time at that moment.
    disabled: BTreeMap<Name, (Vec<VipKey>, IpAddr, u64)>,
    /// Time at which the backend of an address was last disabled.
    last_disabled: BTreeMap<IpAddr, u64>,
    /// Servers that went from up to down.
    went_down: BTreeSet<(VipKey, IpAddr)>,
    in_flight: BTreeMap<VipKey, VipPlan>,
    /// Process id of the VPP connected last.
    pid: Option<u32>,
}

impl FlushOracle {
    /// Records a connection. Another VPP than before has no flows.
    pub fn vpp_connected(&mut self, pid: u32) {
        if self.pid.replace(pid).is_some_and(|before| before != pid) {
            self.disabled.clear();
            self.went_down.clear();
        }
    }

    pub fn record_transition(
        &mut self,
        backend: &Name,
        address: IpAddr,
        transition: &Transition,
        now: u64,
        config: &Config,
    ) {
        self.disabled.remove(backend);
        let uses = |f: &&Arc<Frontend>| f.pools.iter().any(|p| p.backends.contains_key(backend));
        let vips = config.frontends.values().filter(uses).map(|f| f.vip);
        match (transition.from, transition.to) {
            (_, Health::Disabled) => {
                self.disabled.insert(backend.clone(), (vips.collect(), address, now));
                self.last_disabled.insert(address, now);
            }
            (Health::Up, Health::Down) => self.went_down.extend(vips.map(|vip| (vip, address))),
            _ => {}
        }
    }

    /// Checks that each flush hits a server that must lose its flows, and that one of these is true:
    /// * it had weight since the last flush, or an answer to a flush was lost;
    /// * it was disabled since the last flush;
    /// * it went down, and may have been drained before this `maglevd` started.
    pub fn check_plan(&self, plan: &VipPlan, config: &Config, view: &View, vpp: &VppModel) {
        for server in flushed(&plan.steps) {
            let member = members(config, view, &plan.vip).find(|m| m.address == server).unwrap();
            assert!(loses_flows(config, &plan.vip, member.health), "{server} is {}: {plan:?}", member.health);
            let Some(found) = vpp.vips.get(&plan.vip).and_then(|v| v.servers.get(&server)) else { continue };
            let disabled = self.last_disabled.get(&server).is_some_and(|at| *at >= found.flushed);
            let drained = found.idle && self.went_down.contains(&(plan.vip, server));
            let edited = vpp.edited.contains(&plan.vip.address);
            assert!(
                found.had_weight || found.flush_unanswered || disabled || drained || edited,
                "{server} is flushed without a reason: {plan:?}"
            );
        }
    }

    pub fn record_request(&mut self, plan: &VipPlan) {
        self.in_flight.insert(plan.vip, plan.clone());
    }

    /// Records that the core got VPP's answer to a plan.
    pub fn record_answer(&mut self, vip: VipKey, done: usize, vpp: &mut VppModel) {
        let Some(plan) = self.in_flight.remove(&vip) else { return };
        let Some(found) = vpp.vips.get_mut(&vip) else { return };
        for step in &plan.steps[..done] {
            let (Step::AddAs { server, .. } | Step::SetWeight { server, flush: true, .. }) = step else {
                continue;
            };
            if let Some(server) = found.servers.get_mut(server) {
                (server.flushed, server.flush_unanswered) = (vpp.now, false);
            }
        }
    }

    /// Checks that no server keeps flows that it must lose.
    pub fn check_complete(&self, config: &Config, view: &View, vpp: &VppModel) {
        for (vip, found) in vpp.vips.iter().filter(|(vip, _)| !vpp.edited.contains(&vip.address)) {
            for member in members(config, view, vip) {
                let Some(server) = found.servers.get(&member.address) else { continue };
                let disabled = self.disabled.get(&member.name);
                let disabled = disabled.filter(|(vips, at, _)| vips.contains(vip) && *at == member.address);
                let flushed = disabled.is_none_or(|(.., at)| server.flushed.max(server.added) >= *at);
                let drained = server.idle && self.went_down.contains(&(*vip, member.address));
                let empty = !(server.had_weight || drained) || !loses_flows(config, vip, member.health);
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

/// Returns the servers that are flushed and stay.
fn flushed(steps: &[Step]) -> impl Iterator<Item = IpAddr> {
    steps.iter().filter_map(|step| match step {
        Step::SetWeight { server, flush: true, .. } => Some(*server),
        _ => None,
    })
}
