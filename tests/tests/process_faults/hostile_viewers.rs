//! Two hundred clients that may only view and ask for all that costs most, and fifty hostile servers, beside two thousand honest ones.
//! `HOSTILE_MINUTES` sets the duration.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use maglev_bench::address;
use maglev_bench::server::{BackendServer, HTTP};
use maglev_lab::host::Host;
use maglev_lab::hostile_client::HostileClient;
use maglev_lab::hostile_server::{HostileServer, ServerBehaviour, drip, pour, read_until_closed};
use maglev_lab::maglevd::Maglevd;
use maglev_lab::{PATIENCE, skip};
use maglev_proto::v1::BackendState;

use crate::fixtures::{ProcessFixture, Recovery, memory, raised, repetitions, until};

/// Number of viewers of each kind.
const EACH: usize = 50;
/// Backends with honest servers, which also make lists long.
const HONEST: u32 = 2_000;
/// First port of the hostile servers.
const HOSTILE_PORT: u16 = 2_000;
/// Number of hostile servers of each behaviour.
const SERVERS_EACH: usize = 10;
/// Behaviours towards the check of a body. Only a prober that works for one server at a time would be late for others.
const BEHAVIOURS: [ServerBehaviour; 5] = [
    read_until_closed,
    |stream| drip(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
    |stream| pour(stream, b"HTTP/1.1 200 OK\r\n\r\n", b"status: nearly "),
    |stream| pour(stream, b"HTTP/1.1 200 OK\r\n", b"X-Line: of a head\r\n"),
    |stream| pour(stream, b"\x16\x03\x03", b"\0"),
];
/// Calls that a hostile connection opens.
const CALLS: usize = 60;
/// `true` in field 1: a plan, or a dry run.
const FIRST_FIELD: &[u8] = &[0x08, 0x01];
/// Times that an operator acts, unless `HOSTILE_MINUTES` says otherwise.
const ROUNDS: usize = 3;
/// `MemoryMax=` of the unit.
const MEMORY_MAX: u64 = 1 << 30;

fn config(fixture: &ProcessFixture) -> String {
    let (mut backends, mut hostile) = (String::new(), String::new());
    for number in 0..HONEST {
        writeln!(backends, "    n{number}: {{ address: {}, healthcheck: honest }}", address::of(number))
            .unwrap();
    }
    for number in 0..BEHAVIOURS.len() * SERVERS_EACH {
        let server = hostile_address(number);
        let (ip, port) = (server.ip(), server.port());
        writeln!(backends, "    h{number}: {{ address: {ip}, healthcheck: hostile{port} }}").unwrap();
    }
    for port in (0..BEHAVIOURS.len()).map(|behaviour| hostile_address(behaviour).port()) {
        let check = "interval: 1s, timeout: 900ms, params: { response-regexp: \"status.*ok\" }";
        writeln!(hostile, "    hostile{port}: {{ type: http, port: {port}, {check} }}").unwrap();
    }
    writeln!(hostile, "    honest: {{ type: http, port: {HTTP}, interval: 2s, timeout: 20s }}").unwrap();
    let names = (0..HONEST).map(|n| format!("n{n}: {{}}"));
    let names: Vec<_> =
        names.chain((0..BEHAVIOURS.len() * SERVERS_EACH).map(|n| format!("h{n}: {{}}"))).collect();
    let mut frontends = String::new();
    for (number, names) in names.chunks(50).enumerate() {
        let pools = format!("[ {{ name: all, backends: {{ {} }} }} ]", names.join(", "));
        writeln!(frontends, "    f{number}: {{ address: 172.16.0.{number}, pools: {pools} }}").unwrap();
    }
    // Verifying VPP each second would be the greater part of its readings.
    let text = fixture.config().replace("sync-interval: 1s", "sync-interval: 1h");
    let text = text.replace("  healthchecks:\n", &format!("  healthchecks:\n{hostile}"));
    let text = text.replace("  backends:\n    a:", &format!("  backends:\n{backends}    a:"));
    text.replace("  frontends:\n", &format!("  frontends:\n{frontends}"))
}

/// Returns the address of a hostile server. Its port follows from its behaviour.
fn hostile_address(number: usize) -> SocketAddr {
    let port = HOSTILE_PORT + (number % BEHAVIOURS.len()) as u16;
    SocketAddr::new(Ipv4Addr::new(127, 200, 0, number as u8 + 1).into(), port)
}

/// Opens calls, takes nothing, and comes back once it is disconnected.
fn take_nothing(address: SocketAddr, method: &str, message: &[u8], ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        let Ok(mut client) = HostileClient::connect(address) else { continue };
        if (0..CALLS).all(|_| client.call(method, message).is_ok()) {
            client.answer_until(|| ended.load(Ordering::Relaxed));
        }
    }
}

/// Sends half of a request for metrics, and comes back once it is disconnected.
fn scrape_slowly(address: SocketAddr, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ");
        let _ = stream.read(&mut [0]);
    }
}

fn viewers(grpc: SocketAddr, metrics: SocketAddr, ended: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let kinds = [("ListBackends", &[][..]), ("CheckConfig", FIRST_FIELD), ("SyncLbState", FIRST_FIELD)];
    let mut threads = Vec::new();
    for _ in 0..EACH {
        for (method, message) in kinds {
            let ended = Arc::clone(ended);
            threads.push(thread::spawn(move || take_nothing(grpc, method, message, &ended)));
        }
        let ended = Arc::clone(ended);
        threads.push(thread::spawn(move || scrape_slowly(metrics, &ended)));
    }
    threads
}

fn command(maglevd: &Maglevd, times: &mut Recovery, words: &[&str]) {
    let output = times.time(|| maglevd.maglevc(words));
    assert!(output.status.success(), "{words:?}: {output:?}");
}

/// Lets the server of `a` fail and recover, and records the time until its weight is gone from VPP.
fn fail_and_return(fixture: &ProcessFixture, maglevd: &mut Maglevd, down: &mut Recovery) {
    down.time(|| {
        fixture.servers.http[0].answer(503);
        maglevd.until_backend("a", BackendState::Down);
        fixture.until_weights(0, 10, 0);
    });
    fixture.servers.http[0].answer(200);
    maglevd.until_up(&["a"]);
    fixture.until_weights(20, 10, 0);
}

#[test]
fn hostile_viewers_delay_neither_operators_nor_weights() {
    const NAME: &str = "hostile_viewers_delay_neither_operators_nor_weights";
    if skip(NAME, &["ip"]) {
        return;
    }
    let host = Host::new("hostile");
    let (_honest, _hostile) = host.inside(|| {
        let server = |n| HostileServer::start(hostile_address(n), BEHAVIOURS[n % BEHAVIOURS.len()]);
        let hostile: Vec<_> = (0..BEHAVIOURS.len() * SERVERS_EACH).map(server).collect();
        (BackendServer::start(HONEST).unwrap(), hostile)
    });
    let fixture = ProcessFixture::on(Some(&host));
    let grpc = SocketAddr::new(fixture.servers.address(198), fixture.servers.port());
    let mut maglevd = fixture.setup(&config(&fixture)).flag("--grpc-addr", grpc).start();
    fixture.settle(&mut maglevd);
    let all = HONEST as usize + 2;
    until("all honest servers to have weight", || fixture.sim().inspect(raised), |&now| now == all);
    let [mut calm, mut down] = [Recovery::new(), Recovery::new()];
    (0..ROUNDS).for_each(|_| fail_and_return(&fixture, &mut maglevd, &mut calm));
    calm.print("(calm) detection of a failure, and its weight");
    let (before, mut most) = (memory(&maglevd.process), 0);
    let readings = fixture.sim().count("lb_conf_get");
    let ended = Arc::new(AtomicBool::new(false));
    let threads = viewers(grpc, fixture.metrics(), &ended);
    let length = Duration::from_secs(60) * repetitions("HOSTILE_MINUTES", 0);
    let [mut commands, mut scrapes] = [Recovery::new(), Recovery::new()];
    let (began, mut rounds) = (Instant::now(), 0);
    while rounds < ROUNDS || began.elapsed() < length {
        rounds += 1;
        command(&maglevd, &mut commands, &["set", "backend", "c", "pause", "reason", "load"]);
        command(&maglevd, &mut commands, &["set", "backend", "c", "resume"]);
        let weight = ["frontend", "web", "pool", "first", "backend", "a", "weight"];
        command(&maglevd, &mut commands, &[&["set"], &weight[..], &["50"]].concat());
        fixture.until_weights(10, 10, 0);
        command(&maglevd, &mut commands, &[&["unset"], &weight[..]].concat());
        fixture.until_weights(20, 10, 0);
        command(&maglevd, &mut commands, &["show", "backends"]);
        command(&maglevd, &mut commands, &["config", "check", "plan"]);
        scrapes.time(|| assert_eq!(fixture.scrape().value("maglev_prober_connected", &[]), 1.0));
        fail_and_return(&fixture, &mut maglevd, &mut down);
        most = most.max(memory(&maglevd.process));
    }
    commands.print("(200 hostile viewers, 50 hostile servers) an operator's command");
    scrapes.print("(200 hostile viewers, 50 hostile servers) a scrape");
    down.print("(200 hostile viewers, 50 hostile servers) detection of a failure, and its weight");
    let readings = fixture.sim().count("lb_conf_get") - readings;
    println!(
        "{readings} readings of VPP in {:.0?}; memory in kB: {} before, {} at most",
        began.elapsed(),
        before / 1024,
        most / 1024
    );
    ended.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(fixture.sim().inspect(raised), all);
    assert!(most < MEMORY_MAX, "{most}");
    // A reading is shared for a second.
    let allowed = began.elapsed().as_secs() + 2 + rounds as u64;
    assert!(readings <= allowed, "{readings} readings, {allowed} allowed");
    assert!(fixture.sim().wait_for(PATIENCE, |vpp| vpp.clients() == 1));
}
