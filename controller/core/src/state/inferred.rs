//! Inferred state: facts about VPP that its API does not report, namely src-ip-sticky and servers that may have flows.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, Ipv4Addr};

use crate::dataplane::{ActualState, Step, VipKey};
use crate::plan;

/// Facts inferred about one VPP instance.
#[derive(Clone, Debug, Default)]
pub(super) struct InferredState {
    /// src-ip-sticky of each VIP; `None` if it cannot be known.
    sticky: BTreeMap<VipKey, Option<bool>>,
    /// Servers without weight that may have flows: they lost their weight without a flush, or were disabled since.
    maybe_flows: BTreeSet<(VipKey, IpAddr)>,
    /// Servers that had no weight in the first full read. An earlier `maglevd` sent its own flushes. But a server that was
    /// drained then may still have flows, which matters when it goes down.
    maybe_drained: BTreeSet<(VipKey, IpAddr)>,
    /// True after the first full read.
    is_read: bool,
}

impl InferredState {
    /// Records that VPP was asked for these steps. It may apply them although its answer is lost.
    pub fn step_requested(&mut self, vip: VipKey, steps: &[Step], exists: bool) {
        if let Some((_, src_ip_sticky)) = plan::created_options(steps) {
            // A VIP that exists before may still have its former setting.
            self.sticky.insert(vip, (!exists).then_some(src_ip_sticky));
        }
        self.maybe_flows.extend(steps.iter().filter_map(|step| match step {
            Step::SetWeight { server, from: 1.., flush: false, .. } => Some((vip, *server)),
            _ => None,
        }));
    }

    /// Records that VPP has applied this step.
    pub fn step_applied(&mut self, vip: VipKey, step: &Step) {
        match *step {
            Step::CreateVip { src_ip_sticky, .. } => _ = self.sticky.insert(vip, Some(src_ip_sticky)),
            Step::RemoveVip => self.vip_gone(vip),
            Step::AddAs { server, .. }
            | Step::RemoveAs { server }
            | Step::SetWeight { server, flush: true, .. } => {
                self.maybe_flows.remove(&(vip, server));
                self.maybe_drained.remove(&(vip, server));
            }
            Step::SetWeight { flush: false, .. } => {}
        }
    }

    /// Records that VPP does not have this VIP, or has another VIP with the same key.
    pub fn vip_gone(&mut self, vip: VipKey) {
        self.sticky.remove(&vip);
        let first = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        for servers in [&mut self.maybe_flows, &mut self.maybe_drained] {
            while let Some(server) =
                servers.range((vip, first)..).next().filter(|(of, _)| *of == vip).copied()
            {
                servers.remove(&server);
            }
        }
    }

    /// Records a full read of VPP. Only the first one, before any step, shows the work of an earlier `maglevd`.
    pub fn full_read(&mut self, actual: &ActualState) {
        if self.is_read {
            return;
        }
        self.is_read = true;
        for (vip, found) in &actual.vips {
            let idle = found.servers.iter().filter(|(_, server)| server.weight == 0);
            self.maybe_drained.extend(idle.map(|(server, _)| (*vip, *server)));
        }
    }

    /// Records that a server went from up to down. It may have been drained before it was up.
    pub fn backend_down(&mut self, vip: VipKey, server: IpAddr) {
        if !self.is_read || self.maybe_drained.contains(&(vip, server)) {
            self.maybe_flows.insert((vip, server));
        }
    }

    /// Records that a server was disabled, which must leave no flow.
    pub fn backend_disabled(&mut self, vip: VipKey, server: IpAddr) {
        self.maybe_flows.insert((vip, server));
    }

    /// Reports whether a server without weight may have flows.
    pub fn may_have_flows(&self, vip: VipKey, server: IpAddr) -> bool {
        self.maybe_flows.contains(&(vip, server))
    }

    /// Records src-ip-sticky as VPP reported it.
    pub fn sticky_observed(&mut self, vip: VipKey, src_ip_sticky: bool) {
        self.sticky.insert(vip, Some(src_ip_sticky));
    }

    /// Returns src-ip-sticky of a VIP: the value sent to VPP, or else the `configured` one, assumed for a VIP found in VPP.
    pub fn sticky(&mut self, vip: VipKey, configured: bool) -> Option<bool> {
        *self.sticky.entry(vip).or_insert(Some(configured))
    }
}
