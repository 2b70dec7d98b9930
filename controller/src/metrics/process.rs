//! Metrics of this process.

use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Gauge, MetricFamily};

use crate::clock;

/// CPU, memory, descriptors and start time.
pub struct ProcessMetrics {
    system: ProcessCollector,
    /// Seconds since the Unix epoch.
    started: f64,
}

impl ProcessMetrics {
    /// Creates the collector; to be called at the start of the process.
    pub fn new() -> Self {
        Self {
            system: ProcessCollector::for_self(),
            started: Duration::from_nanos(clock::now().wall.0).as_secs_f64(),
        }
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.system.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.system.collect();
        set_start(&mut families, self.started);
        families
    }
}

/// Fills in the start time. The crate reads it from /proc/stat, which our unit hides (`ProcSubset=pid`), and then
/// returns 0.
fn set_start(families: &mut [MetricFamily], started: f64) {
    let start = families.iter_mut().filter(|family| family.name() == "process_start_time_seconds");
    for metric in start.flat_map(MetricFamily::mut_metric) {
        if metric.get_gauge().get_value() == 0.0 {
            let mut gauge = Gauge::default();
            gauge.set_value(started.floor());
            metric.set_gauge(gauge);
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntGauge;

    use super::*;

    #[test]
    fn start_time_works_without_proc_stat() {
        for (told, shown) in [(0, 1000.0), (900, 900.0)] {
            let gauge = IntGauge::new("process_start_time_seconds", "Start.").unwrap();
            gauge.set(told);
            let mut families = gauge.collect();
            set_start(&mut families, 1000.5);
            assert_eq!(families[0].get_metric()[0].get_gauge().get_value(), shown);
        }
    }
}
