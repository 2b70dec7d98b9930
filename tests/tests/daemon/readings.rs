//! Readings of VPP for plans: their budget, and weight changes that overtake them.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use maglev_lab::PATIENCE;
use maglev_lab::metrics::Scrape;
use maglev_proto::v1::SyncLbStateRequest;

use crate::WebFixture;

const DRY_RUN: SyncLbStateRequest = SyncLbStateRequest { dry_run: true, fresh: false };

/// Waits until `maglevd` has sent VPP another message of this kind than `before`. No event reports it, so this polls.
fn until_sent(metrics: SocketAddr, message: &str, before: f64) {
    let deadline = Instant::now() + PATIENCE;
    while sent(metrics, message) <= before {
        assert!(Instant::now() < deadline, "no {message}");
        sleep(Duration::from_millis(20));
    }
}

fn sent(metrics: SocketAddr, message: &str) -> f64 {
    let labels = [&format!("msg=\"{message}\"")[..], "direction=\"send\""];
    Scrape::fetch(metrics).find("maglev_vpp_api_total", &labels).unwrap_or_default()
}

#[test]
fn weight_change_overtakes_a_reading() {
    let fixture = WebFixture::simulated(None);
    let (maglevd, metrics) = fixture.settled_with_failure();
    let sim = fixture.vpp.sim().unwrap();
    let before = ["lb_conf_get", "lb_as_set_weight"].map(|message| sent(metrics, message));
    sim.clear_calls();
    fixture.vpp.hang(true);
    let mut client = maglevd.client.clone();
    let plan = maglevd.spawn(async move { client.sync_lb_state(DRY_RUN).await });
    until_sent(metrics, "lb_conf_get", before[0]);
    let weight = ["set", "frontend", "web", "pool", "first", "backend", "a", "weight", "50"];
    assert!(maglevd.maglevc(&weight).status.success());
    until_sent(metrics, "lb_as_set_weight", before[1]);
    fixture.vpp.hang(false);
    let plan = maglevd.wait(plan).unwrap().unwrap().into_inner().plan.unwrap();
    assert_eq!(plan.vips, []);
    let calls: Vec<_> =
        sim.calls().iter().map(|call| call.name).filter(|name| name.starts_with("lb_")).collect();
    assert_eq!(calls, ["lb_conf_get", "lb_as_set_weight", "lb_vip_dump", "lb_as_v2_dump"]);
}

#[test]
fn many_plans_share_few_readings() {
    const COST: Duration = Duration::from_millis(100);
    let fixture = WebFixture::simulated(None);
    let maglevd = fixture.settled();
    let sim = fixture.vpp.sim().unwrap();
    sim.clear_calls();
    sim.set_faults(|faults| faults.delay = COST);
    let began = Instant::now();
    for words in [&["sync", "vpp", "lb", "state", "dry-run"][..], &["config", "check", "plan"]] {
        for _ in 0..20 {
            let plan = maglevd.maglevc(words);
            assert!(plan.status.success(), "{plan:?}");
        }
    }
    sim.set_faults(|faults| faults.delay = Duration::ZERO);
    // Viewers have half of the budget's second, one reading beyond it, and 1 % of the time.
    let most = Duration::from_millis(500).div_duration_f64(4 * COST) + 1.0;
    let earned = began.elapsed().div_duration_f64(4 * COST) / 100.0;
    let readings = sim.count("lb_conf_get");
    assert!(readings as f64 <= most + earned, "{readings} readings, {most} + {earned} allowed");
}
