//! What VPP does not always tell, and has to be remembered: src-ip-sticky, and who may have flows.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, Ipv4Addr};

use crate::dataplane::{ActualState, Step, VipKey};
use crate::plan;

/// What is believed of one VPP.
#[derive(Clone, Debug, Default)]
pub(super) struct InferredState {
    /// What src-ip-sticky is; `None` if nobody can know.
    sticky: BTreeMap<VipKey, Option<bool>>,
    /// Servers that may have flows although they have no weight: it was taken from them without a flush, or they were
    /// disabled since, which is to leave no doubt.
    flows: BTreeSet<(VipKey, IpAddr)>,
    /// Servers that were found without weight. What had to be flushed was flushed by who ran before us; but those that were
    /// drained then may have flows, which matters once they go down.
    idle: BTreeSet<(VipKey, IpAddr)>,
    /// Whether it is known which servers these are.
    read: bool,
}

impl InferredState {
    /// VPP is asked for these steps. It may make them without our hearing of it.
    pub fn asked(&mut self, vip: VipKey, steps: &[Step], exists: bool) {
        if let Some((_, src_ip_sticky)) = plan::created_options(steps) {
            // Where there was none, it can only be this one; else it may be the one before.
            self.sticky.insert(vip, (!exists).then_some(src_ip_sticky));
        }
        self.flows.extend(steps.iter().filter_map(|step| match step {
            Step::SetWeight { server, from: 1.., flush: false, .. } => Some((vip, *server)),
            _ => None,
        }));
    }

    /// VPP has made this step.
    pub fn made(&mut self, vip: VipKey, step: &Step) {
        match *step {
            Step::CreateVip { src_ip_sticky, .. } => _ = self.sticky.insert(vip, Some(src_ip_sticky)),
            Step::RemoveVip => self.gone(vip),
            Step::AddAs { server, .. }
            | Step::RemoveAs { server }
            | Step::SetWeight { server, flush: true, .. } => {
                self.flows.remove(&(vip, server));
                self.idle.remove(&(vip, server));
            }
            Step::SetWeight { flush: false, .. } => {}
        }
    }

    /// VPP does not have this VIP, or another of that name than before.
    pub fn gone(&mut self, vip: VipKey) {
        self.sticky.remove(&vip);
        let first = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        for servers in [&mut self.flows, &mut self.idle] {
            while let Some(server) =
                servers.range((vip, first)..).next().filter(|(of, _)| *of == vip).copied()
            {
                servers.remove(&server);
            }
        }
    }

    /// VPP has told all that it has. Only what it has before we do anything is of who ran before us.
    pub fn found(&mut self, actual: &ActualState) {
        if self.read {
            return;
        }
        self.read = true;
        for (vip, found) in &actual.vips {
            let idle = found.servers.iter().filter(|(_, server)| server.weight == 0);
            self.idle.extend(idle.map(|(server, _)| (*vip, *server)));
        }
    }

    /// A server that was up is down. Before it was up, it may have been drained.
    pub fn fell(&mut self, vip: VipKey, server: IpAddr) {
        if !self.read || self.idle.contains(&(vip, server)) {
            self.flows.insert((vip, server));
        }
    }

    /// Whoever disables a server wants no flow left.
    pub fn disabled(&mut self, vip: VipKey, server: IpAddr) {
        self.flows.insert((vip, server));
    }

    pub fn may_have_flows(&self, vip: VipKey, server: IpAddr) -> bool {
        self.flows.contains(&(vip, server))
    }

    /// VPP has told what src-ip-sticky is.
    pub fn told(&mut self, vip: VipKey, src_ip_sticky: bool) {
        self.sticky.insert(vip, Some(src_ip_sticky));
    }

    /// What src-ip-sticky is: what we have set, or else what is `configured` when we find the VIP.
    pub fn sticky(&mut self, vip: VipKey, configured: bool) -> Option<bool> {
        *self.sticky.entry(vip).or_insert(Some(configured))
    }
}
