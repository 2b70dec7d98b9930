//! The frontends: which pool serves, which weights follow, and from when on they are followed.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{Ctx, State};
use crate::Name;
use crate::config;
use crate::dataplane::{ActualVip, DesiredAs, DesiredVip, VipKey};
use crate::event::Kind;
use crate::failover::FrontendState;
use crate::failover::{Decision, PoolMember, decide};
use crate::health::Health;
use crate::maglev;
use crate::time::{MonoTime, WallTime};

/// One frontend.
#[derive(Clone, Debug)]
pub(super) struct Frontend {
    pub name: Name,
    pub vip: VipKey,
    pub config: Arc<config::Frontend>,
    pub slots: Vec<Slot>,
    /// Until it is lifted, the weights that VPP has stay.
    pub hold: Option<Hold>,
    pub state: FrontendState,
    pub since: WallTime,
    pub active: Option<usize>,
}

/// One backend of a frontend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub pool: usize,
    /// The backend's index.
    pub backend: usize,
    pub address: IpAddr,
    /// As configured, or as an operator has set it.
    pub weight: u8,
    pub overridden: bool,
}

/// A warm-up: what VPP does is left as it is until enough is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub not_before: MonoTime,
    /// When it began.
    pub from: MonoTime,
}

impl Frontend {
    /// Whether a server of that health is to lose the flows that it has.
    fn flushes(&self, health: Health) -> bool {
        health == Health::Disabled || health == Health::Down && self.config.flush_on_down
    }

    /// What the weights sent to VPP are divided by. It follows from the configuration and the overrides, not from
    /// health, so that no failover rescales.
    pub fn divisor(&self) -> u8 {
        maglev::divisor(self.slots.iter().map(|slot| slot.weight))
    }

    /// The length of the new-flow table that the VIP is created with.
    pub fn table_length(&self) -> u32 {
        let divisor = self.divisor();
        let sum = self.slots.iter().map(|slot| u32::from(slot.weight / divisor)).sum();
        self.config.table_length.unwrap_or_else(|| maglev::table_length(self.slots.len(), sum))
    }
}

impl State {
    /// What health and failover say of a frontend.
    pub(super) fn decision(&self, frontend: &Frontend) -> Decision {
        let member = |slot: &Slot| PoolMember {
            pool: slot.pool,
            health: self.backends[slot.backend].tracker.health(),
            weight: slot.weight,
        };
        let members: Vec<_> = frontend.slots.iter().map(member).collect();
        decide(&members, frontend.hold.is_some())
    }

    /// Whether VPP gives weight to any backend of a frontend. What an operator has taken out is no matter of knowing.
    pub(super) fn serving(&self, frontend: &Frontend, found: Option<&ActualVip>) -> bool {
        let has = |slot: &Slot| found.is_some_and(|vip| vip.serves(&slot.address));
        frontend.slots.iter().any(|slot| self.stays(slot) && has(slot))
    }

    /// Whether a hold keeps the weight that it has.
    fn stays(&self, slot: &Slot) -> bool {
        !matches!(self.backends[slot.backend].tracker.health(), Health::Paused | Health::Disabled)
    }

    /// What VPP should have for a frontend.
    pub(super) fn desired(
        &self,
        frontend: &Frontend,
        found: Option<&ActualVip>,
        now: MonoTime,
    ) -> DesiredVip {
        let decision = self.decision(frontend);
        let divisor = frontend.divisor();
        let health = |slot: &Slot| self.backends[slot.backend].tracker.health();
        let has = |slot: &Slot| found.and_then(|vip| vip.servers.get(&slot.address)).map_or(0, |s| s.weight);
        let serving = self.serving(frontend, found);
        let server = |(slot, weight): (&Slot, &u8)| {
            let weight = match frontend.hold {
                Some(_) if serving && self.stays(slot) => has(slot),
                Some(hold) if !serving && now < hold.not_before => 0,
                _ => weight / divisor,
            };
            let may_have_flows =
                has(slot) > 0 || self.sync.inferred.may_have_flows(frontend.vip, slot.address);
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

    /// Draws the consequences for a frontend after something that it depends on has changed.
    pub(super) fn refresh(&mut self, index: usize, ctx: &mut Ctx) {
        self.lift_hold(index, ctx.now.mono);
        let decision = self.decision(&self.frontends[index]);
        let frontend = &mut self.frontends[index];
        if (frontend.state, frontend.active) != (decision.state, decision.active) {
            let from = frontend.state;
            if from != decision.state {
                frontend.since = ctx.now.wall;
            }
            frontend.state = decision.state;
            self.counts.turned(from, decision.state);
            frontend.active = decision.active;
            let active_pool = decision.active.map(|pool| Arc::clone(&frontend.config.pools[pool].name));
            let name = Arc::clone(&frontend.name);
            ctx.event(Kind::Frontend { name, from, to: decision.state, active_pool });
        }
        let vip = self.frontends[index].vip;
        self.sync_vip(vip, ctx);
    }

    pub(super) fn refresh_held(&mut self, ctx: &mut Ctx) {
        for index in 0..self.frontends.len() {
            if self.frontends[index].hold.is_some() {
                self.refresh(index, ctx);
            }
        }
    }

    /// The prober kept running, so what it says is no news: there is nothing to wait for.
    pub(super) fn waive_min_delay(&mut self, ctx: &Ctx) {
        for index in 0..self.frontends.len() {
            if self.frontends[index].hold.is_some_and(|hold| ctx.now.mono < hold.not_before)
                && let Some(hold) = &mut self.frontends[index].hold
            {
                hold.not_before = ctx.now.mono;
            }
        }
    }

    /// Ends a frontend's warm-up when each of its backends is known; or else when `startup-max-delay` has passed
    /// since there was a prober to know them by, provided that at least one of them is known: blindness is no news.
    fn lift_hold(&mut self, index: usize, now: MonoTime) {
        let frontend = &self.frontends[index];
        let Some(hold) = frontend.hold else { return };
        let known = |slot: &Slot| self.backends[slot.backend].tracker.health() != Health::Unknown;
        let all = now >= hold.not_before && frontend.slots.iter().all(known);
        let patience = self.config.lb.startup_max_delay;
        let overdue = self.prober.probing_since.is_some_and(|since| now >= hold.from.max(since) + patience);
        if all || overdue && frontend.slots.iter().any(known) {
            self.frontends[index].hold = None;
        }
    }
}
