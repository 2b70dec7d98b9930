use std::sync::Arc;

use maglev_ipc::{CertificateExpiry, HttpCheck, TlsHandshake, TlsVerify};
use rcgen::{CertificateParams, CertifiedIssuer, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig, ServerConnection};

use super::*;

/// A server with a certificate of its own authority.
pub struct TlsServer {
    pub address: SocketAddr,
    /// Certificate of the authority.
    pub pem: String,
}

pub fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Starts a server for the name `good.test`; `change` modifies the certificate before it is signed.
fn server(change: impl FnOnce(&mut CertificateParams)) -> TlsServer {
    let authority = authority("one");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["good.test".into(), "127.0.0.1".into()]).unwrap();
    change(&mut params);
    let issuer: &Issuer<'_, KeyPair> = &authority;
    let certificate = params.signed_by(&key, issuer).unwrap();
    let address = tls_server(vec![certificate.der().clone()], &key);
    TlsServer { address, pem: authority.pem() }
}

/// Returns the configuration of a server with these certificates, its own first.
fn config(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// Returns the configuration of a server with a self-signed certificate.
fn self_signed() -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["good.test".into()]).unwrap();
    config(vec![params.self_signed(&key).unwrap().der().clone()], &key)
}

pub fn tls_server(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> SocketAddr {
    let config = config(chain, key);
    serve(move |mut stream| {
        let mut tls = ServerConnection::new(config.clone()).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut stream);
        let mut request = [0; 4096];
        if let Ok(1..) = std::io::Read::read(&mut stream, &mut request) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    })
}

fn check_of(address: SocketAddr, name: &str, verify: TlsVerify, body: Option<&str>) -> Check {
    let tls = Some(TlsHandshake { server_name: name.into(), verify });
    let port = address.port();
    let probe = match body {
        None => ProbeKind::Tcp { port, mode: ConnectMode::Full, tls },
        Some(body) => {
            let body = Some(body.into());
            let http = HttpCheck {
                path: "/".into(),
                host: name.into(),
                codes: vec![(200, 200)],
                body,
                keep_alive: None,
            };
            ProbeKind::Http { port, http, tls }
        }
    };
    check(address.ip(), probe)
}

/// Returns code and detail of a probe of the server.
fn handshake(server: &TlsServer, name: &str, verify: TlsVerify, body: Option<&str>) -> (OutcomeCode, String) {
    let outcome = first_outcome(server, name, verify, body);
    (outcome.code, outcome.detail.to_string())
}

pub fn first_outcome(server: &TlsServer, name: &str, verify: TlsVerify, body: Option<&str>) -> Outcome {
    let (mut controller, _thread) = spawn();
    controller.greet();
    controller.send(&ToProber::Begin { generation: 1 });
    controller.send(&ToProber::Bundle { id: 3, pem: server.pem.clone().into_bytes() });
    let check = check_of(server.address, name, verify, body);
    controller.send_checks(INTERVAL, &[(1, check)]);
    controller.send(&ToProber::Commit { generation: 1 });
    assert_eq!(controller.until_committed(1), []);
    controller.outcome(1)
}

pub const BUNDLE: TlsVerify = TlsVerify::Bundle(3);

#[test]
fn valid_certificate_passes() {
    let server = server(|_| {});
    for name in ["good.test", "127.0.0.1"] {
        assert_eq!(handshake(&server, name, BUNDLE, None), (OutcomeCode::L6Ok, String::new()), "{name}");
    }
}

#[test]
fn https_body_is_matched() {
    let server = server(|_| {});
    assert_eq!(handshake(&server, "good.test", BUNDLE, Some("^hello$")).0, OutcomeCode::L7Ok);
    let (code, detail) = handshake(&server, "good.test", BUNDLE, Some("goodbye"));
    assert_eq!((code, detail.as_str()), (OutcomeCode::L7Rsp, "body does not match: \"hello\""));
}

/// If Nagle's algorithm delayed the request until the handshake is acknowledged, a probe would take 40 ms longer.
#[test]
fn request_follows_handshake_without_delay() {
    let config = self_signed();
    let (sender, requests) = std::sync::mpsc::channel();
    let address = serve(move |mut stream| {
        let mut tls = ServerConnection::new(config.clone()).unwrap();
        while tls.is_handshaking() {
            while tls.wants_write() {
                tls.write_tls(&mut stream).unwrap();
            }
            tls.read_tls(&mut stream).unwrap();
            tls.process_new_packets().unwrap();
        }
        // Already received with the handshake.
        let mut request = [0; 4096];
        let length = std::io::Read::read(&mut tls.reader(), &mut request).unwrap_or_default();
        sender.send(request[..length].ends_with(b"\r\n\r\n")).unwrap();
    });
    let (mut controller, _thread) = spawn();
    controller.greet();
    controller.commit(1, &[(1, check_of(address, "good.test", TlsVerify::Nothing, Some("")))]);
    assert_eq!(requests.recv(), Ok(true));
}

#[test]
fn new_connections_resume_sessions() {
    let config = self_signed();
    let (sender, connections) = std::sync::mpsc::channel();
    let address = serve(move |mut stream| {
        let mut tls = ServerConnection::new(config.clone()).unwrap();
        let mut requests = 0;
        while let Ok(1..) =
            std::io::Read::read(&mut rustls::Stream::new(&mut tls, &mut stream), &mut [0; 4096])
        {
            requests += 1;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
            if rustls::Stream::new(&mut tls, &mut stream).write_all(answer).is_err() {
                break;
            }
        }
        let _ = sender.send((tls.handshake_kind(), requests));
    });
    // A check that never passes has no latency estimate, so its probes never overlap.
    let mut check = check_of(address, "good.test", TlsVerify::Nothing, Some("^hello!$"));
    if let ProbeKind::Http { http, .. } = &mut check.probe {
        http.keep_alive = std::num::NonZeroU32::new(3);
    }
    let (mut controller, _thread) = spawn();
    controller.greet();
    assert_eq!(controller.commit(1, &[(1, check)]), []);
    let seen: Vec<_> = connections.iter().take(4).collect();
    let resumed = (Some(HandshakeKind::Resumed), 3);
    assert_eq!(seen, [(Some(HandshakeKind::Full), 3), resumed, resumed, resumed]);
    while let Ok(ToController::Outcomes(outcomes)) = controller.receive() {
        let detail = |outcome: &Outcome| outcome.detail.to_string();
        assert!(
            outcomes.iter().all(|outcome| detail(outcome).starts_with("body does not match")),
            "{outcomes:?}"
        );
        assert!(outcomes.iter().all(|o| o.not_after.is_some() == (o.seq == 1)), "{outcomes:?}");
        if outcomes.iter().any(|outcome| outcome.seq > 9) {
            break;
        }
    }
    controller.stats(|stats| stats.tls_resumptions >= 3);
}

#[test]
fn wrong_certificate_name_fails() {
    let (code, detail) = handshake(&server(|_| {}), "bad.test", BUNDLE, None);
    assert_eq!((code, detail.as_str()), (OutcomeCode::L6Rsp, "certificate is not for the name bad.test"));
}

#[test]
fn expired_certificate_fails() {
    let server = server(|params| params.not_after = date_time_ymd(2020, 1, 1));
    let (code, detail) = handshake(&server, "good.test", BUNDLE, None);
    assert_eq!((code, detail.as_str()), (OutcomeCode::L6Rsp, "certificate has expired"));
}

#[test]
fn not_after_is_reported_for_any_verdict() {
    let cases = [
        (date_time_ymd(2020, 1, 1), 1_577_836_800, [OutcomeCode::L6Rsp, OutcomeCode::L7Rsp]),
        (date_time_ymd(2049, 12, 31), 2_524_521_600, [OutcomeCode::L6Ok, OutcomeCode::L7Rsp]),
        // From 2050 on, X.509 uses another encoding.
        (date_time_ymd(9999, 1, 1), 253_370_764_800, [OutcomeCode::L6Ok, OutcomeCode::L7Rsp]),
    ];
    for (end, seconds, codes) in cases {
        let server = server(|params| params.not_after = end);
        let verified = first_outcome(&server, "good.test", BUNDLE, None);
        let mismatched = first_outcome(&server, "good.test", TlsVerify::Nothing, Some("goodbye"));
        assert_eq!([verified.code, mismatched.code], codes);
        let expiry = Some(CertificateExpiry { leaf: seconds, chain: seconds });
        assert_eq!([verified.not_after, mismatched.not_after], [expiry; 2]);
    }
}

#[test]
fn unknown_issuer_fails_unless_unverified() {
    let TlsServer { address, .. } = server(|_| {});
    let elsewhere = TlsServer { address, pem: authority("another").pem() };
    let (code, detail) = handshake(&elsewhere, "good.test", BUNDLE, None);
    assert_eq!((code, detail.as_str()), (OutcomeCode::L6Rsp, "certificate is from an unknown issuer"));
    assert_eq!(handshake(&elsewhere, "bad.test", TlsVerify::Nothing, None).0, OutcomeCode::L6Ok);
}

#[test]
fn self_signed_certificate_fails() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["good.test".into()]).unwrap();
    let address = tls_server(vec![params.self_signed(&key).unwrap().der().clone()], &key);
    let pem = authority("one").pem();
    let (code, detail) = handshake(&TlsServer { address, pem }, "good.test", BUNDLE, None);
    assert_eq!((code, detail.as_str()), (OutcomeCode::L6Rsp, "certificate is from an unknown issuer"));
}

#[test]
fn trusted_ca_certificate_passes_as_own() {
    let mut params = CertificateParams::new(vec!["good.test".into()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let address = tls_server(vec![own.der().clone()], own.key());
    let seen = |pem, name| handshake(&TlsServer { address, pem }, name, BUNDLE, None);
    assert_eq!(seen(own.pem(), "good.test").0, OutcomeCode::L6Ok);
    assert_eq!(seen(own.pem(), "bad.test").1, "certificate is not for the name bad.test");
    let words = "certificate is a CA's own (CA:TRUE), and not itself among the trusted certificates";
    assert_eq!(seen(authority("other").pem(), "good.test"), (OutcomeCode::L6Rsp, words.to_owned()));
}

#[test]
fn non_tls_server_fails() {
    let server = TlsServer { address: responding("220 smtp\r\n"), pem: String::new() };
    let (code, detail) = handshake(&server, "x", TlsVerify::Nothing, None);
    assert_eq!((code, detail.as_str()), (OutcomeCode::L6Rsp, "the answer is not TLS"));
}

#[test]
fn close_during_handshake_fails() {
    let server = TlsServer { address: responding(""), pem: String::new() };
    let (code, _) = handshake(&server, "x", TlsVerify::Nothing, None);
    assert_eq!(code, OutcomeCode::L6Rsp);
}

#[test]
fn hanging_handshake_times_out() {
    let (_listener, address) = silent();
    let check = check_of(address, "x", TlsVerify::Nothing, None);
    assert_eq!(probe(with_short_timeout(check)), (OutcomeCode::L6Tout, String::new()));
}

#[test]
fn bundle_without_certificate_is_rejected() {
    let (mut controller, _thread) = spawn();
    controller.greet();
    controller.send(&ToProber::Begin { generation: 1 });
    controller.send(&ToProber::Bundle { id: 3, pem: b"nothing".to_vec() });
    for (id, verify) in [(1, BUNDLE), (2, TlsVerify::Bundle(4)), (3, TlsVerify::System)] {
        let check = check_of(closed_port(), "x", verify, None);
        controller.send_checks(INTERVAL, &[(id, check)]);
    }
    controller.send(&ToProber::Commit { generation: 1 });
    let refused: Vec<_> = controller
        .until_committed(1)
        .into_iter()
        .map(|message| match message {
            ToController::Rejected { id, reason } => (id.0, reason.to_string()),
            message => panic!("{message:?}"),
        })
        .collect();
    let expected = [
        (1, "ca-file: holds no PEM certificate".to_owned()),
        (2, "bundle 4 was not sent".to_owned()),
        (3, "this host has no root certificates".to_owned()),
    ];
    assert_eq!(refused, expected);
}

/// Otherwise a server that sends single bytes could exhaust the handshake budget, and memory.
#[test]
fn handshake_is_deferred_only_once() {
    let (_listener, address) = silent();
    let mut engine = idle_engine();
    let due =
        start_probes(&mut engine, [check_of(address, "good.test", TlsVerify::Nothing, None)].into_iter());
    let id = engine.scheduler.find_in_flight(0, |_| true).unwrap();
    while engine.sockets.take_handshake_budget() {}
    for events in [EpollFlags::EPOLLOUT, EpollFlags::EPOLLIN, EpollFlags::EPOLLIN] {
        engine.advance(id, events, due);
    }
    engine.sockets.begin_iteration(due);
    let waiting = std::iter::from_fn(|| engine.sockets.pop_deferred()).count();
    assert_eq!(waiting, 1);
}

/// One hostile chain of certificates must not delay the other probes by more than its own step.
#[test]
fn handshakes_of_one_iteration_are_limited_in_time() {
    let mut engine = idle_engine();
    let now = clock::now();
    engine.sockets.begin_iteration(now);
    engine.sockets.limit_handshakes(now + 9_999_999);
    assert!(engine.sockets.take_handshake_budget());
    engine.sockets.limit_handshakes(now + 10_000_000);
    assert!(!engine.sockets.take_handshake_budget());
    engine.sockets.begin_iteration(now + 10_000_000);
    assert!(engine.sockets.take_handshake_budget());
}
