use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr};

use socket2::{Domain, Protocol, Socket, Type};

use super::*;

/// Prints the line that marks a skipped test.
fn skip(name: &str) -> bool {
    if !is_root() {
        println!("SKIP {name}: needs root");
    }
    !is_root()
}

#[test]
fn replying_host_passes() {
    if skip("replying_host_passes") {
        return;
    }
    for target in [IpAddr::from(Ipv4Addr::new(127, 3, 2, 1)), Ipv6Addr::LOCALHOST.into()] {
        assert_eq!(probe(check(target, ProbeKind::Icmp)), (OutcomeCode::L7Ok, String::new()), "{target}");
    }
}

#[test]
fn source_address_is_used() {
    if skip("source_address_is_used") {
        return;
    }
    let source = Some(Ipv4Addr::new(127, 9, 9, 9).into());
    assert_eq!(probe(Check { source, ..check(Ipv4Addr::LOCALHOST, ProbeKind::Icmp) }).0, OutcomeCode::L7Ok);
    let source = Some(Ipv6Addr::LOCALHOST.into());
    assert_eq!(probe(Check { source, ..check(Ipv6Addr::LOCALHOST, ProbeKind::Icmp) }).0, OutcomeCode::L7Ok);
}

#[test]
fn foreign_source_address_is_local_fault() {
    if skip("foreign_source_address_is_local_fault") {
        return;
    }
    let sources: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(192, 0, 2, 77).into()),
        (Ipv6Addr::LOCALHOST.into(), "2001:db8::77".parse().unwrap()),
    ];
    for (target, source) in sources {
        let code = probe(Check { source: Some(source), ..check(target, ProbeKind::Icmp) }).0;
        assert_eq!(code, OutcomeCode::Local, "{source}");
    }
}

#[test]
fn parallel_probes_are_not_confused() {
    if skip("parallel_probes_are_not_confused") {
        return;
    }
    let (mut controller, _thread) = spawn();
    controller.greet();
    let checks: Vec<_> =
        (0..250).map(|n| (u32::from(n), check(Ipv4Addr::new(127, 5, 5, n), ProbeKind::Icmp))).collect();
    assert_eq!(controller.commit(1, &checks), []);
    let mut seen = vec![0; 250];
    while seen.iter().any(|seen| *seen < 3) {
        for Outcome { check, seq, code, .. } in controller.outcomes() {
            seen[check.0 as usize] += 1;
            assert_eq!((code, seq), (OutcomeCode::L7Ok, seen[check.0 as usize]));
        }
    }
}

/// Adds duplicate, spoofed and malformed packets to the replies of the kernel.
#[test]
fn unmatched_packets_are_only_counted() {
    if skip("unmatched_packets_are_only_counted") {
        return;
    }
    let target = Ipv4Addr::new(127, 66, 66, 66);
    let raw = |address: Ipv4Addr| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
        socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(STUCK_MS.into()))).unwrap();
        socket
    };
    let (host, other) = (raw(target), raw(Ipv4Addr::new(127, 66, 66, 67)));
    let (mut controller, _thread) = spawn();
    controller.greet();
    assert_eq!(controller.commit(1, &[(1, check(target, ProbeKind::Icmp))]), []);
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
    loop {
        let mut packet = [0; 100];
        let length = (&host).read(&mut packet).unwrap();
        let mut reply = packet[20..length].to_vec();
        if reply[0] == 8 {
            reply[0] = 0;
            // RFC 1624: the type was the only change.
            let sum = u32::from(u16::from_be_bytes([reply[2], reply[3]])) + 0x0800;
            reply[2..4].copy_from_slice(&((sum + (sum >> 16)) as u16).to_be_bytes());
            host.send_to(&reply, &to).unwrap();
            other.send_to(&reply, &to).unwrap();
            host.send_to(&reply[..8], &to).unwrap();
            // An error that quotes a request of IP version 1.
            let error =
                [[3, 1, 0, 0, 0, 0, 0, 0].as_slice(), &[0x15], &[0; 8], &[1], &[0; 10], &packet[20..28]]
                    .concat();
            host.send_to(&error, &to).unwrap();
        }
        match controller.link.receive() {
            Ok(ToController::Heartbeat(ProberStats { duplicates, spoofed, malformed, .. }))
                if duplicates.min(spoofed).min(malformed) > 0 =>
            {
                return;
            }
            Ok(ToController::Outcomes(outcomes)) => {
                assert!(outcomes.iter().all(|o| o.code == OutcomeCode::L7Ok));
            }
            Ok(_) | Err(Error::WouldBlock) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Replies arrive while a batch of requests is sent, with room for a few.
#[test]
fn receive_overflow_is_local_fault() {
    if skip("receive_overflow_is_local_fault") {
        return;
    }
    let sockets = || (IcmpProber::open_with(1, None).unwrap(), SynProber::open(None).unwrap());
    let checks = (0..250).map(|n| check(Ipv4Addr::new(127, 5, 5, n), ProbeKind::Icmp));
    assert_overflow_is_local_fault(sockets, checks, OutcomeCode::L7Ok);
}

#[test]
fn unread_reply_delays_timeouts() {
    if skip("unread_reply_delays_timeouts") {
        return;
    }
    assert_unread_replies_delay_timeouts(
        |to| with_short_timeout(check(to, ProbeKind::Icmp)),
        |engine| engine.receive_icmp(true),
    );
}

/// Sixteen bits can be guessed: such an error ends no probe.
#[test]
fn short_icmp_error_only_explains_a_timeout() {
    if skip("short_icmp_error_only_explains_a_timeout") {
        return;
    }
    let target = Ipv4Addr::new(127, 5, 5, 5);
    for (change, expected) in [(0, "host unreachable"), (1, "")] {
        let mut engine = idle_engine();
        let due = start_probes(&mut engine, [with_short_timeout(check(target, ProbeKind::Icmp))].into_iter());
        let id = engine.scheduler.find_in_flight(0, |_| true).unwrap();
        let Some((_, InFlightProbe::Icmp(request))) = engine.scheduler.in_flight_mut(id) else { panic!() };
        let message = IcmpMessage {
            reply_match: ReplyMatch::BySequence(id.slot, request.seq() ^ change),
            target: target.into(),
            error: Some("host unreachable"),
        };
        let result = finish_by_icmp(&mut engine.scheduler, &mut engine.sockets.syn.prober, &message, due);
        assert_eq!(result.is_ok(), change == 0);
        assert!(engine.scheduler.in_flight_mut(id).is_some());
        engine.process_timers(due + 30_000_000);
        let report = engine.scheduler.take_reports().next().unwrap();
        assert_eq!(report.outcome.detail.to_string(), expected);
        assert_eq!(report.outcome.code, if change == 0 { OutcomeCode::L4Con } else { OutcomeCode::L4Tout });
    }
}
