//! Everything that can be shown, at one moment.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::State;
use super::backends::Backend;
use super::frontends::{Frontend, Slot};
use crate::dataplane::{ActualState, ActualVip};
use crate::health::Health;
use crate::time::Now;
use crate::view::{BackendView, FrontendView, MemberView, PoolView, ProberView, Problems, View, VppView};

/// What is said of a VIP that is one of VPP's own addresses.
pub(super) const SHADOWED: &str = "VPP has this address on an interface: the VIP gets no traffic";

impl State {
    /// Everything that can be shown, at this moment.
    #[must_use]
    pub fn view(&self, now: Now) -> View {
        let backends = self.backends.iter().map(backend_view).collect();
        let frontends = self.frontends.iter().map(|f| self.frontend_view(f)).collect();
        View { backends, frontends, ..self.view_of_none(now) }
    }

    /// As [`Self::view`], of no backend but the one of that name, if there is one, and of no frontend.
    #[must_use]
    pub fn view_of_backend(&self, name: &str, now: Now) -> View {
        let found = self.backends.search(|backend| (*backend.name).cmp(name));
        let backends = found.map(|index| backend_view(&self.backends[index])).into_iter().collect();
        View { backends, ..self.view_of_none(now) }
    }

    /// As [`Self::view`], of no frontend but the one of that name, if there is one, and of no backend.
    #[must_use]
    pub fn view_of_frontend(&self, name: &str, now: Now) -> View {
        let found = self.frontends.search(|frontend| (*frontend.name).cmp(name));
        let frontends = found.map(|index| self.frontend_view(&self.frontends[index])).into_iter().collect();
        View { frontends, ..self.view_of_none(now) }
    }

    /// What VPP was last seen to have, kept up to date by what was done to it since; `None` while that is not known.
    #[must_use]
    pub fn actual(&self) -> Option<Arc<ActualState>> {
        self.sync.seen.clone().filter(|_| self.sync.current)
    }

    /// How often everything is compared with what VPP has.
    #[must_use]
    pub fn sync_interval(&self) -> Duration {
        self.config.lb.sync_interval
    }

    fn view_of_none(&self, now: Now) -> View {
        let refused = self.prober.refused.iter().filter_map(|(check, why)| {
            let backend = self.prober.checks.get(*check)?;
            Some((Arc::clone(&self.backends[backend].name), why.clone()))
        });
        View {
            at: now,
            config: Arc::clone(&self.config),
            backends: Vec::new(),
            frontends: Vec::new(),
            prober: ProberView {
                connected: self.prober.connected,
                since: self.prober.since,
                mass_failure_pending: self.blind.until().is_some(),
                stats: self.prober.stats,
                rejected_checks: refused.collect(),
            },
            vpp: VppView {
                enabled: self.sync.enabled,
                info: self.sync.info.clone(),
                since: self.sync.since,
                actual: self.actual(),
                failing: self.sync.failures.iter().map(|(vip, f)| (*vip, f.error.clone())).collect(),
            },
            overrides: Arc::clone(&self.overrides),
        }
    }

    fn frontend_view(&self, frontend: &Frontend) -> FrontendView {
        let found = self.sync.now().and_then(|actual| actual.vips.get(&frontend.vip));
        let weights = self.decision(frontend).weights;
        let member = |(slot, effective): (&Slot, &u8)| {
            let backend = &self.backends[slot.backend];
            let server = found.and_then(|vip| vip.servers.get(&slot.address));
            MemberView {
                name: Arc::clone(&backend.name),
                address: slot.address,
                health: backend.tracker.health(),
                weight: slot.weight,
                configured: frontend.config.pools[slot.pool]
                    .backends
                    .get(&backend.name)
                    .copied()
                    .unwrap_or_default(),
                overridden: slot.overridden,
                effective: *effective,
                in_vpp: server.map(|s| s.weight),
                buckets: server.map(|s| s.buckets),
            }
        };
        let pool = |(index, pool): (usize, &crate::config::Pool)| {
            let of_pool = |(slot, _): &(&Slot, &u8)| slot.pool == index;
            let backends: Vec<_> = frontend.slots.iter().zip(&weights).filter(of_pool).map(member).collect();
            PoolView { name: Arc::clone(&pool.name), backends }
        };
        let table_length = found.and_then(|vip| vip.table_length).unwrap_or_else(|| frontend.table_length());
        let blocked = self.sync.current
            && found.is_none()
            && !self.sync.may_create(&frontend.vip, frontend.config.encap);
        let blocked =
            blocked.then(|| "VPP has another VIP on this address that does not allow this one".into());
        let failing = self.sync.failures.get(&frontend.vip).map(|f| alloc::format!("VPP: {}", f.error));
        let too_short = found.and_then(|vip| too_short(vip, table_length));
        let shadowed = self.sync.shadowed.contains(&frontend.vip).then(|| SHADOWED.into());
        let away = (self.sync.enabled && self.sync.info.is_none()).then(|| "VPP is not connected".into());
        let probed = |slot: &Slot| {
            let backend = &self.backends[slot.backend];
            backend.healthcheck.is_some() && backend.tracker.probed()
        };
        let frozen = !self.prober.connected && frontend.slots.iter().any(probed);
        let frozen = frozen.then(|| "the prober is not connected: health stays as it was".into());
        let unset = self.sync.conf_refusal.as_ref();
        let unset = unset.map(|word| alloc::format!("VPP refuses the global settings: {word}"));
        FrontendView {
            name: Arc::clone(&frontend.name),
            state: frontend.state,
            since: frontend.since,
            startup_done: frontend.hold.is_none(),
            active_pool: frontend.active,
            pools: frontend.config.pools.iter().enumerate().map(pool).collect(),
            table_length,
            weights_exceed_table: too_short.is_some(),
            problems: Problems {
                vip_conflict: blocked.is_some(),
                sync_failed: failing.is_some() || unset.is_some(),
                address_conflict: shadowed.is_some(),
            },
            warnings: [away, frozen, unset, blocked, failing, too_short, shadowed]
                .into_iter()
                .flatten()
                .collect(),
        }
    }
}

/// What is said of a VIP whose weights in VPP distort its shares, if they do.
pub(super) fn too_short(vip: &ActualVip, table_length: u32) -> Option<String> {
    let sum: u32 = vip.servers.values().map(|s| u32::from(s.weight)).sum();
    (sum > table_length).then(|| {
        alloc::format!(
            "the weights in VPP add up to {sum}, more than its table of {table_length}: shares are distorted"
        )
    })
}

fn backend_view(backend: &Backend) -> BackendView {
    let tracker = &backend.tracker;
    BackendView {
        name: Arc::clone(&backend.name),
        address: backend.address,
        healthcheck: backend.healthcheck.as_ref().map(|(name, _)| Arc::clone(name)),
        kind: backend.kind(),
        enabled: tracker.health() != Health::Disabled,
        health: tracker.health(),
        counter: tracker.counter(),
        rise: tracker.limits().rise,
        fall: tracker.limits().fall,
        stale: tracker.stale(),
        since: tracker.since(),
        last: tracker.last().cloned(),
        probes: backend.probes,
        not_after: tracker.not_after(),
        transitions: tracker.history(),
    }
}
