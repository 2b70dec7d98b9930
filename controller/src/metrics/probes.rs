//! What came of the probes, per backend.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use maglev_core::Name;
use maglev_core::view::View;
use maglev_ipc::Code;

use super::text::{self, Text, Type};

/// The upper bounds of the buckets in nanoseconds, and as they are written.
const BOUNDS: [u64; 11] = [
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
];
const BOUND_LABELS: [&str; BOUNDS.len()] =
    ["0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5"];

/// The outcomes of every backend's probes. Counting takes a shared lock, a look-up and some additions.
#[derive(Debug, Default)]
pub struct Probes(RwLock<HashMap<Name, Arc<Series>>>);

/// The outcomes of one backend's probes of one kind.
#[derive(Debug)]
struct Series {
    kind: &'static str,
    codes: [AtomicU64; Code::ALL.len()],
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Series {
    fn new(kind: &'static str) -> Arc<Self> {
        Arc::new(Self {
            kind,
            codes: Default::default(),
            buckets: Default::default(),
            nanos: AtomicU64::default(),
        })
    }

    fn count(&self, code: Code, duration: Duration) {
        self.codes[code as usize].fetch_add(1, Relaxed);
        // Nothing went over the wire that could have taken time.
        if matches!(code, Code::Static | Code::Local) {
            return;
        }
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS.partition_point(|bound| *bound < nanos)].fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
    }
}

impl Probes {
    /// Counts an outcome.
    pub fn outcome(&self, backend: &Name, kind: &'static str, code: Code, duration: Duration) {
        if let Some(series) = self.read().get(backend)
            && series.kind == kind
        {
            return series.count(code, duration);
        }
        // A backend that is new, or probed otherwise than before.
        let series = Series::new(kind);
        series.count(code, duration);
        self.write().insert(backend.clone(), series);
    }

    /// Forgets every backend but those that `keep` names.
    pub fn retain(&self, keep: impl Fn(&Name) -> bool) {
        self.write().retain(|name, _| keep(name));
    }

    /// Writes the families, in the view's order.
    pub fn render(&self, view: &View, text: &mut Text) {
        // Taken out of the lock first, so that no outcome waits for a scrape.
        let found: Vec<(&Name, Arc<Series>)> = {
            let all = self.read();
            view.backends.iter().filter_map(|b| Some((&b.name, all.get(&b.name)?.clone()))).collect()
        };
        let mut family = text.family("maglev_probe_total", Type::Counter, "Probes, by what came of them.");
        for (name, series) in &found {
            for code in Code::ALL {
                let count = series.codes[code as usize].load(Relaxed);
                if count > 0 {
                    let result = result(code);
                    let labels = [
                        ("backend", &***name),
                        ("type", series.kind),
                        ("result", result),
                        ("code", code.as_str()),
                    ];
                    family.sample(&labels, count);
                }
            }
        }
        let mut family = text.family(
            "maglev_probe_duration_seconds",
            Type::Histogram,
            "How long probes took, from their start to the verdict.",
        );
        for (name, series) in &found {
            let counts = series.buckets.each_ref().map(|count| count.load(Relaxed));
            if counts.iter().any(|count| *count > 0) {
                let labels = text::labels(&[("backend", name), ("type", series.kind)]);
                let sum = Duration::from_nanos(series.nanos.load(Relaxed)).as_secs_f64();
                family.histogram(&labels, &BOUND_LABELS, &counts, sum);
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<Name, Arc<Series>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<Name, Arc<Series>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn result(code: Code) -> &'static str {
    match code.passed() {
        Some(true) => "success",
        Some(false) => "failure",
        None => "error",
    }
}
