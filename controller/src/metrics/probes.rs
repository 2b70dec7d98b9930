//! Probe results per backend.

use maglev_core::health::ProbeCounters;
use maglev_core::view::{BackendView, View};
use maglev_ipc::OutcomeCode;

use super::text::{self, FamilyType, TextEncoder};

/// Upper bucket bounds, as text.
const BOUNDS: [&str; ProbeCounters::BOUNDS_NS.len()] =
    ["0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5"];

/// Writes the families, in the view's order.
pub fn render(view: &View, text: &mut TextEncoder) {
    let mut family = text.family("maglev_probe_total", FamilyType::Counter, "Probes, by what came of them.");
    for BackendView { name, kind, probes, .. } in &view.backends {
        for code in OutcomeCode::ALL {
            let count = probes.count(code);
            if count > 0 {
                let (result, code) = (result(code), code.as_str());
                family
                    .sample(&[("backend", name), ("type", kind), ("result", result), ("code", code)], count);
            }
        }
    }
    let mut family = text.family(
        "maglev_probe_duration_seconds",
        FamilyType::Histogram,
        "How long probes took, from their start to the verdict.",
    );
    for BackendView { name, kind, probes, .. } in &view.backends {
        if probes.buckets().iter().any(|count| *count > 0) {
            let labels = text::labels(&[("backend", name), ("type", kind)]);
            family.histogram(&labels, &BOUNDS, probes.buckets(), probes.duration().as_secs_f64());
        }
    }
}

const fn result(code: OutcomeCode) -> &'static str {
    match code.passed() {
        Some(true) => "success",
        Some(false) => "failure",
        None => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_labels_match_bounds() {
        for (nanos, written) in ProbeCounters::BOUNDS_NS.into_iter().zip(BOUNDS) {
            assert_eq!((nanos as f64 / 1e9).to_string(), written);
        }
    }
}
