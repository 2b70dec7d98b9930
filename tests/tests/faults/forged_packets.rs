//! Replies and errors from senders that were not probed.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use maglev_ipc::{Check, ConnectMode, ProbeKind, ProberStats};
use maglev_lab::controller::{SHORT, TestController, check, tcp};
use maglev_lab::faulty_link::FaultyLink;
use maglev_lab::http_server::HttpServer;
use maglev_lab::packet::{Packet, SentFrame};
use maglev_lab::skip;
use maglev_lab::test_dir::TestDir;
use maglev_lab::topology::{AddressFamily, FAMILIES, Lab, V4};

use crate::{FaultFixture, ProberFixture, add_servers, uniform_backends};

const PORT: u16 = 80;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const RST_ACK: u8 = 0x14;
const HALF_OPEN: ProbeKind = ProbeKind::Tcp { port: PORT, mode: ConnectMode::HalfOpen, tls: None };

/// Delay that makes a reply arrive after the packets before it were read.
const DELAY: Duration = Duration::from_millis(50);

/// A forgery: its name, how it is made of the reply, and the counter it increments.
type Forgery = (&'static str, fn(&Packet) -> SentFrame, fn(&ProberStats) -> u64);

/// Offsets in an ICMP packet.
const IDENT: usize = 4;
const SEQ: usize = 6;
const KEY: usize = 8;
const COOKIE: usize = 24;

/// Echo replies that match no request.
const REPLIES: [Forgery; 6] = [
    ("another's cookie", |reply| reply.modify(|bytes| bytes[COOKIE] ^= 1), |stats| stats.spoofed),
    ("another check", |reply| reply.modify(|bytes| bytes[KEY + 7] ^= 1), |stats| stats.spoofed),
    ("another number", |reply| reply.modify(|bytes| bytes[SEQ + 1] ^= 1), |stats| stats.spoofed),
    ("no cookie", |reply| reply.modify(|bytes| bytes.truncate(COOKIE)), |stats| stats.spoofed),
    ("from elsewhere", |reply| reply.with_source(nobody(reply)), |stats| stats.spoofed),
    // The kernel's socket filter discards it as another program's reply.
    ("another's identifier", |reply| reply.modify(|bytes| bytes[IDENT] ^= 1), |_| u64::MAX),
];

/// Segments that match no SYN.
const SEGMENTS: [Forgery; 6] = [
    ("another acknowledged", |segment| segment.modify(|bytes| bytes[11] ^= 1), |stats| stats.unmatched),
    ("from another port", |segment| segment.modify(|bytes| bytes[1] ^= 1), |stats| stats.spoofed),
    ("from elsewhere", |segment| segment.with_source(nobody(segment)), |stats| stats.spoofed),
    (
        "a reset that acknowledges another",
        |segment| {
            segment.modify(|bytes| {
                (bytes[11], bytes[13]) = (bytes[11] ^ 1, RST_ACK);
            })
        },
        |stats| stats.unmatched,
    ),
    (
        "a reset from another port",
        |segment| {
            segment.modify(|bytes| {
                (bytes[1], bytes[13]) = (bytes[1] ^ 1, RST_ACK);
            })
        },
        |stats| stats.spoofed,
    ),
    ("a reset without acknowledgement", |segment| segment.modify(|bytes| bytes[13] = 0x04), |_| u64::MAX),
];

fn family(address: IpAddr) -> &'static AddressFamily {
    FAMILIES.iter().find(|family| family.server.is_ipv4() == address.is_ipv4()).unwrap()
}

fn nobody(packet: &Packet) -> IpAddr {
    family(packet.from).unused
}

fn is_answer(packet: &Packet) -> bool {
    !packet.is_request && (packet.is_echo_reply() || packet.is_segment(SYN_ACK))
}

#[test]
fn forged_reply_is_ignored() {
    if skip("forged_reply_is_ignored", &[]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let link = FaultyLink::install(&fixture.lab, 5);
    for family in FAMILIES {
        let _site = fixture.lab.server.inside(|| HttpServer::start(SocketAddr::new(family.server, PORT)));
        for (probe, good, forgeries) in [(ProbeKind::Icmp, "L7OK", REPLIES), (HALF_OPEN, "L4OK", SEGMENTS)] {
            for (what, forge, counted) in forgeries {
                let before = fixture.controller.stats(|_| true);
                // Before the genuine reply.
                link.set_rule(move |packet, _| {
                    if is_answer(packet) {
                        vec![forge(packet), packet.forward()]
                    } else {
                        vec![packet.forward()]
                    }
                });
                let with = check(family.server, probe.clone());
                assert_eq!(fixture.controller.outcomes(with, 5), vec![good; 5], "{what}");
                // In place of the genuine reply.
                link.set_rule(move |packet, _| {
                    vec![if is_answer(packet) { forge(packet) } else { packet.forward() }]
                });
                let without = Check { timeout: SHORT, ..check(family.server, probe.clone()) };
                assert_eq!(fixture.controller.outcomes(without, 1), ["L4TOUT"], "{what}");
                fixture
                    .controller
                    .stats(|now| counted(now) == u64::MAX || counted(now) >= counted(&before) + 6);
                link.clear_rule();
            }
        }
    }
}

/// Every ICMP error by type and code, with its meaning for an echo request and a half-open SYN.
const ERRORS: [&[([u8; 2], Option<&str>)]; 2] = [
    &[
        ([3, 0], Some("network unreachable")),
        ([3, 1], Some("host unreachable")),
        ([3, 2], Some("protocol unreachable")),
        ([3, 3], Some("port unreachable")),
        ([3, 4], None),
        ([3, 5], Some("source route failed")),
        ([3, 6], Some("network unreachable")),
        ([3, 7], Some("host unreachable")),
        ([3, 8], Some("host unreachable")),
        ([3, 9], Some("administratively prohibited")),
        ([3, 10], Some("administratively prohibited")),
        ([3, 11], Some("network unreachable")),
        ([3, 12], Some("host unreachable")),
        ([3, 13], Some("administratively prohibited")),
        ([3, 14], Some("destination unreachable")),
        ([3, 15], Some("destination unreachable")),
        ([3, 200], Some("destination unreachable")),
        ([4, 0], None),
        ([5, 1], None),
        ([11, 0], Some("time to live exceeded")),
        ([11, 1], Some("time to live exceeded")),
        ([12, 0], Some("parameter problem")),
    ],
    &[
        ([1, 0], Some("no route to destination")),
        ([1, 1], Some("administratively prohibited")),
        ([1, 2], Some("beyond scope of source address")),
        ([1, 3], Some("address unreachable")),
        ([1, 4], Some("port unreachable")),
        ([1, 5], Some("source address failed policy")),
        ([1, 6], Some("route rejected")),
        ([1, 7], Some("destination unreachable")),
        ([2, 0], None),
        ([3, 0], Some("hop limit exceeded")),
        ([3, 1], Some("hop limit exceeded")),
        ([4, 0], Some("parameter problem")),
        ([4, 1], Some("parameter problem")),
        ([4, 2], Some("parameter problem")),
    ],
];

fn is_probe(packet: &Packet, family: &AddressFamily) -> bool {
    packet.to == family.server && (packet.is_echo() || packet.is_segment(SYN))
}

#[test]
fn only_icmp_delivery_errors_fail_probes() {
    if skip("only_icmp_delivery_errors_fail_probes", &[]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let link = FaultyLink::install(&fixture.lab, 6);
    for (family, errors) in FAMILIES.into_iter().zip(ERRORS) {
        let _site = fixture.lab.server.inside(|| HttpServer::start(SocketAddr::new(family.server, PORT)));
        for (probe, good) in [(ProbeKind::Icmp, "L7OK"), (HALF_OPEN, "L4OK")] {
            for (error, meaning) in errors {
                let error = *error;
                let is_reported = meaning.is_some();
                // A router sends the error. The packet still arrives if the error is not a delivery failure.
                link.set_rule(move |packet, _| {
                    if !is_probe(packet, &family) {
                        return vec![packet.forward()];
                    }
                    let mut sent = vec![packet.icmp_error(family.unused, error, |_| ()), packet.delay(DELAY)];
                    sent.truncate(if is_reported { 1 } else { 2 });
                    sent
                });
                let verdict = fixture.controller.verdict(check(family.server, probe.clone()));
                let wanted = meaning.map_or(good.to_owned(), |words| format!("L4CON {words}"));
                assert_eq!(verdict, wanted, "{error:?}");
            }
        }
        link.clear_rule();
    }
}

#[test]
fn icmp_error_for_other_packet_is_ignored() {
    if skip("icmp_error_for_other_packet_is_ignored", &[]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let link = FaultyLink::install(&fixture.lab, 7);
    for family in FAMILIES {
        let (header, code) = if family.server.is_ipv4() { (20, [3, 1]) } else { (40, [1, 3]) };
        let _site = fixture.lab.server.inside(|| HttpServer::start(SocketAddr::new(family.server, PORT)));
        // Changed byte of the quoted packet: the last one of the target address, or one of the payload.
        let target = header - 1;
        for (probe, good, places) in [
            (
                ProbeKind::Icmp,
                "L7OK",
                vec![target, header + IDENT, header + SEQ, header + KEY, header + COOKIE],
            ),
            // Ports and sequence number.
            (HALF_OPEN, "L4OK", vec![target, header + 1, header + 3, header + 4, header + 7]),
            (tcp(PORT), "L4OK", vec![target, header + 1, header + 3, header + 4]),
        ] {
            for at in places {
                link.set_rule(move |packet, _| {
                    if is_probe(packet, &family) {
                        let lie = packet.icmp_error(family.unused, code, |quoted| quoted[at] ^= 1);
                        return vec![lie, packet.delay(DELAY)];
                    }
                    vec![packet.forward()]
                });
                let verdicts = fixture.controller.outcomes(check(family.server, probe.clone()), 3);
                assert_eq!(verdicts, vec![good; 3], "{probe:?} {at}");
            }
        }
        link.clear_rule();
    }
}

#[test]
fn concurrent_pingers_do_not_interfere() {
    if skip("concurrent_pingers_do_not_interfere", &["ping"]) {
        return;
    }
    const PING: &str = "    ping: { type: icmp, interval: 50ms, timeout: 10s, rise: 2, fall: 3 }\n";
    let lab = Lab::new();
    let link = FaultyLink::install(&lab, 8);
    let backends = uniform_backends(&add_servers(&lab, 3), "ping");
    // ICMP identifier of the prober's requests.
    let ident = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&ident);
    link.set_rule(move |packet, _| {
        if packet.is_echo() && packet.payload().len() == 32 {
            let bytes = packet.payload();
            *seen.lock().unwrap() = Some(u16::from_be_bytes([bytes[IDENT], bytes[IDENT + 1]]));
        }
        vec![packet.forward()]
    });
    let mut fixture = FaultFixture::new(lab, 100, PING, backends);
    fixture.settle();
    link.clear_rule();
    let ident = ident.lock().unwrap().expect("the prober has sent requests");
    // A second prober, and ping with the prober's identifier, on the same host to the same servers.
    let other = TestDir::new();
    let _second = other.unprivileged_prober(&fixture.lab.prober, &[]);
    let mut second = TestController::connect(&other.path("prober.sock"));
    for server in [fixture.backends[0].1, fixture.backends[3].1] {
        let mut ping = fixture.lab.prober.command("ping");
        ping.args(["-q", "-c", "30", "-i", "0.01", "-e", &ident.to_string(), &server.to_string()]);
        let ping = ping.output().unwrap();
        assert!(ping.status.success(), "{}", String::from_utf8_lossy(&ping.stdout));
        assert_eq!(second.outcomes(check(server, ProbeKind::Icmp), 10), ["L7OK"; 10]);
    }
    // ping counts the prober's replies as its own and stops early. The prober rejects ping's replies as spoofed.
    assert_eq!(second.stats(|_| true).spoofed, 0);
    fixture.until_metric("maglev_prober_packets_rejected_total", &["spoofed"], 4.0);
    fixture.until_probes(None, &["L7OK"], 60.0);
    fixture.flush_outcomes();
    fixture.assert_unchanged_except(&[]);
    assert_eq!(fixture.probes(None, &["L4TOUT", "L4CON"]), 0.0);
}

#[test]
fn fragmented_replies_are_accepted() {
    if skip("fragmented_replies_are_accepted", &[]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let link = FaultyLink::install(&fixture.lab, 9);
    let _site = fixture.lab.server.inside(|| HttpServer::start(SocketAddr::new(V4.server, PORT)));
    for (probe, good) in [(ProbeKind::Icmp, "L7OK"), (HALF_OPEN, "L4OK"), (tcp(PORT), "L4OK")] {
        let used = Arc::new(AtomicBool::new(false));
        let reported = Arc::clone(&used);
        link.set_rule(move |packet, _| {
            if !is_answer(packet) {
                return vec![packet.forward()];
            }
            reported.store(true, Ordering::Relaxed);
            packet.fragments(8)
        });
        assert_eq!(fixture.controller.outcomes(check(V4.server, probe.clone()), 5), vec![good; 5]);
        assert!(used.load(Ordering::Relaxed));
        link.set_rule(|packet, _| {
            vec![if is_answer(packet) { packet.with_options() } else { packet.forward() }]
        });
        let more = Check { fast_interval: Duration::from_millis(30), ..check(V4.server, probe) };
        assert_eq!(fixture.controller.outcomes(more, 5), vec![good; 5]);
    }
    // The last fragment of each reply is lost.
    link.set_rule(|packet, _| {
        let mut sent = if is_answer(packet) { packet.fragments(8) } else { vec![packet.forward()] };
        if sent.len() > 1 {
            sent.pop();
        }
        sent
    });
    let check = Check { timeout: SHORT, ..check(V4.server, ProbeKind::Icmp) };
    assert_eq!(fixture.controller.outcomes(check, 3), ["L4TOUT"; 3]);
}
