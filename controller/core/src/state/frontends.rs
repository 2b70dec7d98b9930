//! Frontends: active pool, weights, and startup holds.

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
use crate::maglev;
use crate::time::{MonoTime, WallTime};

/// One frontend.
#[derive(Clone, Debug)]
pub(super) struct FrontendEntry {
    pub name: Name,
    pub vip: VipKey,
    pub config: Arc<config::Frontend>,
    pub slots: Vec<FrontendSlot>,
    /// While set, VPP keeps the weights that it has.
    pub hold: Option<StartupHold>,
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
}

/// Startup hold: a frontend does not follow health until its backends are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartupHold {
    pub not_before: MonoTime,
    pub since: MonoTime,
}

impl FrontendEntry {
    /// Reports whether a server of that health loses its flows.
    fn flushes(&self, health: Health) -> bool {
        health == Health::Disabled || health == Health::Down && self.config.flush_on_down
    }

    /// Returns the divisor of the weights sent to VPP. It depends on the configuration and the overrides, not on health, so
    /// that no failover rescales.
    pub fn divisor(&self) -> u8 {
        maglev::divisor(self.slots.iter().map(|slot| slot.weight))
    }

    /// Returns the length of the new-flow table with which the VIP is created.
    pub fn table_length(&self) -> u32 {
        let divisor = self.divisor();
        let sum = self.slots.iter().map(|slot| u32::from(slot.weight / divisor)).sum();
        self.config.table_length.unwrap_or_else(|| maglev::table_length(self.slots.len(), sum))
    }
}

impl State {
    /// Returns the failover decision for a frontend.
    pub(super) fn decision(&self, frontend: &FrontendEntry) -> Decision {
        let member = |slot: &FrontendSlot| FailoverMember {
            pool: slot.pool,
            health: self.backends[slot.backend].tracker.health(),
            weight: slot.weight,
        };
        let members: Vec<_> = frontend.slots.iter().map(member).collect();
        decide(&members, frontend.hold.is_some())
    }

    /// Reports whether VPP gives weight to a backend of a frontend. Backends that an operator has taken out do not count.
    pub(super) fn has_weight_in_vpp(&self, frontend: &FrontendEntry, found: Option<&ActualVip>) -> bool {
        let has = |slot: &FrontendSlot| found.is_some_and(|vip| vip.serves(&slot.address));
        frontend.slots.iter().any(|slot| self.is_holdable(slot) && has(slot))
    }

    /// Reports whether a hold keeps the backend's weight in VPP.
    fn is_holdable(&self, slot: &FrontendSlot) -> bool {
        !matches!(self.backends[slot.backend].tracker.health(), Health::Paused | Health::Disabled)
    }

    /// Returns the desired state of a frontend's VIP.
    pub(super) fn desired(
        &self,
        frontend: &FrontendEntry,
        found: Option<&ActualVip>,
        now: MonoTime,
    ) -> DesiredVip {
        let decision = self.decision(frontend);
        let divisor = frontend.divisor();
        let health = |slot: &FrontendSlot| self.backends[slot.backend].tracker.health();
        let has = |slot: &FrontendSlot| {
            found.and_then(|vip| vip.servers.get(&slot.address)).map_or(0, |s| s.weight)
        };
        let keeps_weights = self.has_weight_in_vpp(frontend, found);
        let server = |(slot, weight): (&FrontendSlot, &u8)| {
            let weight = match frontend.hold {
                Some(_) if keeps_weights && self.is_holdable(slot) => has(slot),
                Some(hold) if !keeps_weights && now < hold.not_before => 0,
                _ => weight / divisor,
            };
            let may_have_flows = has(slot) > 0 || self.inferred.may_have_flows(frontend.vip, slot.address);
            let flush = weight == 0 && may_have_flows && frontend.flushes(health(slot));
            (slot.address, DesiredAs { weight, flush })
        };
        DesiredVip {
            encap: frontend.config.encap,
            src_ip_sticky: frontend.config.src_ip_sticky,
            table_length: frontend.table_length(),
            servers: frontend.slots.iter().zip(&decision.weights).map(server).collect(),
        }
    }

    /// Recomputes a frontend after a change of its backends, weights or hold, and reconciles its VIP.
    pub(super) fn refresh_frontend(&mut self, index: usize, ctx: &mut Ctx) {
        self.lift_hold(index, ctx.now.mono);
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

    /// Recomputes all frontends with a hold.
    pub(super) fn refresh_held_frontends(&mut self, ctx: &mut Ctx) {
        for index in 0..self.frontends.len() {
            if self.frontends[index].hold.is_some() {
                self.refresh_frontend(index, ctx);
            }
        }
    }

    /// Waives `startup-min-delay`: the prober kept running, so its histories are current.
    pub(super) fn waive_min_delay(&mut self, ctx: &Ctx) {
        for index in 0..self.frontends.len() {
            if self.frontends[index].hold.is_some_and(|hold| ctx.now.mono < hold.not_before)
                && let Some(hold) = &mut self.frontends[index].hold
            {
                hold.not_before = ctx.now.mono;
            }
        }
    }

    /// Ends a frontend's hold if one of these is true:
    /// * each of its backends is known, and `startup-min-delay` has passed;
    /// * `startup-max-delay` has passed since the prober started probing, and at least one backend is known.
    fn lift_hold(&mut self, index: usize, now: MonoTime) {
        let frontend = &self.frontends[index];
        let Some(hold) = frontend.hold else { return };
        let known = |slot: &FrontendSlot| self.backends[slot.backend].tracker.health() != Health::Unknown;
        let all = now >= hold.not_before && frontend.slots.iter().all(known);
        let delay = self.config.lb.startup_max_delay;
        let overdue = self.prober.probing_since.is_some_and(|since| now >= hold.since.max(since) + delay);
        if all || overdue && frontend.slots.iter().any(known) {
            self.frontends[index].hold = None;
        }
    }
}
