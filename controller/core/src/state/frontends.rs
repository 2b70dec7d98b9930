//! Frontends: active pool, weights, startup holds, and leaving servers.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{Ctx, State};
use crate::Name;
use crate::config;
use crate::dataplane::{ActualVip, DesiredAs, DesiredVip, VipKey};
use crate::event::Kind;
use crate::failover::{Decision, FailoverMember, FrontendState, decide};
use crate::health::Health;
use crate::maglev::WeightScale;
use crate::time::{MonoTime, WallTime};

/// Shortest table that VPP cannot report: its answer has 16 bits.
const UNREPORTED_TABLE: u32 = 1 << 16;

/// One frontend.
#[derive(Clone, Debug)]
pub(super) struct FrontendEntry {
    pub name: Name,
    pub vip: VipKey,
    pub config: Arc<config::Frontend>,
    pub slots: Vec<FrontendSlot>,
    /// While set, VPP keeps weights that it has.
    pub hold: Option<StartupHold>,
    /// Servers that left the frontend, and keep their weight until a new one is known.
    pub leaving: Vec<LeavingServer>,
    pub state: FrontendState,
    pub since: WallTime,
    /// Index of the active pool.
    pub active: Option<usize>,
}

/// One backend of a frontend.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrontendSlot {
    pub pool: usize,
    /// Index of the backend.
    pub backend: usize,
    pub address: IpAddr,
    /// Weight by the configuration, or by an operator.
    pub weight: u8,
    pub overridden: bool,
    /// True if VPP served the backend when it became unknown, and there is no verdict yet. Meaningful during a hold.
    pub is_served: bool,
    /// Scale of its pool's weights, by the configuration alone.
    pub scale: WeightScale,
}

/// Startup hold of a frontend.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartupHold {
    pub not_before: MonoTime,
    pub since: MonoTime,
    /// True if weights follow known health. Unknown backends that VPP serves keep theirs.
    pub follows_health: bool,
}

/// A server that has left a frontend, and keeps its weight in VPP for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeavingServer {
    pub address: IpAddr,
    /// Index of its pool.
    pub pool: usize,
    /// Its weight in VPP, in units.
    pub weight: u8,
    /// Latest time of its removal.
    pub until: MonoTime,
}

/// Event for which a frontend keeps its leaving servers.
#[derive(Clone, Debug)]
pub(super) enum AwaitedEvent<'a> {
    /// A verdict about these backends: the pools after theirs can serve.
    Verdict(Vec<&'a FrontendSlot>),
    /// The first of these backends that is up: no pool can serve.
    Recovery(Vec<&'a FrontendSlot>),
    /// The end of `startup-min-delay`, before which backends get no weight.
    MinDelay,
}

impl StartupHold {
    /// Creates a hold that keeps all weights in VPP.
    pub const fn frozen(since: MonoTime, not_before: MonoTime) -> Self {
        Self { not_before, since, follows_health: false }
    }

    /// Creates a hold that keeps only the weights of unknown backends.
    pub const fn following(since: MonoTime) -> Self {
        Self { not_before: since, since, follows_health: true }
    }
}

impl LeavingServer {
    /// Returns it as a member of its pool.
    pub const fn member(&self) -> FailoverMember {
        let (pool, weight) = (self.pool, self.weight);
        FailoverMember { pool, health: Health::Unknown, weight, keeps_weight: true }
    }
}

impl FrontendEntry {
    /// Reports whether a server of that health loses its flows.
    fn flushes(&self, health: Health) -> bool {
        health == Health::Disabled || health == Health::Down && self.config.flush_on_down
    }

    /// Reports whether VPP keeps weights that do not follow health.
    pub const fn is_held(&self) -> bool {
        self.hold.is_some() || !self.leaving.is_empty()
    }

    /// Reports whether a hold keeps pools from promotion over unknown backends.
    pub fn waits_for_unknown(&self) -> bool {
        self.hold.is_some_and(|hold| !hold.follows_health)
    }

    /// Records for each slot that VPP serves its unknown backend.
    pub fn set_served(&mut self, served: &[bool]) {
        for (slot, is_served) in self.slots.iter_mut().zip(served) {
            slot.is_served = *is_served;
        }
    }

    /// Reports whether an unknown backend counts as up in this slot.
    pub fn keeps_weight(&self, slot: &FrontendSlot) -> bool {
        slot.is_served && self.hold.is_some_and(|hold| hold.follows_health)
    }

    /// Returns the length of the VIP's table in VPP if a VIP created now would have another. `None` of a table is 65,536 or
    /// more.
    pub fn other_table(&self, found: &ActualVip) -> Option<u32> {
        let (is, wanted) = (found.table_length, self.config.created_table_length());
        let is_other = is.map_or(wanted < UNREPORTED_TABLE, |length| length != wanted);
        is_other.then(|| is.unwrap_or(UNREPORTED_TABLE))
    }
}

impl State {
    /// Returns the failover decision for a frontend: for its backends, then for its leaving servers.
    pub(super) fn decision(&self, frontend: &FrontendEntry) -> Decision {
        self.decision_with(frontend, &frontend.leaving)
    }

    /// Returns the failover decision for a frontend's backends and these leaving servers.
    pub(super) fn decision_with(&self, frontend: &FrontendEntry, leaving: &[LeavingServer]) -> Decision {
        let member = |slot: &FrontendSlot| FailoverMember {
            pool: slot.pool,
            health: self.backends[slot.backend].tracker.health(),
            weight: slot.weight,
            keeps_weight: frontend.keeps_weight(slot),
        };
        let leaving = leaving.iter().map(LeavingServer::member);
        let members: Vec<_> = frontend.slots.iter().map(member).chain(leaving).collect();
        decide(&members, frontend.waits_for_unknown())
    }

    /// Returns the weights of a frontend's backends in VPP by a decision, in units.
    pub(super) fn slot_weights(
        &self,
        frontend: &FrontendEntry,
        decision: &Decision,
        found: Option<&ActualVip>,
        now: MonoTime,
    ) -> Vec<u8> {
        let keeps_weights = self.has_weight_in_vpp(frontend, found);
        let frozen = frontend.hold.filter(|hold| !hold.follows_health);
        let weight = |(slot, weight): (&FrontendSlot, &u8)| match frozen {
            Some(_) if keeps_weights && self.is_holdable(slot) => weight_in_vpp(found, slot),
            Some(hold) if !keeps_weights && now < hold.not_before => 0,
            _ => slot.scale.units(*weight),
        };
        frontend.slots.iter().zip(&decision.weights).map(weight).collect()
    }

    /// Returns the desired state of a frontend's VIP.
    pub(super) fn desired(
        &self,
        frontend: &FrontendEntry,
        found: Option<&ActualVip>,
        now: MonoTime,
    ) -> DesiredVip {
        let weights = self.slot_weights(frontend, &self.decision(frontend), found, now);
        let server = |(slot, weight): (&FrontendSlot, u8)| {
            let has_weight = weight_in_vpp(found, slot) > 0;
            let may_have_flows = has_weight || self.inferred.may_have_flows(frontend.vip, slot.address);
            let health = self.backends[slot.backend].tracker.health();
            let flush = weight == 0 && may_have_flows && frontend.flushes(health);
            (slot.address, DesiredAs { weight, flush })
        };
        let leaving =
            |server: &LeavingServer| (server.address, DesiredAs { weight: server.weight, flush: false });
        let servers = frontend.slots.iter().zip(weights).map(server);
        DesiredVip {
            encap: frontend.config.encap,
            src_ip_sticky: frontend.config.src_ip_sticky,
            table_length: frontend.config.created_table_length(),
            servers: servers.chain(frontend.leaving.iter().map(leaving)).collect(),
        }
    }

    /// Recomputes a frontend after a change of its backends, weights or hold, and reconciles its VIP.
    pub(super) fn refresh_frontend(&mut self, index: usize, ctx: &mut Ctx) {
        self.advance_hold(index, ctx.now.mono);
        self.advance_leaving(index, ctx.now.mono);
        let decision = self.decision(&self.frontends[index]);
        let frontend = &mut self.frontends[index];
        if (frontend.state, frontend.active) != (decision.state, decision.active) {
            let from = frontend.state;
            if from != decision.state {
                frontend.since = ctx.now.wall;
            }
            frontend.state = decision.state;
            self.counts.frontend_changed(from, decision.state);
            frontend.active = decision.active;
            let active_pool = decision.active.map(|pool| Arc::clone(&frontend.config.pools[pool].name));
            let name = Arc::clone(&frontend.name);
            ctx.event(Kind::Frontend { name, from, to: decision.state, active_pool });
        }
        let vip = self.frontends[index].vip;
        self.sync_vip(vip, ctx);
    }
}

fn weight_in_vpp(found: Option<&ActualVip>, slot: &FrontendSlot) -> u8 {
    found.and_then(|vip| vip.servers.get(&slot.address)).map_or(0, |server| server.weight)
}
