//! Ten thousand checks.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use maglev_ipc::ProbeKind;
use maglev_lab::controller::{TestController, check};
use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::process::Process;
use maglev_lab::skip;
use maglev_lab::test_dir::TestDir;
use maglev_proto::v1::{BackendState, ListBackendsRequest};

const CHECKS: u32 = 10_000;

/// Loopback addresses, all of which reply.
fn targets() -> impl Iterator<Item = IpAddr> {
    let first = Ipv4Addr::new(127, 99, 0, 1).to_bits();
    (first..first + CHECKS).map(|bits| Ipv4Addr::from_bits(bits).into())
}

#[test]
fn first_probes_are_spread_over_time() {
    if skip("first_probes_are_spread_over_time", &[]) {
        return;
    }
    let dir = TestDir::new();
    let _prober = dir.prober(None, &[]);
    let mut controller = TestController::connect(&dir.path("prober.sock"));
    let starts = controller
        .first_starts(Duration::from_secs(10), targets().map(|target| check(target, ProbeKind::Icmp)));
    // The first probes are spread over a second. An unpaced burst takes less than a fifth of that.
    let slot = 100_000_000;
    let fullest =
        starts.iter().map(|from| starts.iter().filter(|at| (*from..*from + slot).contains(at)).count()).max();
    assert!(fullest.unwrap() < starts.len() / 2, "{fullest:?} of {} in one slot", starts.len());
}

#[test]
fn ten_thousand_backends_fit_memory_bound() {
    if skip("ten_thousand_backends_fit_memory_bound", &[]) {
        return;
    }
    let dir = TestDir::new();
    let prober = dir.prober(None, &[]);
    let mut config =
        "maglev:\n  healthchecks:\n    ping: { type: icmp, interval: 2s, timeout: 20s }\n  backends:\n"
            .to_owned();
    for (number, target) in targets().enumerate() {
        writeln!(config, "    n{number}: {{ address: {target}, healthcheck: ping }}").unwrap();
    }
    let mut maglevd = MaglevdSetup::new(&dir, &config).start();
    for number in 0..CHECKS {
        maglevd.until_backend(&format!("n{number}"), BackendState::Up);
    }
    let mut client = maglevd.client.clone().max_decoding_message_size(1 << 30);
    let listed = maglevd.wait(client.list_backends(ListBackendsRequest {})).unwrap().into_inner().backends;
    assert_eq!(listed.len(), CHECKS as usize);
    assert!(memory(&prober) < 64 << 20, "{}", memory(&prober));
}

/// Returns the resident memory in bytes.
fn memory(process: &Process) -> u64 {
    let text = process.status("VmRSS");
    text.trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
