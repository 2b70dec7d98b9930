//! Installs a configuration: at the start, and on a reload.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use maglev_ipc::CheckId;

use super::backends::BackendEntry;
use super::check_index::CheckIndex;
use super::frontends::{FrontendEntry, FrontendSlot, StartupHold};
use super::leaving::FormerServers;
use super::{Ctx, Input, State, Timer};
use crate::Name;
use crate::config::{self, Config, Problem};
use crate::event::Kind;
use crate::failover::FrontendState;
use crate::health::{Health, ProbeCounters, Signal, Thresholds, Tracker, Transition};
use crate::time::Now;

/// Transition of the backend at an index, to be published once the whole configuration is installed.
type PendingTransition = (usize, Transition);

/// Difference between the old and the new check of a backend.
#[derive(Clone, Copy, Eq, PartialEq)]
enum CheckChange {
    Nothing,
    /// Intervals, timeouts or thresholds.
    Pace,
    /// The server, or what is asked of it: earlier outcomes tell nothing.
    Question,
}

impl CheckChange {
    fn between(
        old: &BackendEntry,
        address: IpAddr,
        healthcheck: Option<&(Name, Arc<config::Healthcheck>)>,
    ) -> Self {
        let (old_check, new_check) = (old.healthcheck.as_ref().map(|(_, h)| h), healthcheck.map(|(_, h)| h));
        match (old_check, new_check) {
            _ if old.address != address => Self::Question,
            (old, new) if old == new => Self::Nothing,
            (Some(old), Some(new)) if old.probes_like(new, address) => Self::Pace,
            _ => Self::Question,
        }
    }
}

impl State {
    /// Installs the first configuration.
    pub(super) fn start(&mut self, config: Arc<Config>, ctx: &mut Ctx) {
        self.install_config(config, ctx);
        let (now, lb) = (ctx.now.mono, &self.config.lb);
        let min = lb.startup_min_delay;
        let hold = self.vpp.is_enabled().then_some(StartupHold::frozen(now, now + min));
        for frontend in self.frontends.iter_mut() {
            frontend.hold = hold;
        }
        self.set_timer(ctx, min, Timer::HoldEnd);
        self.pass_static_backends(ctx);
        // Backends that start disabled or paused are known, and have no transition that would refresh their frontends.
        for index in 0..self.frontends.len() {
            self.refresh_frontend(index, ctx);
        }
        self.recount();
    }

    /// Returns the reason for which a reload should be refused: it would remove every VIP, without consent, or VPP's heap does
    /// not hold its tables.
    #[must_use]
    pub fn reload_objection(&self, config: &Config, now: Now) -> Option<Problem> {
        let count = self.frontends.len();
        if config.frontends.is_empty() && count > 0 && !config.lb.allow_no_frontends {
            let message = format!(
                "no frontend in the file, {count} in force: a reload would remove every VIP; to allow that, set `allow-no-frontends: true` in vpp.lb"
            );
            return Some(Problem { path: "maglev.frontends".into(), message });
        }
        let mut trial = self.clone();
        trial.handle(Input::Reload(Arc::new(config.clone())), now, &mut Vec::new());
        let excess = trial.heap.excess().filter(|_| self.heap.excess().is_none())?;
        Some(Problem {
            path: "maglev.vpp.lb".into(),
            message: format!("{excess}: raise main-heap-size, or make them shorter"),
        })
    }

    /// Replaces the configuration.
    pub(super) fn reload(&mut self, config: Arc<Config>, ctx: &mut Ctx) {
        self.cancel_window(ctx);
        if *config == *self.config {
            ctx.event(Kind::Reloaded);
            return self.sync_all(ctx);
        }
        let (transitions, removed) = self.install_config(config, ctx);
        ctx.event(Kind::Reloaded);
        self.weigh_heap(ctx);
        self.recount_unobserved(ctx);
        self.amend_check_set(removed, 0..self.backends.len(), ctx);
        for (index, transition) in transitions {
            self.publish_transition(index, Some(transition), ctx);
        }
        self.pass_static_backends(ctx);
        for index in 0..self.frontends.len() {
            self.refresh_frontend(index, ctx);
        }
        self.recount();
        self.sync_all(ctx);
        self.hasten_drift_check(ctx);
        self.set_timer(ctx, self.config.lb.startup_max_delay, Timer::HoldEnd);
    }

    /// Installs the configuration, and keeps the backends and frontends that it does not change. Returns the transitions to
    /// be published, and the checks of removed backends.
    fn install_config(
        &mut self,
        config: Arc<Config>,
        ctx: &mut Ctx,
    ) -> (Vec<PendingTransition>, Vec<CheckId>) {
        let former = self.servers_in_service(ctx);
        self.config = config;
        let mut old: BTreeMap<_, _> = self.backends.take().map(|b| (Arc::clone(&b.name), b)).collect();
        let mut checks = CheckIndex::default();
        let config = Arc::clone(&self.config);
        let mut transitions = Vec::new();
        for (name, wanted) in &config.backends {
            let transition = self.install_backend(name, wanted, old.remove(name), ctx);
            let index = self.backends.len() - 1;
            checks.insert(self.backends[index].check, index);
            transitions.extend(transition.map(|t| (index, t)));
        }
        self.prober.checks = Arc::new(checks);
        let removed = old.values().filter_map(|gone| gone.sent_check).collect();
        for (name, mut gone) in old {
            if let Some(transition) = gone.tracker.configure(Health::Removed, ctx.now.wall) {
                ctx.event(Kind::Backend { name, address: gone.address, transition });
            }
        }
        self.install_frontends(former, ctx);
        (transitions, removed)
    }

    /// Appends a backend. It keeps its health if its address and all that its probes ask are the same as before.
    fn install_backend(
        &mut self,
        name: &Name,
        wanted: &config::Backend,
        old: Option<BackendEntry>,
        ctx: &Ctx,
    ) -> Option<Transition> {
        let healthcheck = wanted.healthcheck.as_ref().and_then(|h| {
            self.config.healthchecks.get(h).map(|healthcheck| (Arc::clone(h), Arc::clone(healthcheck)))
        });
        let thresholds = BackendEntry::thresholds(healthcheck.as_ref().map(|(_, h)| h.as_ref()));
        let initial = self.initial_health(name, wanted.enabled);
        let is_known = old.is_some();
        let mut backend = old.unwrap_or_else(|| self.new_backend(name, wanted, initial, thresholds, ctx));
        let change = match is_known {
            true => CheckChange::between(&backend, wanted.address, healthcheck.as_ref()),
            false => CheckChange::Nothing,
        };
        let kind = backend.kind();
        backend.address = wanted.address;
        backend.healthcheck = healthcheck;
        if backend.kind() != kind {
            backend.probes = ProbeCounters::default();
        }
        backend.frontends.clear();
        backend.tracker.set_history_limit(self.config.transition_history);
        let restarted = match change {
            CheckChange::Nothing => None,
            CheckChange::Pace => {
                backend.tracker.set_thresholds(thresholds);
                None
            }
            CheckChange::Question => backend.tracker.restart(thresholds, ctx.now.wall),
        };
        let stays =
            backend.tracker.health() == initial || initial == Health::Unknown && backend.tracker.is_probed();
        let switched = if stays { None } else { backend.tracker.configure(initial, ctx.now.wall) };
        if change != CheckChange::Nothing || switched.is_some() {
            backend.begin_check(self.prober.new_check());
        }
        self.backends.push(backend);
        switched.or(restarted)
    }

    /// Returns the health of a backend without outcomes: `unknown`, or the state that the configuration and the operators
    /// ask for.
    fn initial_health(&self, name: &Name, configured: bool) -> Health {
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
        thresholds: Thresholds,
        ctx: &Ctx,
    ) -> BackendEntry {
        BackendEntry {
            name: Arc::clone(name),
            address: wanted.address,
            healthcheck: None,
            tracker: Tracker::new(thresholds, self.config.transition_history, health, ctx.now.wall),
            probes: ProbeCounters::default(),
            check: self.prober.new_check(),
            sent_check: None,
            sent_interval: core::time::Duration::ZERO,
            signal: Signal::default(),
            missing_route: None,
            frontends: Vec::new(),
        }
    }

    fn install_frontends(&mut self, mut former: FormerServers, ctx: &mut Ctx) {
        let config = Arc::clone(&self.config);
        let mut old: BTreeMap<_, _> = self.frontends.take().map(|f| (Arc::clone(&f.name), f)).collect();
        let mut vips = BTreeMap::new();
        let now = ctx.now.mono;
        for (name, wanted) in &config.frontends {
            let mut slots = self.build_slots(name, wanted);
            let index = self.frontends.len();
            for slot in &slots {
                self.backends[slot.backend].frontends.push(index);
            }
            let mut frontend = old.remove(name).unwrap_or_else(|| FrontendEntry {
                name: Arc::clone(name),
                vip: wanted.vip,
                config: Arc::clone(wanted),
                slots: Vec::new(),
                hold: self.vpp.is_enabled().then_some(StartupHold::frozen(now, now)),
                leaving: Vec::new(),
                state: FrontendState::Unknown,
                since: ctx.now.wall,
                active: None,
            });
            for slot in &mut slots {
                let was_served = frontend.slots.iter().any(|s| s.is_served && s.address == slot.address);
                slot.is_served =
                    self.serves_unknown(&wanted.vip, slot) || was_served && self.is_unknown(slot);
            }
            if slots.iter().any(|slot| slot.is_served) {
                frontend.hold.get_or_insert(StartupHold::following(now));
            }
            frontend.leaving = self.leaving_servers(wanted, &slots, former.remove(&wanted.vip), now);
            frontend.vip = wanted.vip;
            frontend.config = Arc::clone(wanted);
            frontend.slots = slots;
            vips.insert(frontend.vip, index);
            self.frontends.push(frontend);
        }
        for FrontendEntry { name, state: from, .. } in old.into_values() {
            ctx.event(Kind::Frontend { name, from, to: FrontendState::Removed, active_pool: None });
        }
        self.vip_jobs.retire(&self.frontend_by_vip, &vips);
        self.drifts.retain(|vip| vips.contains_key(vip));
        self.frontend_by_vip = Arc::new(vips);
    }

    fn build_slots(&self, name: &Name, frontend: &config::Frontend) -> Vec<FrontendSlot> {
        let slot = |(pool, backend, weight): (usize, &Name, u8)| {
            let index = self.backends.search(|b| b.name.cmp(backend))?;
            let key = (Arc::clone(name), Arc::clone(&frontend.pools[pool].name), Arc::clone(backend));
            let override_weight = self.overrides.weights.get(&key).map(|(weight, _)| *weight);
            let address = self.backends[index].address;
            Some(FrontendSlot {
                pool,
                backend: index,
                address,
                weight: override_weight.unwrap_or(weight),
                overridden: override_weight.is_some(),
                is_served: false,
                scale: frontend.weight_scale(&frontend.pools[pool]),
            })
        };
        frontend.members().filter_map(slot).collect()
    }
}
