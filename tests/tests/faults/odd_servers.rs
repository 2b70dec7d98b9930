//! Misbehaving servers, with fresh and with reused connections.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use maglev_lab::certificates::Authority;
use maglev_lab::hostile_server::{
    HostileServer, OK_RESPONSE, ServerBehaviour, drip, pour, read_request, read_until_closed,
};
use maglev_lab::http_server::HttpServer;
use maglev_lab::skip;
use maglev_lab::topology::{Lab, V4, V6};
use maglev_proto::v1::BackendState;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use crate::{Backend, FaultFixture, recovery};

/// Every failure code. A busy host may report a timeout as `LOCAL`, which is not a failure.
const FAILURES: [&str; 7] = ["L4TOUT", "L4CON", "L6TOUT", "L6RSP", "L7TOUT", "L7RSP", "L7STS"];
/// First port of the misbehaving servers.
const ODD: u16 = 1000;
/// Allowed memory growth of the prober, in KiB.
const GROWTH: u64 = 8 * 1024;

/// A server: name, behaviour, expected outcome, and the request of its check.
type OddServer = (&'static str, ServerBehaviour, &'static str, CheckKind);

#[derive(Clone, Copy, PartialEq)]
enum CheckKind {
    /// HTTP status.
    Status,
    /// A pattern that no body contains.
    Body,
    /// TCP connection.
    Connection,
    /// TLS handshake.
    Tls,
}
use CheckKind::{Body, Connection, Status, Tls};

/// Slow answers time out. Everything else is decided as soon as it is certain.
const SERVERS: [OddServer; 31] = [
    ("silent", read_until_closed, "L7TOUT no answer", Status),
    ("drips-head", |s| drip(s, b"HTTP/1.1 200 OK\r\nX: "), "L7TOUT no whole head", Status),
    (
        "drips-body",
        |s| drip(s, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
        "L7TOUT no whole body",
        Body,
    ),
    (
        "half-a-body",
        |s| say(s, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nwell"),
        "L7RSP connection closed within the body",
        Body,
    ),
    (
        "endless-body",
        |s| pour(s, b"HTTP/1.1 200 OK\r\n\r\n", b"all is well here"),
        "L7RSP body does not match",
        Body,
    ),
    (
        "gzip-bomb",
        |s| {
            pour(
                s,
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03",
                &[0; 512],
            )
        },
        "L7RSP body does not match",
        Body,
    ),
    (
        "endless-body-unread",
        |s| pour(s, b"HTTP/1.1 200 OK\r\n\r\n", b"all is well here"),
        "L7OK HTTP 200",
        Status,
    ),
    (
        "endless-headers",
        |s| pour(s, b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        "L7RSP the head is larger than 64 KiB",
        Status,
    ),
    (
        "giant-header",
        |s| pour(s, b"HTTP/1.1 200 OK\r\nX: ", b"yyyyyyyy"),
        "L7RSP the head is larger than 64 KiB",
        Status,
    ),
    (
        "endless-100",
        |s| pour(s, b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "L7RSP the head is larger than 64 KiB",
        Status,
    ),
    (
        "chunk-nonsense",
        |s| say(s, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nwell\r\n"),
        "L7RSP",
        Body,
    ),
    (
        "chunk-beyond",
        |s| say(s, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n"),
        "L7RSP",
        Body,
    ),
    (
        "chunk-of-exabytes",
        |s| {
            pour(s, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", &[b'x'; 512])
        },
        "L7RSP body does not match",
        Body,
    ),
    (
        "endless-chunk-line",
        |s| pour(s, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;", b"extension"),
        "L7RSP",
        Body,
    ),
    ("http-0.9", |s| say(s, b"<html>all is well</html>\r\n"), "L7RSP not an HTTP answer", Status),
    ("nul-bytes", |s| say(s, b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n"), "L7RSP not an HTTP answer", Status),
    ("status-99999", |s| say(s, b"HTTP/1.1 99999 Well\r\n\r\n"), "L7RSP not an HTTP answer", Status),
    (
        "two-lengths",
        |s| say(s, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nwell"),
        "L7RSP two different content-lengths",
        Status,
    ),
    (
        "redirect-loop",
        |s| say(s, b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
        "L7STS HTTP 302",
        Status,
    ),
    (
        "redirect-elsewhere",
        |s| say(s, b"HTTP/1.1 301 Moved\r\nLocation: http://10.77.0.2/\r\nContent-Length: 0\r\n\r\n"),
        "L7STS HTTP 301",
        Status,
    ),
    ("reset-at-once", reset, "L7RSP", Status),
    ("end-before-answer", |s| say(s, b""), "L7RSP connection closed before an answer", Status),
    ("end-at-once", |_| Ok(()), "L7RSP", Status),
    (
        "reset-after-answer",
        |s| {
            say(s, OK_RESPONSE)?;
            reset(s)
        },
        "L7OK HTTP 200",
        Status,
    ),
    ("reset-connection", reset, "L4OK", Connection),
    ("tls-garbage", |s| s.write_all(&[0x5a; 4096]), "L6RSP the answer is not TLS", Tls),
    ("tls-silent", read_until_closed, "L6TOUT", Tls),
    ("tls-drips", |s| drip(s, &[0x16, 3, 3, 0x40, 0]), "L6TOUT", Tls),
    (
        "tls-closed",
        |s| {
            s.shutdown(Shutdown::Write)?;
            read_until_closed(s)
        },
        "L6RSP connection closed during the handshake",
        Tls,
    ),
    ("tls-endless", |s| pour(s, b"", &[0x16, 3, 3, 0, 4, 2, 0, 0xff, 0xff]), "L6RSP", Tls),
    ("tls-huge-chain", tls_with_a_huge_chain, "L6RSP", Tls),
];

/// Servers that answer the first request of a connection correctly. The second request is retried if the connection may have
/// been stale.
const REUSED: [OddServer; 7] = [
    (
        "kept-ended",
        |s| {
            read_request(s)?;
            s.write_all(OK_RESPONSE)?;
            read_request(s).map(|_| ())
        },
        "L7OK HTTP 200",
        Status,
    ),
    (
        "kept-reset",
        |s| {
            read_request(s)?;
            s.write_all(OK_RESPONSE)?;
            read_request(s)?;
            reset(s)
        },
        "L7OK HTTP 200",
        Status,
    ),
    (
        "kept-408",
        |s| {
            read_request(s)?;
            s.write_all(OK_RESPONSE)?;
            read_request(s)?;
            s.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        },
        "L7OK HTTP 200",
        Status,
    ),
    (
        "kept-flooded",
        |s| {
            read_request(s)?;
            pour(s, OK_RESPONSE, b"more")
        },
        "L7OK HTTP 200",
        Status,
    ),
    (
        "kept-garbled",
        |s| {
            read_request(s)?;
            s.write_all(OK_RESPONSE)?;
            read_request(s)?;
            s.write_all(b"all is well")
        },
        "L7RSP not an HTTP answer",
        Status,
    ),
    (
        "kept-silent",
        |s| {
            read_request(s)?;
            s.write_all(OK_RESPONSE)?;
            read_request(s)?;
            read_until_closed(s)
        },
        "L7TOUT no answer",
        Status,
    ),
    (
        "kept-head",
        |s| {
            read_request(s)?;
            s.write_all(OK_RESPONSE)?;
            read_request(s)?;
            pour(s, b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")
        },
        "L7RSP the head is larger than 64 KiB",
        Status,
    ),
];

/// Reads a request, writes `bytes`, and closes.
fn say(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    read_request(stream)?;
    stream.write_all(bytes)
}

/// Closes with a reset.
fn reset(stream: &mut TcpStream) -> io::Result<()> {
    socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))
}

/// Presents a certificate chain of a thousand certificates.
fn tls_with_a_huge_chain(stream: &mut TcpStream) -> io::Result<()> {
    let authority = Authority::new();
    let identity = authority.valid("lab");
    let pem = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
    let mut chain = vec![pem(&identity.certificate)];
    chain.extend(vec![pem(&authority.certificate()); 1000]);
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let mut tls = ServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
    tls.complete_io(stream).map(|_| ())
}

/// Returns a healthcheck for a server on `port`. Only expected timeouts have a short timeout.
fn healthcheck(port: u16, (name, _, verdict, ask): &OddServer, is_kept: bool) -> String {
    let timeout = if verdict.contains("TOUT") { "500ms" } else { "30s" };
    let (kind, params) = match ask {
        Status => ("http", ""),
        Body => ("http", "response-regexp: never"),
        Connection => ("tcp", ""),
        Tls => ("https", "insecure-skip-verify: true"),
    };
    let kept = if is_kept { "keep-alive: true, keep-alive-requests: 1000" } else { "" };
    let params: Vec<_> = [params, kept].into_iter().filter(|param| !param.is_empty()).collect();
    let params = params.join(", ");
    format!(
        "    {name}: {{ type: {kind}, port: {port}, interval: 300ms, timeout: {timeout}, params: {{ {params} }} }}\n"
    )
    .replace(", params: {  }", "")
}

/// Starts these servers, one per port of one host, and two correct ones.
fn fixture(odd: &[OddServer], is_kept: bool) -> (FaultFixture, Vec<HostileServer>, HttpServer) {
    let lab = Lab::new();
    let site = lab.server.inside(|| HttpServer::start("[::]:80".parse().unwrap()));
    let mut checks = "    good: { type: http, port: 80, interval: 20ms, timeout: 30s }
    ping: { type: icmp, interval: 20ms, timeout: 30s }
"
    .to_owned();
    let mut hostile = Vec::new();
    let mut backends: Vec<Backend> =
        vec![("good".to_owned(), V6.server, "good"), ("ping".to_owned(), V4.server, "ping")];
    for (port, server) in (ODD..).zip(odd) {
        let at = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        hostile.push(lab.server.inside(|| HostileServer::start(at, server.1)));
        checks += &healthcheck(port, server, is_kept);
        // Each backend of a frontend needs its own address.
        let address = Ipv4Addr::from(0x0a58_0000 + u32::from(port)).into();
        backends.push((server.0.to_owned(), address, server.0));
    }
    crate::add_servers(&lab, 0);
    (FaultFixture::new(lab, 0, &checks, backends), hostile, site)
}

/// Returns `L7STS` of `L7STS HTTP 302`.
fn code(verdict: &str) -> &str {
    verdict.split(' ').next().unwrap_or_default()
}

/// Returns the prober's resident memory in KiB.
fn memory(fixture: &FaultFixture) -> u64 {
    fixture.prober.status("VmRSS").trim_end_matches(" kB").parse().unwrap()
}

/// Asserts that probes of the correct servers continue without failure.
fn assert_other_checks_pass(fixture: &FaultFixture) {
    for name in ["good", "ping"] {
        fixture.until_probes(Some(name), &["L7OK"], 20.0);
        assert_eq!(fixture.probes(Some(name), &FAILURES), 0.0, "{name}");
        assert_eq!(fixture.maglevd.backend(name).transitions.len(), 1);
    }
}

#[test]
fn misbehaving_servers_get_exact_verdicts() {
    if skip("misbehaving_servers_get_exact_verdicts", &[]) {
        return;
    }
    let (mut fixture, hostile, _site) = fixture(&SERVERS, false);
    fixture.maglevd.until_up(&["good", "ping"]);
    let mut before = 0;
    for round in 0..2 {
        fixture.until_each_probed(SERVERS.iter().map(|(name, _, verdict, _)| (*name, code(verdict))), 5.0);
        for (name, _, verdict, _) in &SERVERS {
            let code = code(verdict);
            let others: Vec<_> =
                FAILURES.into_iter().chain(["L7OK", "L4OK"]).filter(|c| *c != code).collect();
            let counts = others.iter().map(|other| (*other, fixture.probes(Some(name), &[other])));
            let wrong: Vec<_> = counts.filter(|(_, count)| *count > 0.0).collect();
            assert_eq!(wrong, [], "{name}");
            fixture.until_outcome(name, verdict);
            let state = if code.ends_with("OK") { BackendState::Up } else { BackendState::Down };
            assert_eq!(fixture.maglevd.backend(name).state(), state, "{name}");
        }
        assert_other_checks_pass(&fixture);
        let now = memory(&fixture);
        println!("{} misbehaving servers, round {round}: {now} KiB", SERVERS.len());
        assert!(round == 0 || now < before + GROWTH, "{before} KiB became {now}");
        before = now;
    }
    let healed = SERVERS.iter().zip(&hostile).filter(|((.., ask), _)| matches!(ask, Status | Connection));
    let healed: Vec<_> = healed.map(|((name, ..), server)| (*name, server)).collect();
    healed.iter().for_each(|(_, server)| server.behave());
    let names: Vec<_> = healed.iter().map(|(name, _)| *name).collect();
    recovery("misbehaving servers recover", || fixture.maglevd.until_up(&names));
}

#[test]
fn keep_alive_retries_only_stale_connections() {
    if skip("keep_alive_retries_only_stale_connections", &[]) {
        return;
    }
    let (mut fixture, hostile, _site) = fixture(&REUSED, true);
    fixture.maglevd.until_up(&["good", "ping"]);
    fixture.until_each_probed(REUSED.iter().map(|(name, _, verdict, _)| (*name, code(verdict))), 5.0);
    fixture.until_each_probed(REUSED.iter().map(|(name, ..)| (*name, "L7OK")), 5.0);
    for (name, _, verdict, _) in &REUSED {
        let code = code(verdict);
        let others: Vec<_> = FAILURES.into_iter().filter(|other| *other != code).collect();
        assert_eq!(fixture.probes(Some(name), &others), 0.0, "{name}: {}", fixture.last_outcome(name));
        if code == "L7OK" {
            fixture.until_outcome(name, verdict);
        }
    }
    assert_other_checks_pass(&fixture);
    let names: Vec<_> = REUSED.iter().map(|(name, ..)| *name).collect();
    hostile.iter().for_each(HostileServer::behave);
    fixture.maglevd.until_up(&names);
}
