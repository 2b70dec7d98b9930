//! Cost of a scrape.

use nix::time::{ClockId, clock_gettime};

use super::*;

const BACKENDS: usize = 10_000;
const TIMES: u32 = 20;

/// Returns the CPU time of this thread.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// Run it optimized: `cargo test --release -p maglevd -- --ignored --nocapture cost`.
#[test]
#[ignore = "prints what a scrape costs at 10,000 backends"]
fn ten_thousand_backends() {
    let metrics = Metrics::new().unwrap();
    metrics.enable_call_metrics(&crate::grpc::descriptors(true)).unwrap();
    let mut view = fixture::view();
    let model = view.backends[0].clone();
    view.backends = (0..BACKENDS)
        .map(|number| {
            let name: Name = format!("backend-{number}").into();
            let mut backend = maglev_core::view::BackendView { name, ..model.clone() };
            for took in [3, 20, 700] {
                backend.probes.record(OutcomeCode::L7Ok, Duration::from_micros(took * number as u64 / 10));
            }
            backend.probes.record(OutcomeCode::L4Tout, Duration::from_secs(1));
            backend
        })
        .collect();
    let mut web = view.frontends[0].clone();
    let member = web.pools[0].backends[0].clone();
    web.pools[0].backends = view
        .backends
        .iter()
        .map(|backend| maglev_core::view::MemberView { name: backend.name.clone(), ..member.clone() })
        .collect();
    view.frontends = vec![web];
    for format in [ExpositionFormat::Text, ExpositionFormat::OpenMetrics] {
        let text = metrics.render(&view, None, format);
        let began = cpu_time();
        for _ in 0..TIMES {
            assert_eq!(metrics.render(&view, None, format).len(), text.len());
        }
        let rendering = (cpu_time() - began) / TIMES;
        let began = cpu_time();
        let packed = http::compress(&text).unwrap();
        let packing = cpu_time() - began;
        println!(
            "{format:?}: {} lines of {} bytes in {rendering:?}, packed into {} in {packing:?}",
            text.lines().count(),
            text.len(),
            packed.len()
        );
    }
}
