//! Leaving servers: they have left a frontend, and keep their weight in VPP until a new server is known.
//!
//! A reload that replaces all servers of a VIP, or changes an address, would leave the VIP without a server until a new one is
//! up. So the servers in service keep their weight, while either of these holds:
//! * no pool can serve, and a backend is unknown or down;
//! * a later pool can serve, but a backend before that pool is unknown.
//!
//! They leave with the reload if no backend is unknown, if they had no weight, or were down, paused or disabled. The prober
//! does not probe them, so the first backend of their pool or a better one that is up replaces all of them, and
//! `startup-max-delay` after the reload they leave in any case.
//!
//! A frontend that finds its VIP in VPP, after a start or a reload, does not know its former pools: it treats servers with
//! weight that it does not have like those of its first pool.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::explain::{list, until};
use super::frontends::{AwaitedEvent, FrontendEntry, FrontendSlot, LeavingServer};
use super::{Ctx, State, Timer};
use crate::Name;
use crate::config;
use crate::dataplane::VipKey;
use crate::health::Health;
use crate::time::MonoTime;

/// A server with weight before a reload or a start.
#[derive(Clone, Debug)]
pub(super) struct FormerServer {
    address: IpAddr,
    /// Name and index of its pool, if they are known.
    pool: Option<(Name, usize)>,
    weight: u8,
    /// Latest time of its removal, if it was leaving before.
    until: Option<MonoTime>,
}

/// Servers with weight before a reload, by VIP.
pub(super) type FormerServers = BTreeMap<VipKey, Vec<FormerServer>>;

impl State {
    /// Returns the servers in service of all VIPs, to be called before a reload.
    pub(super) fn servers_in_service(&self, ctx: &Ctx) -> FormerServers {
        if !self.vpp.is_enabled() {
            return FormerServers::new();
        }
        let former = |frontend: &FrontendEntry| (frontend.vip, self.in_service(frontend, ctx.now.mono));
        self.frontends.iter().map(former).collect()
    }

    fn in_service(&self, frontend: &FrontendEntry, now: MonoTime) -> Vec<FormerServer> {
        let found = self.observed.latest().and_then(|actual| actual.vips.get(&frontend.vip));
        let wanted = self.desired(frontend, found, now).servers;
        let pool = |index: usize| Some((Arc::clone(&frontend.config.pools[index].name), index));
        let is_trusted = |slot: &&FrontendSlot| {
            matches!(self.backends[slot.backend].tracker.health(), Health::Up | Health::Unknown)
        };
        let of_slot = |slot: &FrontendSlot| {
            let weight = wanted.get(&slot.address).map_or(0, |server| server.weight);
            FormerServer { address: slot.address, pool: pool(slot.pool), weight, until: None }
        };
        let of_leaving = |server: &LeavingServer| {
            let LeavingServer { address, weight, until, .. } = *server;
            FormerServer { address, pool: pool(server.pool), weight, until: Some(until) }
        };
        let slots = frontend.slots.iter().filter(is_trusted).map(of_slot);
        slots.filter(|server| server.weight > 0).chain(frontend.leaving.iter().map(of_leaving)).collect()
    }

    /// Returns the servers to which VPP gives weight for a VIP.
    fn found_in_service(&self, vip: &VipKey) -> Vec<FormerServer> {
        let found = self.observed.latest().and_then(|actual| actual.vips.get(vip));
        let servers = found.iter().flat_map(|vip| &vip.servers).filter(|(_, server)| server.weight > 0);
        servers
            .map(|(address, s)| FormerServer { address: *address, pool: None, weight: s.weight, until: None })
            .collect()
    }

    /// Returns those of the servers in service before that a frontend does not have any more, if it has a backend without a
    /// verdict: a server that is only taken out leaves at once. For a frontend without a configuration before, as at a start, a backend
    /// that is down counts as well: the run before may have begun to replace the server.
    pub(super) fn leaving_servers(
        &self,
        wanted: &config::Frontend,
        slots: &[FrontendSlot],
        former: Option<Vec<FormerServer>>,
        now: MonoTime,
    ) -> Vec<LeavingServer> {
        let latest = now + self.config.lb.startup_max_delay;
        let is_first = former.is_none();
        let former = former.unwrap_or_else(|| self.found_in_service(&wanted.vip));
        let pool_of = |name: &Name, index: usize| {
            let found = wanted.pools.iter().position(|pool| pool.name == *name);
            found.unwrap_or_else(|| index.min(wanted.pools.len().saturating_sub(1)))
        };
        let leaving = |FormerServer { address, pool, weight, until }| LeavingServer {
            address,
            pool: pool.map_or(0, |(name, index)| pool_of(&name, index)),
            weight,
            until: until.map_or(latest, |until| latest.min(until)),
        };
        let may_replace = |slot: &FrontendSlot| match self.backends[slot.backend].tracker.health() {
            Health::Unknown => true,
            health => is_first && health == Health::Down,
        };
        let is_replaced = slots.iter().any(|slot| slot.weight > 0 && may_replace(slot));
        let is_kept = |server: &FormerServer| {
            (is_replaced || server.until.is_some())
                && wanted.encap.carries(server.address)
                && slots.iter().all(|slot| slot.address != server.address)
        };
        former.into_iter().filter(is_kept).map(leaving).collect()
    }

    /// Keeps servers with weight in a VPP that was read for the first time, and that the frontends do not have.
    pub(super) fn adopt_servers(&mut self, ctx: &Ctx) {
        for index in 0..self.frontends.len() {
            let frontend = &self.frontends[index];
            let found = self.leaving_servers(&frontend.config, &frontend.slots, None, ctx.now.mono);
            let is_new = |server: &LeavingServer| {
                frontend.leaving.iter().all(|leaving| leaving.address != server.address)
            };
            let found: Vec<_> = found.into_iter().filter(is_new).collect();
            if !found.is_empty() {
                self.frontends[index].leaving.extend(found);
                self.advance_leaving(index, ctx.now.mono);
            }
        }
        self.set_timer(ctx, self.config.lb.startup_max_delay, Timer::HoldEnd);
    }

    /// Ends the time of leaving servers that the frontend does not need any more.
    pub(super) fn advance_leaving(&mut self, index: usize, now: MonoTime) {
        let frontend = &self.frontends[index];
        if frontend.leaving.is_empty() {
            return;
        }
        let stays = |server: &&LeavingServer| {
            now < server.until
                && server.pool < self.first_able_pool(frontend, now)
                && self.awaited(frontend, now).is_some()
        };
        let leaving: Vec<_> = frontend.leaving.iter().filter(stays).copied().collect();
        if leaving.len() < frontend.leaving.len() {
            self.frontends[index].leaving = leaving;
        }
    }

    /// Returns the first pool with a backend that would have weight without leaving servers.
    fn first_able_pool(&self, frontend: &FrontendEntry, now: MonoTime) -> usize {
        let found = self.observed.latest().and_then(|actual| actual.vips.get(&frontend.vip));
        let weights = self.slot_weights(frontend, &self.decision_with(frontend, &[]), found, now);
        let able = frontend.slots.iter().zip(weights).filter(|(_, weight)| *weight > 0);
        able.map(|(slot, _)| slot.pool).min().unwrap_or(usize::MAX)
    }

    /// Returns the event for which leaving servers are kept.
    pub(super) fn awaited<'a>(&self, frontend: &'a FrontendEntry, now: MonoTime) -> Option<AwaitedEvent<'a>> {
        if self.waits_for_min_delay(frontend, now) {
            return Some(AwaitedEvent::MinDelay);
        }
        // A pool that is up may only wait for a verdict about a better one.
        let is_up = |slot: &&FrontendSlot| {
            slot.weight > 0 && self.backends[slot.backend].tracker.health() == Health::Up
        };
        let up = frontend.slots.iter().filter(is_up).map(|slot| slot.pool).min();
        let able = self.first_able_pool(frontend, now).min(up.unwrap_or(usize::MAX));
        let is_none_able = able == usize::MAX;
        let is_awaited = |slot: &&FrontendSlot| {
            let health = self.backends[slot.backend].tracker.health();
            slot.pool < able
                && slot.weight > 0
                && (health == Health::Unknown || is_none_able && health == Health::Down)
        };
        let slots: Vec<_> = frontend.slots.iter().filter(is_awaited).collect();
        let awaited = if is_none_able { AwaitedEvent::Recovery } else { AwaitedEvent::Verdict };
        (!slots.is_empty()).then(|| awaited(slots))
    }

    /// Reports whether a hold gives no backend weight yet.
    fn waits_for_min_delay(&self, frontend: &FrontendEntry, now: MonoTime) -> bool {
        let found = self.observed.latest().and_then(|actual| actual.vips.get(&frontend.vip));
        frontend.hold.is_some_and(|hold| !hold.follows_health && now < hold.not_before)
            && !self.has_weight_in_vpp(frontend, found)
    }

    /// Returns the warning about a frontend's leaving servers.
    pub(super) fn leaving_warning(&self, frontend: &FrontendEntry, now: MonoTime) -> Option<String> {
        let last = frontend.leaving.iter().map(|server| server.until).max()?;
        let servers = list(frontend.leaving.iter().map(|server| server.address));
        let left = until(last - now);
        Some(format!(
            "servers that left keep their weight in VPP until a new one is up, for {left} at most: {servers}"
        ))
    }
}
