//! Ten thousand flapping backends and three steady ones. `STORM_MINUTES` sets the duration.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use maglev_bench::address;
use maglev_bench::server::{BackendHealth, BackendServer, HTTP};
use maglev_lab::host::Host;
use maglev_lab::maglevd::Maglevd;
use maglev_lab::{PATIENCE, skip};
use maglev_proto::v1::BackendState;
use maglev_vppsim::VppInspection;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::fixtures::{BACKENDS, ProcessFixture, Recovery, memory, raised, repetitions, until};

const FLAPPING: u32 = 10_000;
const FRONTENDS: u32 = 1_000;
/// Time in which each backend changes once.
const ROUND: Duration = Duration::from_secs(10);
/// Steps per round.
const STEPS: u32 = 50;
/// Default duration.
const USUAL: Duration = Duration::from_secs(20);
const CALL: &str = "lb_as_set_weight";

/// Returns a configuration of the steady backends and the flapping ones, which change with a single outcome.
fn config(fixture: &ProcessFixture) -> String {
    let (mut backends, mut frontends) = (String::new(), String::new());
    for number in 0..FLAPPING {
        let address = address::of(number);
        writeln!(backends, "    n{number}: {{ address: {address}, healthcheck: storm }}").unwrap();
    }
    let each = FLAPPING / FRONTENDS;
    for frontend in 0..FRONTENDS {
        let servers: Vec<_> =
            (frontend * each..(frontend + 1) * each).map(|n| format!("n{n}: {{}}")).collect();
        let ([.., high, low], servers) = (frontend.to_be_bytes(), servers.join(", "));
        writeln!(
            frontends,
            "    f{frontend}: {{ address: 172.16.{high}.{low}, pools: [ {{ name: all, backends: {{ {servers} }} }} ] }}"
        )
        .unwrap();
    }
    let storm =
        format!("storm: {{ type: http, port: {HTTP}, interval: 10s, timeout: 20s, rise: 1, fall: 1 }}");
    let text = fixture.config();
    let text = text.replace("  healthchecks:\n", &format!("  healthchecks:\n    {storm}\n"));
    let text = text.replace("  backends:\n    a:", &format!("  backends:\n{backends}    a:"));
    // Verifying a thousand VIPs each second is not the subject of this test.
    let text = text.replace("sync-interval: 1s", "sync-interval: 30s");
    text.replace("  frontends:\n", &format!("  frontends:\n{frontends}"))
}

/// Flaps the backends in turn until `ended` is set, and then heals all of them.
fn flap(server: &BackendServer, ended: &AtomicBool) {
    let (mut failing, began) = (false, Instant::now());
    for step in 0.. {
        if step % STEPS == 0 {
            failing = !failing;
        }
        let state = if failing { BackendHealth::Failing } else { BackendHealth::Healthy };
        (0..FLAPPING)
            .filter(|number| number % STEPS == step % STEPS)
            .for_each(|n| server.state.set_health(n, state));
        let next = began + ROUND / STEPS * (step + 1);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        if ended.load(Ordering::Relaxed) {
            break;
        }
    }
    (0..FLAPPING).for_each(|number| server.state.set_health(number, BackendHealth::Healthy));
}

/// Returns the number of backend transitions so far.
fn flaps(fixture: &ProcessFixture) -> f64 {
    let scrape = fixture.scrape();
    let is_it = |name: &str| name.starts_with("maglev_backend_transitions_total");
    scrape.samples.iter().filter(|(name, _)| is_it(name)).map(|(_, value)| value).sum()
}

/// Lets the steady `a` fail and recover, and records both detection repetitions.
fn fail_and_return(fixture: &ProcessFixture, maglevd: &Maglevd, down: &mut Recovery, up: &mut Recovery) {
    let is = |state| until("a", || maglevd.backend("a").state(), |seen| *seen == state);
    down.time(|| {
        fixture.servers.http[0].answer(503);
        is(BackendState::Down)
    });
    up.time(|| {
        fixture.servers.http[0].answer(200);
        is(BackendState::Up)
    });
}

#[test]
fn flap_storm_keeps_memory_and_detection() {
    if skip("flap_storm_keeps_memory_and_detection", &["ip"]) {
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).unwrap();
    let host = Host::new("storm");
    host.set("core/somaxconn", "65535");
    host.set("ipv4/tcp_max_syn_backlog", "65535");
    let server = Arc::new(host.inside(|| BackendServer::start(FLAPPING)).unwrap());
    let fixture = ProcessFixture::on(Some(&host));
    // Each malloc arena keeps its peak, and a start_settled host creates more arenas.
    let mut maglevd = fixture.setup(&config(&fixture)).env("MALLOC_ARENA_MAX", "1").start();
    maglevd.until_up(&BACKENDS);
    let all_servers = FLAPPING as usize + 2;
    let is_full = |vpp: &VppInspection<'_>| raised(vpp) == all_servers;
    until("all to have weight", || fixture.sim().inspect(raised), |&now| now == all_servers);

    let [mut down, mut up] = [Recovery::new(), Recovery::new()];
    (0..5).for_each(|_| fail_and_return(&fixture, &maglevd, &mut down, &mut up));
    down.print("(calm) detection of a failure");
    up.print("(calm) detection of a recovery");

    let minutes = repetitions("STORM_MINUTES", 0);
    let length = if minutes == 0 { USUAL } else { Duration::from_secs(60) * minutes };
    let (before, calls) = (flaps(&fixture), fixture.sim().count(CALL));
    let ended = Arc::new(AtomicBool::new(false));
    let storm = {
        let (server, ended) = (Arc::clone(&server), Arc::clone(&ended));
        thread::spawn(move || flap(&server, &ended))
    };
    let [mut down, mut up] = [Recovery::new(), Recovery::new()];
    let (began, mut sizes) = (Instant::now(), Vec::new());
    while began.elapsed() < length {
        fail_and_return(&fixture, &maglevd, &mut down, &mut up);
        sizes.push([memory(&maglevd.process), memory(&fixture.prober)]);
    }
    ended.store(true, Ordering::Relaxed);
    storm.join().unwrap();
    let mut recovery = Recovery::new();
    recovery.time(|| {
        until("all to be up", || fixture.sim().inspect(raised), |&now| now == all_servers);
    });
    assert!(fixture.sim().inspect(is_full));
    let (flaps, calls) = (flaps(&fixture) - before, fixture.sim().count(CALL) - calls);
    down.print("(storm) detection of a failure");
    up.print("(storm) detection of a recovery");
    recovery.print("flap storm (from its end until VPP has every weight)");
    let lost = fixture.scrape().find("maglev_events_lost_total", &["kind=\"event\""]);
    println!(
        "{flaps} flaps in {:.0?}, {calls} calls to VPP, {} events dropped for a subscriber that never reads",
        began.elapsed(),
        lost.unwrap_or_default()
    );
    println!("memory of maglevd and prober, in kB: {}", format_sizes(&sizes));
    assert!(calls as f64 <= flaps, "{calls} calls for {flaps} flaps");
    assert_flat(&sizes);
    // Of the steady backends, only `a` has been down.
    for name in ["b", "c"] {
        assert_eq!(maglevd.backend(name).transitions.len(), 1, "{:#?}", maglevd.backend(name));
    }
    assert!(fixture.sim().wait_for(PATIENCE, |vpp| vpp.clients() == 1));
}

/// Formats a sample of the sizes, in order.
fn format_sizes(sizes: &[[u64; 2]]) -> String {
    let some = sizes.iter().step_by((sizes.len() / 10).max(1));
    some.map(|[maglevd, prober]| format!("{}/{}", maglevd / 1024, prober / 1024))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Asserts that memory after a third of the storm equals memory at the end, up to allocator slack.
fn assert_flat(sizes: &[[u64; 2]]) {
    const SLACK: u64 = 16 << 20;
    let early = &sizes[..=sizes.len() / 3];
    for process in 0..2 {
        let most = early.iter().map(|size| size[process]).max().unwrap();
        let last = sizes[sizes.len() - 1][process];
        assert!(last < most + SLACK, "{most} bytes have become {last}: {}", format_sizes(sizes));
    }
}
