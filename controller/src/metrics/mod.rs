//! Metrics: families, rendering and the Prometheus endpoint.
//!
//! The `prometheus` crate counts all that happens in this process ([`descriptors`], [`calls`]). Families that follow from a
//! view are written at each scrape without it: [`state`], [`operators`], [`traffic`], and the core's own counters in
//! [`probes`]. Of 10,000 backends these are 261,031 lines. The encoder in [`text`] writes them straight into one buffer, in
//! 13 ms of CPU time; the crate would first build a tree of small strings. The same encoder writes what the crate gathers,
//! as the crate has none for OpenMetrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use maglev_core::Name;
use maglev_core::config::Config;
use maglev_core::event::{Event, Kind, LocalFaultsChange, MassFailureResult};
use maglev_core::failover::FrontendState;
use maglev_core::health::Health;
use maglev_core::plan::StepCounts;
use maglev_core::time::Now;
use maglev_core::view::View;
use prometheus::{Gauge, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry};

use crate::published::TrafficCounters;
use crate::version;

mod accept;
mod calls;
mod descriptors;
mod host_names;
mod http;
mod operators;
mod probes;
mod process;
mod render_cache;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod traffic;

pub use calls::{CallMetrics, CallTimer, MethodMetrics};
pub use host_names::HostNames;
pub use http::serve;
pub use text::ExpositionFormat;

use operators::OperatorMetrics;
use process::ProcessMetrics;
use text::{FamilyType, TextEncoder};

/// Values of the label `result`.
const RESULTS: [&str; 2] = ["success", "failure"];

/// Scope of a sync.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SyncScope {
    /// All VIPs.
    All,
    /// One VIP.
    Vip,
}

/// Direction of a message of VPP's API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MessageDirection {
    /// To VPP.
    Sent,
    /// From VPP.
    Received,
}

/// Event subscriber, counted until dropped.
#[derive(Debug)]
pub struct WatchGuard {
    subscribers: IntGauge,
    events: IntCounter,
    records: IntCounter,
}

impl WatchGuard {
    /// Counts events that the subscriber lost.
    pub fn lost_events(&self, count: u64) {
        self.events.inc_by(count);
    }

    /// Counts log records that the subscriber lost.
    pub fn lost_records(&self, count: u64) {
        self.records.inc_by(count);
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.subscribers.dec();
    }
}

/// Counters of the daemon.
#[derive(Debug)]
pub struct Metrics {
    backends: Mutex<BTreeMap<(Name, Health, Health), u64>>,
    frontends: Mutex<BTreeMap<(Name, FrontendState, FrontendState), u64>>,
    registry: Registry,
    calls: IntCounterVec,
    call_seconds: HistogramVec,
    longest_call: GaugeVec,
    syncs: IntCounterVec,
    drift: IntCounter,
    mass_failures: IntCounterVec,
    local_faults: IntCounter,
    sync_seconds: HistogramVec,
    reloads: IntCounterVec,
    reloaded: Gauge,
    reload_failing: IntGauge,
    link_errors: IntCounterVec,
    operators: OperatorMetrics,
    subscribers: IntGauge,
    lost_events: IntCounter,
    lost_records: IntCounter,
    grpc_calls: OnceLock<Arc<CallMetrics>>,
    refusals: IntCounterVec,
    /// Size of the last scrape, to allocate the next one at once.
    last_size: AtomicUsize,
}

impl Metrics {
    /// Creates counters of zero.
    ///
    /// # Errors
    /// Two metrics have the same name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessMetrics::new()))?;
        let build = [version::VERSION, version::COMMIT, version::BUILD_DATE];
        descriptors::BUILD.int_gauges(&registry)?.with_label_values(&build).set(1);
        let lost = descriptors::LOST.counters(&registry)?;
        Ok(Self {
            backends: Mutex::default(),
            frontends: Mutex::default(),
            calls: descriptors::VPP_CALLS.counters(&registry)?,
            call_seconds: descriptors::VPP_CALL_SECONDS.histograms(&registry, &descriptors::VPP_BOUNDS)?,
            longest_call: descriptors::VPP_LONGEST_CALL.gauges(&registry)?,
            syncs: descriptors::SYNCS.counters(&registry)?,
            drift: descriptors::DRIFT.counter(&registry)?,
            mass_failures: descriptors::MASS_FAILURES.counters_of(&registry, MassFailureResult::NAMES)?,
            local_faults: descriptors::LOCAL_FAULTS.counter(&registry)?,
            sync_seconds: descriptors::SYNC_SECONDS.histograms(&registry, &descriptors::VPP_BOUNDS)?,
            reloads: descriptors::RELOADS.counters_of(&registry, RESULTS)?,
            reloaded: descriptors::RELOADED.gauge(&registry)?,
            reload_failing: descriptors::RELOAD_FAILING.int_gauge(&registry)?,
            link_errors: descriptors::LINK_ERRORS.counters(&registry)?,
            operators: OperatorMetrics::new(&registry)?,
            subscribers: descriptors::SUBSCRIBERS.int_gauge(&registry)?,
            lost_events: lost.with_label_values(&["event"]),
            lost_records: lost.with_label_values(&["log"]),
            grpc_calls: OnceLock::new(),
            refusals: descriptors::REFUSALS.counters(&registry)?,
            registry,
            last_size: AtomicUsize::default(),
        })
    }

    /// Enables the metrics of gRPC calls, for all methods of the file descriptor sets.
    ///
    /// # Errors
    /// Invalid descriptors, or a second call.
    pub fn enable_call_metrics(&self, descriptors: &[&[u8]]) -> prometheus::Result<()> {
        let calls = CallMetrics::register(&self.registry, descriptors)?;
        // There is one server, and registering twice fails.
        let _ = self.grpc_calls.set(Arc::new(calls));
        Ok(())
    }

    /// Returns the metrics of gRPC calls; a dummy if they are not enabled.
    pub fn calls(&self) -> Arc<CallMetrics> {
        self.grpc_calls.get().cloned().unwrap_or_default()
    }

    /// Counts a subscriber until the returned guard is dropped.
    #[must_use]
    pub fn subscriber(&self) -> WatchGuard {
        self.subscribers.inc();
        WatchGuard {
            subscribers: self.subscribers.clone(),
            events: self.lost_events.clone(),
            records: self.lost_records.clone(),
        }
    }

    /// Counts an event of the core.
    pub fn count_event(&self, event: &Event) {
        match &event.kind {
            // `sync_to_config` removes the counters of removed backends.
            Kind::Backend { name, transition, .. } if transition.to != Health::Removed => {
                let key = (name.clone(), transition.from, transition.to);
                *lock(&self.backends).entry(key).or_default() += 1;
            }
            // An unchanged state means a pool change. `sync_to_config` removes the counters of removed frontends.
            Kind::Frontend { name, from, to, .. } if from != to && *to != FrontendState::Removed => {
                *lock(&self.frontends).entry((name.clone(), *from, *to)).or_default() += 1;
            }
            Kind::Drift { reverted, .. } => self.drift.inc_by((*reverted).into()),
            Kind::MassFailure(stage) => self.mass_failures.with_label_values(&[stage.as_str()]).inc(),
            Kind::LocalFaults(LocalFaultsChange::Unobserved { .. }) => self.local_faults.inc(),
            Kind::Operator(audit) => self.operators.audit(audit),
            Kind::Backend { .. }
            | Kind::Frontend { .. }
            | Kind::LocalFaults(LocalFaultsChange::Hidden { .. } | LocalFaultsChange::Cleared)
            | Kind::Prober { .. }
            | Kind::CheckRejected { .. }
            | Kind::Vpp { .. }
            | Kind::AddressConflict { .. }
            | Kind::LbConf { .. }
            | Kind::Synced { .. }
            | Kind::StepFailed { .. }
            | Kind::Reloaded => {}
        }
    }

    /// Counts a message of VPP's API.
    pub fn count_vpp_message(&self, msg: &str, direction: MessageDirection, success: bool) {
        let direction = match direction {
            MessageDirection::Sent => "send",
            MessageDirection::Received => "recv",
        };
        let result = if success { "success" } else { "failure" };
        self.calls.with_label_values(&[msg, direction, result]).inc();
    }

    /// Records the time that VPP took for a call.
    pub fn observe_vpp_call(&self, msg: &str, duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.call_seconds.with_label_values(&[msg]).observe(seconds);
        let longest = self.longest_call.with_label_values(&[msg]);
        longest.set(longest.get().max(seconds));
    }

    /// Counts steps applied to VPP.
    pub fn count_sync(&self, scope: SyncScope, counts: &StepCounts, duration: Duration) {
        let scope = match scope {
            SyncScope::All => "all",
            SyncScope::Vip => "vip",
        };
        let kinds = [
            ("vip_added", counts.vip_added),
            ("vip_removed", counts.vip_removed),
            ("as_added", counts.as_added),
            ("as_removed", counts.as_removed),
            ("as_weight_updated", counts.as_weight_updated),
        ];
        for (kind, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
            self.syncs.with_label_values(&[scope, kind]).inc_by(count.into());
        }
        self.sync_seconds.with_label_values(&[scope]).observe(duration.as_secs_f64());
    }

    /// Records a loaded configuration.
    pub fn record_load(&self, at: Now) {
        self.reloaded.set(Duration::from_nanos(at.wall.0).as_secs_f64());
    }

    /// Records a reload; a failed one leaves the running configuration in force.
    pub fn record_reload(&self, ok: bool, at: Now) {
        self.reloads.with_label_values(&[RESULTS[usize::from(!ok)]]).inc();
        self.reload_failing.set((!ok).into());
        if ok {
            self.record_load(at);
        }
    }

    /// Counts an error on the link to `peer` (`prober` or `vpp`); `reason` is one of a few fixed words.
    pub fn count_link_error(&self, peer: &str, reason: &str) {
        self.link_errors.with_label_values(&[peer, reason]).inc();
    }

    /// Records a write of the overrides.
    pub fn record_save(&self, ok: bool) {
        self.operators.record_save(ok);
    }

    /// Records a write of the VIPs that are ours.
    pub fn record_ownership_save(&self, ok: bool) {
        self.operators.record_ownership_save(ok);
    }

    /// Adds `times` refusals of a call because of the caller's role.
    pub fn count_refusals(&self, method: &str, times: u64) {
        self.refusals.with_label_values(&[method]).inc_by(times);
    }

    /// Removes counters of removed items and creates those of new ones. Down transitions start at 0, because
    /// `increase()` does not see a counter that appears with 1.
    pub fn sync_to_config(&self, config: &Config) {
        let mut backends = lock(&self.backends);
        backends.retain(|(name, ..), _| config.backends.contains_key(name));
        for (name, _) in config.backends.iter().filter(|(_, backend)| backend.healthcheck.is_some()) {
            backends.entry((name.clone(), Health::Up, Health::Down)).or_default();
        }
        drop(backends);
        lock(&self.frontends).retain(|(name, ..), _| config.frontends.contains_key(name));
    }

    /// Renders all families.
    pub fn render(
        &self,
        view: &View,
        counters: Option<&TrafficCounters>,
        format: ExpositionFormat,
    ) -> String {
        let mut text = TextEncoder::with_capacity(self.last_size.load(Ordering::Relaxed), format);
        state::render(view, &mut text);
        operators::render(view, &mut text);
        if let Some(counters) = counters {
            traffic::render(view, counters, &mut text);
        }
        self.render_transitions(&mut text);
        probes::render(view, &mut text);
        text.write_gathered(&self.registry.gather());
        let out = text.into_string();
        self.last_size.store(out.len() + out.len() / 16, Ordering::Relaxed);
        out
    }

    fn render_transitions(&self, text: &mut TextEncoder) {
        let mut family = text.family(
            "maglev_backend_transitions_total",
            FamilyType::Counter,
            "Changes of a backend's state.",
        );
        for ((name, from, to), count) in lock(&self.backends).iter() {
            family.sample(&[("backend", name), ("from", from.as_str()), ("to", to.as_str())], *count);
        }
        let mut family = text.family(
            "maglev_frontend_transitions_total",
            FamilyType::Counter,
            "Changes of a frontend's state.",
        );
        for ((name, from, to), count) in lock(&self.frontends).iter() {
            family.sample(&[("frontend", name), ("from", from.as_str()), ("to", to.as_str())], *count);
        }
    }
}

/// Ignores poisoning: no holder of these locks leaves a partial update.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
