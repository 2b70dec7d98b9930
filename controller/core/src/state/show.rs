//! Views of the state at one moment.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::State;
use super::backends::BackendEntry;
use super::frontends::{FrontendEntry, FrontendSlot};
use super::observed::VppReads;
use crate::dataplane::{ActualState, ActualVip};
use crate::health::Health;
use crate::time::Now;
use crate::view::{BackendView, FrontendView, MemberView, PoolView, ProberView, Problems, View, VppView};

/// Warning about an address conflict.
pub(super) const ADDRESS_CONFLICT: &str = "VPP has this address on an interface: the VIP gets no traffic";

/// Warnings about one frontend.
struct FrontendWarnings {
    vpp_disconnected: Option<String>,
    prober_disconnected: Option<String>,
    stale: Option<String>,
    hidden: Option<String>,
    leaving: Option<String>,
    conf_rejected: Option<String>,
    vip_conflict: Option<String>,
    sync_failed: Option<String>,
    weights_exceed_table: Option<String>,
    other_table: Option<String>,
    address_conflict: Option<String>,
    drift: Option<String>,
}

impl State {
    /// Returns the view of everything.
    #[must_use]
    pub fn view(&self, now: Now) -> View {
        let backends = self.backends.iter().map(backend_view).collect();
        let frontends = self.frontends.iter().map(|f| self.frontend_view(f, now)).collect();
        View { backends, frontends, ..self.base_view(now) }
    }

    /// Returns a [view](Self::view) with the backend of that name, if it exists, and without frontends.
    #[must_use]
    pub fn view_of_backend(&self, name: &str, now: Now) -> View {
        let found = self.backends.search(|backend| (*backend.name).cmp(name));
        let backends = found.map(|index| backend_view(&self.backends[index])).into_iter().collect();
        View { backends, ..self.base_view(now) }
    }

    /// Returns a [view](Self::view) with the frontend of that name, if it exists, and without backends.
    #[must_use]
    pub fn view_of_frontend(&self, name: &str, now: Now) -> View {
        let found = self.frontends.search(|frontend| (*frontend.name).cmp(name));
        let frontends =
            found.map(|index| self.frontend_view(&self.frontends[index], now)).into_iter().collect();
        View { frontends, ..self.base_view(now) }
    }

    /// Returns the state of VPP as read last, with the steps applied since; `None` until VPP was read on this connection.
    #[must_use]
    pub fn actual(&self) -> Option<Arc<ActualState>> {
        self.observed.fresh_shared()
    }

    /// Returns the number of reads of VPP so far; `None` while it is not connected.
    #[must_use]
    pub fn vpp_reads(&self) -> Option<VppReads> {
        self.vpp.is_connected().then(|| self.observed.reads())
    }

    /// Returns the duration of a round of drift checks.
    #[must_use]
    pub fn sync_interval(&self) -> Duration {
        self.config.lb.sync_interval
    }

    /// Returns the part of the [view](Self::view) that shows VPP.
    #[must_use]
    pub fn vpp_view(&self) -> VppView {
        VppView {
            enabled: self.vpp.is_enabled(),
            info: self.vpp.info().cloned(),
            since: self.vpp.since(),
            actual: self.actual(),
            failing: self.vip_jobs.failures().map(|(vip, f)| (*vip, f.error.clone())).collect(),
        }
    }

    fn base_view(&self, now: Now) -> View {
        let rejected = self.prober.rejected.iter().filter_map(|(check, reason)| {
            let backend = self.prober.checks.get(*check)?;
            Some((Arc::clone(&self.backends[backend].name), reason.clone()))
        });
        View {
            at: now,
            config: Arc::clone(&self.config),
            backends: Vec::new(),
            frontends: Vec::new(),
            prober: ProberView {
                connected: self.prober.connected,
                since: self.prober.since,
                mass_failure_pending: self.mass_failure.pending_until().is_some(),
                stats: self.prober.stats,
                rejected_checks: rejected.collect(),
            },
            vpp: self.vpp_view(),
            overrides: Arc::clone(&self.overrides),
        }
    }

    fn frontend_view(&self, frontend: &FrontendEntry, now: Now) -> FrontendView {
        let found = self.observed.vip(&frontend.vip);
        let weights = self.decision(frontend).weights;
        let member = |(slot, effective): (&FrontendSlot, &u8)| {
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
                rounded: slot.scale.rounded(slot.weight),
                effective: *effective,
                in_vpp: server.map(|s| s.weight),
                buckets: server.map(|s| s.buckets),
            }
        };
        let pool = |(index, pool): (usize, &crate::config::Pool)| {
            let of_pool = |(slot, _): &(&FrontendSlot, &u8)| slot.pool == index;
            let backends: Vec<_> = frontend.slots.iter().zip(&weights).filter(of_pool).map(member).collect();
            PoolView { name: Arc::clone(&pool.name), backends }
        };
        let table_length =
            found.and_then(|vip| vip.table_length).unwrap_or_else(|| frontend.config.created_table_length());
        let drift = self.drift_warning(&frontend.vip, now.mono);
        let leaving = self.leaving_warning(frontend, now.mono);
        let warnings = FrontendWarnings { drift, leaving, ..self.warnings(frontend, found, table_length) };
        FrontendView {
            name: Arc::clone(&frontend.name),
            state: frontend.state,
            since: frontend.since,
            startup_done: !frontend.is_held(),
            active_pool: frontend.active,
            pools: frontend.config.pools.iter().enumerate().map(pool).collect(),
            table_length,
            weights_exceed_table: warnings.weights_exceed_table.is_some(),
            other_table: warnings.other_table.is_some(),
            problems: Problems {
                vip_conflict: warnings.vip_conflict.is_some(),
                sync_failed: warnings.sync_failed.is_some() || warnings.conf_rejected.is_some(),
                address_conflict: warnings.address_conflict.is_some(),
            },
            warnings: warnings.into_list(),
        }
    }

    fn warnings(
        &self,
        frontend: &FrontendEntry,
        found: Option<&ActualVip>,
        table_length: u32,
    ) -> FrontendWarnings {
        let vpp_disconnected = self.vpp.is_enabled() && !self.vpp.is_connected();
        let is_probed = |slot: &FrontendSlot| self.backends[slot.backend].is_probed();
        let prober_disconnected = !self.prober.connected && frontend.slots.iter().any(is_probed);
        let rejection = self.conf_job.rejection();
        let vip_conflict = self.observed.is_fresh()
            && found.is_none()
            && !self.may_create(&frontend.vip, frontend.config.encap);
        let address_conflict = self.observed.conflicts().contains(&frontend.vip);
        FrontendWarnings {
            vpp_disconnected: vpp_disconnected.then(|| "VPP is not connected".into()),
            prober_disconnected: prober_disconnected
                .then(|| "the prober is not connected: health stays as it was".into()),
            stale: self.stale_warning(frontend),
            hidden: self.hidden_warning(frontend),
            leaving: None,
            conf_rejected: self
                .heap
                .excess()
                .map(|word| alloc::format!("nothing is created in VPP: {word}"))
                .or_else(|| rejection.map(|word| alloc::format!("VPP rejects the global settings: {word}"))),
            vip_conflict: vip_conflict
                .then(|| "VPP has another VIP on this address that does not allow this one".into()),
            sync_failed: self.vip_jobs.failure(&frontend.vip).map(|f| alloc::format!("VPP: {}", f.error)),
            weights_exceed_table: found.and_then(|vip| weights_exceed_table(vip, table_length)),
            other_table: found.and_then(|vip| other_table(frontend, vip)),
            address_conflict: address_conflict.then(|| ADDRESS_CONFLICT.into()),
            drift: None,
        }
    }
}

impl FrontendWarnings {
    fn into_list(self) -> Vec<String> {
        let all = [
            self.vpp_disconnected,
            self.prober_disconnected,
            self.stale,
            self.hidden,
            self.leaving,
            self.conf_rejected,
            self.vip_conflict,
            self.sync_failed,
            self.weights_exceed_table,
            self.other_table,
            self.address_conflict,
            self.drift,
        ];
        all.into_iter().flatten().collect()
    }
}

/// Returns a warning if the weights of a VIP exceed its table, which distorts the shares.
pub(super) fn weights_exceed_table(vip: &ActualVip, table_length: u32) -> Option<String> {
    let sum: u32 = vip.servers.values().map(|s| u32::from(s.weight)).sum();
    (sum > table_length).then(|| {
        alloc::format!(
            "the weights in VPP add up to {sum}, more than its table of {table_length}: shares are distorted"
        )
    })
}

/// Returns a warning if a VIP created now would have another table.
pub(super) fn other_table(frontend: &FrontendEntry, found: &ActualVip) -> Option<String> {
    let is = frontend.other_table(found)?;
    let wanted = frontend.config.created_table_length();
    let or_more = if found.table_length.is_none() { " or more" } else { "" };
    Some(alloc::format!(
        "VPP's table has {is}{or_more} entries, and a VIP created now has {wanted}: \
         another load balancer may send flows to other servers"
    ))
}

fn backend_view(backend: &BackendEntry) -> BackendView {
    let tracker = &backend.tracker;
    BackendView {
        name: Arc::clone(&backend.name),
        address: backend.address,
        healthcheck: backend.healthcheck.as_ref().map(|(name, _)| Arc::clone(name)),
        kind: backend.kind(),
        enabled: tracker.health() != Health::Disabled,
        health: tracker.health(),
        counter: tracker.counter(),
        rise: tracker.thresholds().rise,
        fall: tracker.thresholds().fall,
        stale: tracker.is_stale(),
        hidden: tracker.is_hidden(),
        since: tracker.since(),
        last: tracker.last().cloned(),
        probes: backend.probes,
        not_after: tracker.not_after(),
        transitions: tracker.history(),
    }
}
