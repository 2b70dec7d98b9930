//! Metrics: families, rendering and the Prometheus endpoint.
//!
//! [`state`] renders the current state from one view at each scrape, and [`probes`] the core's own counters. The
//! `prometheus` crate counts the rest as it happens.

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
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::published::TrafficCounters;
use crate::version;

mod accept;
mod calls;
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
pub use http::serve;
pub use text::ExpositionFormat;

use operators::OperatorMetrics;
use process::ProcessMetrics;
use text::{FamilyType, TextEncoder};

/// Upper bucket bounds of VPP calls, in seconds. Each call stops VPP's workers for as long.
const CALL_BUCKETS: [f64; 10] = [1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 1e-1, 1.0];

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
pub enum CallDirection {
    /// To VPP.
    Sent,
    /// From VPP.
    Received,
}

/// Event subscriber, counted until dropped.
#[derive(Debug)]
pub struct WatchGuard {
    watchers: IntGauge,
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
        self.watchers.dec();
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
    watchers: IntGauge,
    lost_events: IntCounter,
    lost_records: IntCounter,
    served: OnceLock<Arc<CallMetrics>>,
    refusals: IntCounterVec,
    /// Size of the last scrape, to allocate the next one at once.
    size: AtomicUsize,
}

impl Metrics {
    /// Creates counters of zero.
    ///
    /// # Errors
    /// Two metrics have the same name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessMetrics::new()))?;
        let build = IntGaugeVec::new(
            Opts::new("maglev_build_info", "Build of maglevd; always 1."),
            &["version", "commit", "build_date"],
        )?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[version::VERSION, version::COMMIT, version::BUILD_DATE]).set(1);

        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let seconds = |name: &str, help: &str, labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(CALL_BUCKETS.to_vec());
            let histogram = HistogramVec::new(options, labels)?;
            registry.register(Box::new(histogram.clone()))?;
            prometheus::Result::Ok(histogram)
        };
        let reloads = counter("maglev_config_reload_total", "Reloads of the configuration.", &["result"])?;
        for result in ["success", "failure"] {
            reloads.with_label_values(&[result]);
        }
        let reloaded = Gauge::new(
            "maglev_config_last_reload_success_timestamp_seconds",
            "Time of the last successful load of the configuration, as a Unix timestamp.",
        )?;
        registry.register(Box::new(reloaded.clone()))?;
        let reload_failing = IntGauge::new(
            "maglev_config_reload_failing",
            "1 if the last reload failed, so that an older configuration is in force.",
        )?;
        registry.register(Box::new(reload_failing.clone()))?;
        let drift =
            IntCounter::new("maglev_drift_total", "External changes of VIPs in VPP that maglevd reverted.")?;
        registry.register(Box::new(drift.clone()))?;
        let longest_call = GaugeVec::new(
            Opts::new("maglev_vpp_api_longest_seconds", "Longest time that VPP took to answer a message."),
            &["msg"],
        )?;
        registry.register(Box::new(longest_call.clone()))?;
        let watchers = IntGauge::new("maglev_event_subscribers", "WatchEvents calls in progress.")?;
        registry.register(Box::new(watchers.clone()))?;
        let help = "Suspected mass failures of backends, and how each was resolved.";
        let mass_failures = counter("maglev_mass_failures_total", help, &["result"])?;
        for result in MassFailureResult::NAMES {
            mass_failures.with_label_values(&[result]);
        }
        let local_faults = IntCounter::new(
            "maglev_local_fault_episodes_total",
            "Episodes in which backends were unobservable because of faults on the prober's host.",
        )?;
        registry.register(Box::new(local_faults.clone()))?;
        let lost = counter(
            "maglev_events_lost_total",
            "Events and log records that slow subscribers lost.",
            &["kind"],
        )?;

        Ok(Self {
            backends: Mutex::default(),
            frontends: Mutex::default(),
            calls: counter(
                "maglev_vpp_api_total",
                "Messages of VPP's binary API.",
                &["msg", "direction", "result"],
            )?,
            call_seconds: seconds(
                "maglev_vpp_api_duration_seconds",
                "Time that VPP took to answer a message.",
                &["msg"],
            )?,
            longest_call,
            drift,
            mass_failures,
            local_faults,
            syncs: counter("maglev_vpp_lbsync_total", "Changes made in VPP.", &["scope", "kind"])?,
            sync_seconds: seconds(
                "maglev_vpp_lbsync_duration_seconds",
                "Duration of changes to VPP, from the first step to the last answer.",
                &["scope"],
            )?,
            reloads,
            reloaded,
            reload_failing,
            link_errors: counter(
                "maglev_link_errors_total",
                "Errors on the links to the prober and to VPP.",
                &["peer", "reason"],
            )?,
            operators: OperatorMetrics::new(&registry)?,
            watchers,
            lost_events: lost.with_label_values(&["event"]),
            lost_records: lost.with_label_values(&["log"]),
            served: OnceLock::new(),
            refusals: counter(
                "maglev_api_refused_total",
                "API calls refused because of the caller's role.",
                &["method"],
            )?,
            registry,
            size: AtomicUsize::default(),
        })
    }

    /// Enables the metrics of gRPC calls, uncalled methods included.
    pub fn show_calls(&self, calls: CallMetrics) {
        // There is one server.
        let _ = self.served.set(Arc::new(calls));
    }

    /// Returns the metrics of gRPC calls; a dummy if they are not enabled.
    pub fn calls(&self) -> Arc<CallMetrics> {
        self.served.get().cloned().unwrap_or_default()
    }

    /// Counts a subscriber until the returned guard is dropped.
    #[must_use]
    pub fn watcher(&self) -> WatchGuard {
        self.watchers.inc();
        WatchGuard {
            watchers: self.watchers.clone(),
            events: self.lost_events.clone(),
            records: self.lost_records.clone(),
        }
    }

    /// Counts an event of the core.
    pub fn event(&self, event: &Event) {
        match &event.kind {
            // `sync_to_config` removes the counters of removed backends.
            Kind::Backend { name, transition, .. } if transition.to != Health::Removed => {
                let key = (name.clone(), transition.from, transition.to);
                *lock(&self.backends).entry(key).or_default() += 1;
            }
            // An unchanged state means a pool change.
            Kind::Frontend { name, from, to, .. } if from != to => {
                *lock(&self.frontends).entry((name.clone(), *from, *to)).or_default() += 1;
            }
            Kind::Backend { .. }
            | Kind::Frontend { .. }
            | Kind::Prober { .. }
            | Kind::LocalFaults(LocalFaultsChange::Cleared)
            | Kind::CheckRejected { .. }
            | Kind::Vpp { .. }
            | Kind::AddressConflict { .. }
            | Kind::LbConf { .. }
            | Kind::Synced { .. }
            | Kind::StepFailed { .. }
            | Kind::Reloaded => {}
            Kind::Drift { reverted, .. } => self.drift.inc_by((*reverted).into()),
            Kind::MassFailure(stage) => self.mass_failures.with_label_values(&[stage.as_str()]).inc(),
            Kind::LocalFaults(LocalFaultsChange::Unobserved { .. }) => self.local_faults.inc(),
            Kind::Operator(audit) => self.operators.audit(audit),
        }
    }

    /// Counts a message of VPP's API; with the response time, if known.
    pub fn vpp_call(&self, msg: &str, direction: CallDirection, result: &str, duration: Option<Duration>) {
        let direction = match direction {
            CallDirection::Sent => "tx",
            CallDirection::Received => "rx",
        };
        self.calls.with_label_values(&[msg, direction, result]).inc();
        if let Some(duration) = duration {
            let seconds = duration.as_secs_f64();
            self.call_seconds.with_label_values(&[msg]).observe(seconds);
            let longest = self.longest_call.with_label_values(&[msg]);
            longest.set(longest.get().max(seconds));
        }
    }

    /// Counts steps applied to VPP.
    pub fn sync(&self, scope: SyncScope, counts: &StepCounts, duration: Duration) {
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
    pub fn loaded(&self, at: Now) {
        self.reloaded.set(Duration::from_nanos(at.wall.0).as_secs_f64());
    }

    /// Records a reload; a failed one leaves the running configuration in force.
    pub fn reload(&self, ok: bool, at: Now) {
        self.reloads.with_label_values(&[if ok { "success" } else { "failure" }]).inc();
        self.reload_failing.set((!ok).into());
        if ok {
            self.loaded(at);
        }
    }

    /// Counts an error on the link to `peer` (`prober` or `vpp`); `reason` is one of a few fixed words.
    pub fn link_error(&self, peer: &str, reason: &str) {
        self.link_errors.with_label_values(&[peer, reason]).inc();
    }

    /// Records a write of the overrides.
    pub fn saved(&self, ok: bool) {
        self.operators.saved(ok);
    }

    /// Adds `times` refusals of a call because of the caller's role.
    pub fn refused(&self, method: &str, times: u64) {
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
        let mut text = TextEncoder::with_capacity(self.size.load(Ordering::Relaxed), format);
        state::render(view, &mut text);
        operators::render(view, &mut text);
        if let Some(counters) = counters {
            traffic::render(view, counters, &mut text);
        }
        self.render_transitions(&mut text);
        probes::render(view, &mut text);
        if let Some(calls) = self.served.get() {
            calls.render(&mut text);
        }
        text.gathered(&self.registry.gather());
        let out = text.into_string();
        self.size.store(out.len() + out.len() / 16, Ordering::Relaxed);
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
