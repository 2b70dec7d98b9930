//! Floods of calls, scrapes and connections, and clients that never send or read.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

use maglev_lab::PATIENCE;
use maglev_lab::maglevd::Maglevd;
use maglev_lab::metrics::Scrape;
use maglev_proto::v1::BackendState;

use crate::fixtures::{
    ProcessFixture, Recovery, assert_nothing_went_down, memory, open_descriptors, until_at_most_open,
};

/// HTTP/2 connection preface, followed by an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// Allowed memory growth during a flood.
const MAX_GROWTH: u64 = 64 << 20;

/// Returns a settled `maglevd`, its open open_descriptors and memory, and its API address.
fn start_settled(fixture: &ProcessFixture) -> (Maglevd, usize, u64, SocketAddr) {
    let calls = SocketAddr::new(fixture.servers.address(198), fixture.servers.port());
    let mut maglevd = fixture.setup(&fixture.config()).flag("--grpc-addr", calls).start();
    fixture.settle(&mut maglevd);
    _ = fixture.scrape();
    let (open, memory) = (open_descriptors(maglevd.process.pid()).len(), memory(&maglevd.process));
    (maglevd, open, memory, calls)
}

/// Asserts that nothing went down, nothing leaked, and failures are still detected.
fn assert_recovered(
    fixture: &ProcessFixture,
    maglevd: &mut Maglevd,
    (open, before): (usize, u64),
    recovery: &mut Recovery,
) {
    assert_nothing_went_down(&maglevd.process);
    recovery.time(|| {
        assert!(maglevd.maglevc(&["show", "version"]).status.success());
        fixture.servers.http[0].answer(503);
        maglevd.until_backend("a", BackendState::Down);
        fixture.until_weights(0, 10, 0);
    });
    until_at_most_open(&maglevd.process, open);
    let now = memory(&maglevd.process);
    println!("memory: {} kB before, {} kB afterwards", before / 1024, now / 1024);
    assert!(now < before + MAX_GROWTH, "{before} bytes have become {now}");
}

#[test]
fn connection_flood_leaks_nothing() {
    let fixture = ProcessFixture::new();
    let (mut maglevd, open, before, calls) = start_settled(&fixture);
    let socket = maglevd.socket().to_owned();
    let by_tcp = thread::spawn(move || {
        for number in 0..3000 {
            let mut stream = TcpStream::connect(calls).unwrap();
            if number % 2 == 0 {
                // The server may close the connection first.
                _ = stream.write_all(PREFACE);
            }
        }
    });
    let by_unix = thread::spawn(move || {
        for number in 0..3000 {
            let mut stream = UnixStream::connect(&socket).unwrap();
            if number % 2 == 0 {
                _ = stream.write_all(PREFACE);
            }
        }
    });
    by_tcp.join().unwrap();
    by_unix.join().unwrap();
    let mut recovery = Recovery::new();
    assert_recovered(&fixture, &mut maglevd, (open, before), &mut recovery);
    recovery.print("6000 connects");
}

/// Returns an HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn rapid_reset_flood_is_disconnected() {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    // POST and http by their static table indexes, and the path of a call.
    let path = b"/maglev.v1.Maglev/ListBackends";
    let headers = [&[0x83, 0x86, 0x44, path.len() as u8][..], path].concat();
    let fixture = ProcessFixture::new();
    let (mut maglevd, open, before, calls) = start_settled(&fixture);
    for _ in 0..10 {
        let mut stream = TcpStream::connect(calls).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(PREFACE).unwrap();
        let cut_off = (1..200_000).step_by(2).find(|&number| {
            let call = frame(HEADERS, 4, number, &headers);
            stream.write_all(&[call, frame(RST_STREAM, 0, number, &[0, 0, 0, 8])].concat()).is_err()
        });
        // The server's last frames may be lost with the connection.
        _ = stream.read_to_end(&mut Vec::new());
        assert!(cut_off.is_some(), "100,000 calls were accepted");
    }
    let mut recovery = Recovery::new();
    assert_recovered(&fixture, &mut maglevd, (open, before), &mut recovery);
    recovery.print("rapid reset flood");
}

#[test]
fn scrape_flood_is_served_despite_slow_readers() {
    let fixture = ProcessFixture::new();
    let (mut maglevd, open, before, _) = start_settled(&fixture);
    let metrics = fixture.metrics();
    // Half of them never send a request, and none reads.
    let slow: Vec<_> = (0..12)
        .map(|number| {
            let mut stream = TcpStream::connect(metrics).unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            }
            stream
        })
        .collect();
    let storm: Vec<_> = (0..16)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..25 {
                    assert_eq!(Scrape::fetch(metrics).value("maglev_prober_connected", &[]), 1.0);
                }
            })
        })
        .collect();
    // Failures are still detected meanwhile.
    fixture.servers.http[1].answer(503);
    maglevd.until_backend("b", BackendState::Down);
    fixture.until_weights(20, 0, 0);
    fixture.servers.http[1].answer(200);
    maglevd.until_up(&["b"]);
    storm.into_iter().for_each(|thread| thread.join().unwrap());
    drop(slow);
    fixture.servers.http[0].answer(503);
    maglevd.until_backend("a", BackendState::Down);
    fixture.until_weights(0, 10, 0);
    until_at_most_open(&maglevd.process, open);
    let now = memory(&maglevd.process);
    println!("memory: {} kB before, {} kB afterwards", before / 1024, now / 1024);
    assert!(now < before + MAX_GROWTH, "{before} bytes have become {now}");
}
