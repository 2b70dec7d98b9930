use std::net::{Ipv4Addr, Ipv6Addr};

use socket2::{Domain, Protocol, Socket, Type};

use super::*;

fn half_open(address: SocketAddr) -> Check {
    check(address.ip(), ProbeKind::Tcp { port: address.port(), mode: ConnectMode::HalfOpen, tls: None })
}

/// Prints the line that marks a skipped test.
fn skip(name: &str) -> bool {
    if !is_root() {
        println!("SKIP {name}: needs root");
    }
    !is_root()
}

/// Returns true if a client has connected to a listener.
fn has_accepted(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    listener.accept().is_ok()
}

// Without root, these probes use kernel sockets; the other assertions hold for them too.

#[test]
fn open_port_passes_without_accept() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let (mut controller, _thread) = spawn();
        controller.greet();
        controller.commit(1, &[(1, half_open(listener.local_addr().unwrap()))]);
        for _ in 0..20 {
            assert_eq!(controller.outcome(1).code, OutcomeCode::L4Ok, "{address}");
        }
        assert!(!has_accepted(&listener), "{address}");
    }
}

#[test]
fn missing_raw_socket_falls_back_and_counts() {
    let (_listener, address) = silent();
    let (mut controller, endpoint) = link_pair();
    let _thread = start_with(|| sockets(None), endpoint, LIMITS, Duration::ZERO);
    controller.greet();
    controller.commit(1, &[(1, half_open(address))]);
    assert_eq!(controller.outcome(1).code, OutcomeCode::L4Ok);
    let stats = controller.stats(|stats| stats.half_open_fallbacks > 0);
    assert_eq!(stats.half_open_fallbacks, stats.probes);
}

#[test]
fn receive_overflow_is_local_fault() {
    if skip("receive_overflow_is_local_fault") {
        return;
    }
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sockets =
        || (IcmpProber::open(None).unwrap(), SynProber::open_with(1, ReservedPorts::reserve().ok()).unwrap());
    let checks = (0..250).map(|n| half_open((Ipv4Addr::new(127, 5, 6, n), port).into()));
    assert_overflow_is_local_fault(sockets, checks, OutcomeCode::L4Ok);
}

#[test]
fn full_probe_is_accepted() {
    let (listener, address) = silent();
    let full = ProbeKind::Tcp { port: address.port(), mode: ConnectMode::Full, tls: None };
    assert_eq!(probe(check(address.ip(), full)).0, OutcomeCode::L4Ok);
    assert!(has_accepted(&listener));
}

#[test]
fn closed_port_is_refused() {
    assert_eq!(probe(half_open(closed_port())), (OutcomeCode::L4Con, "connection refused".into()));
    let v6 = TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
    assert_eq!(probe(half_open(v6)), (OutcomeCode::L4Con, "connection refused".into()));
}

#[test]
fn source_address_is_used() {
    if skip("source_address_is_used") {
        return;
    }
    let (_listener, address) = silent();
    let capture = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).unwrap();
    setsockopt(&capture, sockopt::RcvBufForce, &LARGE_BUFFER).unwrap();
    capture.set_read_timeout(Some(Duration::from_millis(STUCK_MS.into()))).unwrap();
    let source = Ipv4Addr::new(127, 7, 7, 7);
    let check = Check { source: Some(source.into()), ..half_open(address) };
    assert_eq!(probe(check).0, OutcomeCode::L4Ok);
    loop {
        let mut packet = [0; 100];
        let length = std::io::Read::read(&mut (&capture), &mut packet).unwrap();
        // A SYN to the port.
        if packet[22..24] == address.port().to_be_bytes() && packet[33] == 2 {
            assert_eq!((&packet[12..16], length), (&source.octets()[..], 44));
            return;
        }
    }
}

#[test]
fn foreign_source_address_is_local_fault() {
    let target = |ip: IpAddr| half_open(SocketAddr::new(ip, 9));
    let sources: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(192, 0, 2, 77).into()),
        (Ipv6Addr::LOCALHOST.into(), "2001:db8::77".parse().unwrap()),
    ];
    for (ip, source) in sources {
        let code = probe(Check { source: Some(source), ..target(ip) }).0;
        assert_eq!(code, OutcomeCode::Local, "{source}");
    }
}

#[test]
fn parallel_probes_are_not_confused() {
    let (_listener, open) = silent();
    let (mut controller, _thread) = spawn();
    controller.greet();
    // Even checks reach the listener, which is bound to one address; odd ones reach a closed port.
    let target = |n: u8| if n.is_multiple_of(2) { open.ip() } else { Ipv4Addr::new(127, 5, 5, n).into() };
    let checks: Vec<_> =
        (0..250).map(|n| (u32::from(n), half_open(SocketAddr::new(target(n), open.port())))).collect();
    assert_eq!(controller.commit(1, &checks), []);
    let mut seen = vec![0; 250];
    while seen.iter().any(|seen| *seen < 3) {
        for Outcome { check, seq, code, .. } in controller.outcomes() {
            seen[check.0 as usize] += 1;
            let expected = if check.0.is_multiple_of(2) { OutcomeCode::L4Ok } else { OutcomeCode::L4Con };
            assert_eq!((code, seq), (expected, seen[check.0 as usize]));
        }
    }
}

#[test]
fn unread_segment_delays_timeouts() {
    if skip("unread_segment_delays_timeouts") {
        return;
    }
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let check = |to: Ipv4Addr| with_short_timeout(half_open((to, port).into()));
    assert_unread_replies_delay_timeouts(check, |engine| engine.receive_tcp(true));
}
