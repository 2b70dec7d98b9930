//! Two hundred clients that may only view, and ask for all that costs most. `VIEWER_MINUTES` sets the duration.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use maglev_lab::PATIENCE;
use maglev_lab::hostile_client::HostileClient;
use maglev_lab::maglevd::Maglevd;
use maglev_proto::v1::BackendState;

use crate::fixtures::{ProcessFixture, Recovery, memory, repetitions};

/// Number of viewers of each kind.
const EACH: usize = 50;
/// Backends without healthcheck, which make lists long.
const LISTED: u32 = 2_000;
/// Calls that a hostile connection opens.
const CALLS: usize = 60;
/// `true` in field 1: a plan, or a dry run.
const FIRST_FIELD: &[u8] = &[0x08, 0x01];
/// Times that an operator acts, unless `VIEWER_MINUTES` says otherwise.
const ROUNDS: usize = 3;
/// `MemoryMax=` of the unit.
const MEMORY_MAX: u64 = 1 << 30;

fn config(fixture: &ProcessFixture) -> String {
    let mut backends = String::new();
    for number in 0..LISTED {
        let [.., high, low] = number.to_be_bytes();
        writeln!(backends, "    n{number}: {{ address: 10.1.{high}.{low} }}").unwrap();
    }
    // Verifying VPP each second would be the greater part of its readings.
    let text = fixture.config().replace("sync-interval: 1s", "sync-interval: 1h");
    text.replace("  backends:\n    a:", &format!("  backends:\n{backends}    a:"))
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

#[test]
fn hostile_viewers_delay_neither_operators_nor_weights() {
    let fixture = ProcessFixture::new();
    let grpc = SocketAddr::new(fixture.servers.address(198), fixture.servers.port());
    let mut maglevd = fixture.setup(&config(&fixture)).flag("--grpc-addr", grpc).start();
    fixture.settle(&mut maglevd);
    let (before, mut most) = (memory(&maglevd.process), 0);
    let readings = fixture.sim().count("lb_conf_get");
    let ended = Arc::new(AtomicBool::new(false));
    let threads = viewers(grpc, fixture.metrics(), &ended);
    let length = Duration::from_secs(60) * repetitions("VIEWER_MINUTES", 0);
    let [mut commands, mut scrapes, mut down] = [Recovery::new(), Recovery::new(), Recovery::new()];
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
        down.time(|| {
            fixture.servers.http[0].answer(503);
            maglevd.until_backend("a", BackendState::Down);
            fixture.until_weights(0, 10, 0);
        });
        fixture.servers.http[0].answer(200);
        maglevd.until_up(&["a"]);
        fixture.until_weights(20, 10, 0);
        most = most.max(memory(&maglevd.process));
    }
    commands.print("(200 hostile viewers) an operator's command");
    scrapes.print("(200 hostile viewers) a scrape");
    down.print("(200 hostile viewers) detection of a failure, and its weight");
    let readings = fixture.sim().count("lb_conf_get") - readings;
    println!(
        "{readings} readings of VPP in {:.0?}; memory in kB: {} before, {} at most",
        began.elapsed(),
        before / 1024,
        most / 1024
    );
    ended.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(most < MEMORY_MAX, "{most}");
    // A reading is shared for a second.
    let allowed = began.elapsed().as_secs() + 2 + rounds as u64;
    assert!(readings <= allowed, "{readings} readings, {allowed} allowed");
    assert!(fixture.sim().wait_for(PATIENCE, |vpp| vpp.clients() == 1));
}
