//! A new configuration: what stays as it is, what begins again, what goes.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use maglev_ipc::CheckId;

use super::backends::Backend;
use super::blind::Sight;
use super::checks::Checks;
use super::frontends::{Frontend, Hold, Slot};
use super::{Ctx, State, Timer};
use crate::Name;
use crate::config::{self, Config};
use crate::dataplane::VipKey;
use crate::event::Kind;
use crate::failover::FrontendState;
use crate::health::{Health, ProbeCounters, Thresholds, Tracker, Transition};

/// A backend's move that is told once everything else is in place.
type Move = (usize, Transition);

impl State {
    /// Takes in the first configuration.
    pub(super) fn start(&mut self, config: Arc<Config>, ctx: &mut Ctx) {
        self.replace(config, ctx);
        let (now, lb) = (ctx.now.mono, &self.config.lb);
        let (min, max) = (lb.startup_min_delay, lb.startup_max_delay);
        for frontend in self.frontends.iter_mut() {
            let warms_up = self.sync.enabled && !max.is_zero();
            frontend.hold = warms_up.then_some(Hold { not_before: now + min, from: now });
        }
        self.set_timer(ctx, min, Timer::Release);
        self.static_passes(ctx);
        // Backends that are out or paused from the start are known, and never move.
        for index in 0..self.frontends.len() {
            self.refresh(index, ctx);
        }
        self.count();
    }

    /// Takes in another configuration in place of the one in force.
    pub(super) fn reload(&mut self, config: Arc<Config>, ctx: &mut Ctx) {
        self.see_again(ctx);
        if *config == *self.config {
            ctx.event(Kind::Reloaded);
            return self.sync_all(ctx);
        }
        let (moves, gone) = self.replace(config, ctx);
        ctx.event(Kind::Reloaded);
        self.look(ctx);
        self.amend_checks(gone, 0..self.backends.len(), ctx);
        for (index, transition) in moves {
            self.tell(index, Some(transition), ctx);
        }
        self.static_passes(ctx);
        for index in 0..self.frontends.len() {
            self.refresh(index, ctx);
        }
        self.count();
        self.sync_all(ctx);
        self.hasten_drift_check(ctx);
        self.set_timer(ctx, self.config.lb.startup_max_delay, Timer::Release);
    }

    /// Puts the configuration in force, and keeps of the old one's backends and frontends what it says nothing new of.
    /// The moves that are still to be told, and the checks of backends that are gone.
    fn replace(&mut self, config: Arc<Config>, ctx: &mut Ctx) -> (Vec<Move>, Vec<CheckId>) {
        self.config = config;
        let mut old: BTreeMap<_, _> = self.backends.take().map(|b| (Arc::clone(&b.name), b)).collect();
        let mut checks = Checks::default();
        let config = Arc::clone(&self.config);
        let mut moves = Vec::new();
        for (name, wanted) in &config.backends {
            let transition = self.place_backend(name, wanted, old.remove(name), ctx);
            let index = self.backends.len() - 1;
            checks.insert(self.backends[index].check, index);
            moves.extend(transition.map(|t| (index, t)));
        }
        self.prober.checks = Arc::new(checks);
        let sent = old.values().filter_map(|gone| gone.sent).collect();
        for (name, mut gone) in old {
            if let Some(transition) = gone.tracker.configure(Health::Removed, ctx.now.wall) {
                ctx.event(Kind::Backend { name, address: gone.address, transition });
            }
        }
        self.replace_frontends(ctx);
        (moves, sent)
    }

    /// Puts a backend in its place. One whose address and healthcheck are what they were goes on as it was.
    fn place_backend(
        &mut self,
        name: &Name,
        wanted: &config::Backend,
        old: Option<Backend>,
        ctx: &Ctx,
    ) -> Option<Transition> {
        let healthcheck = wanted.healthcheck.as_ref().and_then(|h| {
            self.config.healthchecks.get(h).map(|healthcheck| (Arc::clone(h), Arc::clone(healthcheck)))
        });
        let limits = Backend::limits(healthcheck.as_ref().map(|(_, h)| h.as_ref()));
        let stance = self.stance(name, wanted.enabled);
        let known = old.is_some();
        let mut backend = old.unwrap_or_else(|| self.new_backend(name, wanted, stance, limits, ctx));
        let settings = |h: &Option<(Name, Arc<config::Healthcheck>)>| h.as_ref().map(|(_, h)| Arc::clone(h));
        let same =
            backend.address == wanted.address && settings(&backend.healthcheck) == settings(&healthcheck);
        let kind = backend.kind();
        backend.address = wanted.address;
        backend.healthcheck = healthcheck;
        if backend.kind() != kind {
            backend.probes = ProbeCounters::default();
        }
        backend.frontends.clear();
        backend.tracker.keep(self.config.transition_history);
        let restarted = if known && !same { backend.tracker.restart(limits, ctx.now.wall) } else { None };
        let stays =
            backend.tracker.health() == stance || stance == Health::Unknown && backend.tracker.probed();
        let switched = if stays { None } else { backend.tracker.configure(stance, ctx.now.wall) };
        if known && !same || switched.is_some() {
            backend.check = self.prober.new_check();
            backend.tracker.renumber();
        }
        self.backends.push(backend);
        switched.or(restarted)
    }

    /// What a backend is that is not known yet: `unknown`, or what the configuration and operators say.
    fn stance(&self, name: &Name, configured: bool) -> Health {
        let enabled = self.overrides.enabled.get(name).map_or(configured, |(enabled, _)| *enabled);
        match (enabled, self.overrides.paused.contains_key(name)) {
            (false, _) => Health::Disabled,
            (true, true) => Health::Paused,
            (true, false) => Health::Unknown,
        }
    }

    fn new_backend(
        &mut self,
        name: &Name,
        wanted: &config::Backend,
        health: Health,
        limits: Thresholds,
        ctx: &Ctx,
    ) -> Backend {
        Backend {
            name: Arc::clone(name),
            address: wanted.address,
            healthcheck: None,
            tracker: Tracker::new(limits, self.config.transition_history, health, ctx.now.wall),
            probes: ProbeCounters::default(),
            check: self.prober.new_check(),
            sent: None,
            paced: core::time::Duration::ZERO,
            sight: Sight::default(),
            frontends: Vec::new(),
        }
    }

    fn replace_frontends(&mut self, ctx: &Ctx) {
        let config = Arc::clone(&self.config);
        let mut old: BTreeMap<_, _> = self.frontends.take().map(|f| (Arc::clone(&f.name), f)).collect();
        self.sync.retired.extend(self.vips.keys());
        let mut vips = BTreeMap::new();
        for (name, wanted) in &config.frontends {
            let slots = self.slots(name, wanted);
            let index = self.frontends.len();
            let warms_up = slots.iter().any(|slot| self.serves_unknown(&wanted.vip, slot));
            for slot in &slots {
                self.backends[slot.backend].frontends.push(index);
            }
            let hold = Hold { not_before: ctx.now.mono, from: ctx.now.mono };
            let mut frontend = old.remove(name).unwrap_or_else(|| Frontend {
                name: Arc::clone(name),
                vip: wanted.vip,
                config: Arc::clone(wanted),
                slots: Vec::new(),
                hold: self.sync.enabled.then_some(hold),
                state: FrontendState::Unknown,
                since: ctx.now.wall,
                active: None,
            });
            if warms_up {
                frontend.hold.get_or_insert(hold);
            }
            frontend.vip = wanted.vip;
            frontend.config = Arc::clone(wanted);
            frontend.slots = slots;
            vips.insert(frontend.vip, index);
            self.sync.retired.remove(&frontend.vip);
            self.frontends.push(frontend);
        }
        self.sync.retired.retain(|vip| !vips.contains_key(vip));
        self.vips = Arc::new(vips);
    }

    /// Whether VPP gives weight to a backend of which nothing is known any more.
    fn serves_unknown(&self, vip: &VipKey, slot: &Slot) -> bool {
        self.backends[slot.backend].tracker.health() == Health::Unknown
            && self.sync.seen.as_ref().is_some_and(|seen| seen.serves(vip, &slot.address))
    }

    fn slots(&self, name: &Name, frontend: &config::Frontend) -> Vec<Slot> {
        let slot = |(pool, backend, weight): (usize, &Name, u8)| {
            let index = self.backends.search(|b| b.name.cmp(backend))?;
            let key = (Arc::clone(name), Arc::clone(&frontend.pools[pool].name), Arc::clone(backend));
            let wish = self.overrides.weights.get(&key).map(|(weight, _)| *weight);
            let address = self.backends[index].address;
            Some(Slot {
                pool,
                backend: index,
                address,
                weight: wish.unwrap_or(weight),
                overridden: wish.is_some(),
            })
        };
        frontend.members().filter_map(slot).collect()
    }
}
