//! Descriptors of the metrics that the `prometheus` crate counts, and their registration.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Upper bucket bounds of VPP calls, in seconds. Each call stops VPP's workers for as long.
pub const VPP_BOUNDS: [f64; 10] = [1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 1e-1, 1.0];

/// Name, help text and labels of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// Name; that of a counter ends in `_total`.
    pub name: &'static str,
    /// Help text.
    pub help: &'static str,
    /// Label names.
    pub labels: &'static [&'static str],
}

/// Returns the descriptor of a metric.
const fn metric(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Descriptor {
    Descriptor { name, help, labels }
}

pub const BUILD: Descriptor =
    metric("maglev_build_info", "Build of maglevd; always 1.", &["version", "commit", "build_date"]);

pub const RELOADS: Descriptor =
    metric("maglev_config_reload_total", "Reloads of the configuration.", &["result"]);

pub const RELOADED: Descriptor = metric(
    "maglev_config_last_reload_success_timestamp_seconds",
    "Time of the last successful load of the configuration, as a Unix timestamp.",
    &[],
);

pub const RELOAD_FAILING: Descriptor = metric(
    "maglev_config_reload_failing",
    "1 if the last reload failed, so that an older configuration is in force.",
    &[],
);

pub const DRIFT: Descriptor = metric(
    "maglev_drift_total",
    "External changes of VPP's VIPs and global settings that maglevd reverted.",
    &[],
);

pub const MASS_FAILURES: Descriptor = metric(
    "maglev_mass_failures_total",
    "Suspected mass failures of backends, and how each was resolved.",
    &["result"],
);

pub const LOCAL_FAULTS: Descriptor = metric(
    "maglev_local_fault_episodes_total",
    "Episodes in which backends were unobservable because of faults on the prober's host.",
    &[],
);

pub const VPP_CALLS: Descriptor =
    metric("maglev_vpp_api_total", "Messages of VPP's binary API.", &["msg", "direction", "result"]);

pub const VPP_CALL_SECONDS: Descriptor =
    metric("maglev_vpp_api_duration_seconds", "Time that VPP took to answer a message.", &["msg"]);

pub const VPP_LONGEST_CALL: Descriptor =
    metric("maglev_vpp_api_longest_seconds", "Longest time that VPP took to answer a message.", &["msg"]);

pub const SYNCS: Descriptor = metric("maglev_vpp_lbsync_total", "Changes made in VPP.", &["scope", "kind"]);

pub const SYNC_SECONDS: Descriptor = metric(
    "maglev_vpp_lbsync_duration_seconds",
    "Duration of changes to VPP, from the first step to the last answer.",
    &["scope"],
);

pub const LINK_ERRORS: Descriptor =
    metric("maglev_link_errors_total", "Errors on the links to the prober and to VPP.", &["peer", "reason"]);

pub const SUBSCRIBERS: Descriptor = metric("maglev_event_subscribers", "WatchEvents calls in progress.", &[]);

pub const LOST: Descriptor =
    metric("maglev_events_lost_total", "Events and log records that slow subscribers lost.", &["kind"]);

pub const REFUSALS: Descriptor =
    metric("maglev_api_refused_total", "API calls refused because of the caller's role.", &["method"]);

pub const OPERATOR_ACTIONS: Descriptor =
    metric("maglev_operator_actions_total", "Actions of operators, and expiries of overrides.", &["action"]);

pub const SAVES: Descriptor =
    metric("maglev_overrides_save_total", "Attempts to write the overrides to disk.", &["result"]);

pub const UNSAVED: Descriptor =
    metric("maglev_overrides_unsaved", "1 if the last write of the overrides failed.", &[]);

pub const OWNERSHIP_UNSAVED: Descriptor =
    metric("maglev_owned_vips_unsaved", "1 if the last write of the list of maglevd's VIPs failed.", &[]);

impl Descriptor {
    /// Registers a counter without labels.
    pub fn counter(self, registry: &Registry) -> prometheus::Result<IntCounter> {
        register(registry, IntCounter::new(self.name, self.help)?)
    }

    /// Registers a counter with labels.
    pub fn counters(self, registry: &Registry) -> prometheus::Result<IntCounterVec> {
        register(registry, IntCounterVec::new(self.options(), self.labels)?)
    }

    /// Registers a counter with one label, and creates the series of `values`.
    pub fn counters_of<'a>(
        self,
        registry: &Registry,
        values: impl IntoIterator<Item = &'a str>,
    ) -> prometheus::Result<IntCounterVec> {
        let counters = self.counters(registry)?;
        for value in values {
            counters.with_label_values(&[value]);
        }
        Ok(counters)
    }

    /// Registers an integer gauge without labels.
    pub fn int_gauge(self, registry: &Registry) -> prometheus::Result<IntGauge> {
        register(registry, IntGauge::new(self.name, self.help)?)
    }

    /// Registers an integer gauge with labels.
    pub fn int_gauges(self, registry: &Registry) -> prometheus::Result<IntGaugeVec> {
        register(registry, IntGaugeVec::new(self.options(), self.labels)?)
    }

    /// Registers a gauge without labels.
    pub fn gauge(self, registry: &Registry) -> prometheus::Result<Gauge> {
        register(registry, Gauge::new(self.name, self.help)?)
    }

    /// Registers a gauge with labels.
    pub fn gauges(self, registry: &Registry) -> prometheus::Result<GaugeVec> {
        register(registry, GaugeVec::new(self.options(), self.labels)?)
    }

    /// Registers a histogram with labels.
    pub fn histograms(self, registry: &Registry, bounds: &[f64]) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::from(self.options()).buckets(bounds.to_vec());
        register(registry, HistogramVec::new(options, self.labels)?)
    }

    fn options(self) -> Opts {
        Opts::new(self.name, self.help)
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
