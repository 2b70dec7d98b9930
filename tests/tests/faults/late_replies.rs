//! Duplicated, reordered, late and corrupted packets.

use std::net::SocketAddr;
use std::time::Duration;

use maglev_ipc::{Check, ConnectMode, ProbeKind};
use maglev_lab::controller::{SHORT, check, http};
use maglev_lab::faulty_link::FaultyLink;
use maglev_lab::http_server::HttpServer;
use maglev_lab::packet::Packet;
use maglev_lab::skip;
use maglev_lab::topology::{FAMILIES, Lab};
use maglev_proto::v1::BackendState;

use crate::{FaultFixture, ProberFixture, add_servers, recovery, uniform_backends};

const PATIENT: &str =
    "    ping: { type: icmp, interval: 50ms, fast-interval: 20ms, timeout: 10s, rise: 2, fall: 3 }\n";
const HASTY: &str =
    "    ping: { type: icmp, interval: 50ms, fast-interval: 20ms, timeout: 500ms, rise: 2, fall: 3 }\n";

#[test]
fn duplicates_and_reordering_change_nothing() {
    if skip("duplicates_and_reordering_change_nothing", &[]) {
        return;
    }
    let lab = Lab::new();
    let link = FaultyLink::install(&lab, 2);
    let backends = uniform_backends(&add_servers(&lab, 10), "ping");
    let mut fixture = FaultFixture::new(lab, 0, PATIENT, backends);
    fixture.settle();
    link.set_rule(|packet, random| {
        let mut sent = [(); 2].map(|()| packet.delay(Duration::from_millis(random.u64(0..60)))).to_vec();
        sent.truncate(random.usize(1..=2));
        sent
    });
    fixture.until_metric("maglev_prober_packets_rejected_total", &["duplicate"], 100.0);
    // Duplicates that arrive during the next probe match no request.
    fixture.until_probes(None, &["L7OK"], 200.0);
    fixture.flush_outcomes();
    fixture.assert_unchanged_except(&[]);
    assert_eq!(fixture.probes(None, &["L4TOUT", "L4CON"]), 0.0);
    assert_eq!(fixture.metric("maglev_prober_packets_rejected_total", &["malformed"]), 0.0);
}

#[test]
fn replies_after_timeout_are_ignored() {
    if skip("replies_after_timeout_are_ignored", &[]) {
        return;
    }
    let lab = Lab::new();
    let link = FaultyLink::install(&lab, 3);
    let backends = uniform_backends(&add_servers(&lab, 4), "ping");
    let victims = backends.iter().take(2).map(|(_, address, _)| *address).collect::<Vec<_>>();
    let mut fixture = FaultFixture::new(lab, 100, HASTY, backends);
    fixture.settle();
    // Every reply arrives, but after its timeout.
    link.set_rule(move |packet, random| {
        let is_late = packet.is_echo_reply() && victims.contains(&packet.from);
        let after = if is_late { random.u64(600..900) } else { 0 };
        vec![packet.delay(Duration::from_millis(after))]
    });
    for name in ["b0", "b1"] {
        fixture.maglevd.until_backend(name, BackendState::Down);
    }
    fixture.until_weights(|name| 20 * u8::from(!["b0", "b1"].contains(&name)));
    let late = fixture.metric("maglev_prober_packets_rejected_total", &["stray"]);
    fixture.until_metric("maglev_prober_packets_rejected_total", &["stray"], late + 20.0);
    for name in ["b0", "b1"] {
        let backend = fixture.maglevd.backend(name);
        assert_eq!((backend.state(), backend.counter), (BackendState::Down, 0), "{backend:#?}");
        fixture.until_outcome(name, "L4TOUT");
    }
    link.clear_rule();
    recovery("replies after the timeout", || fixture.until_weights(|_| 20));
    fixture.assert_unchanged_except(&["b0", "b1"]);
}

#[test]
fn corrupted_reply_is_ignored() {
    if skip("corrupted_reply_is_ignored", &[]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let link = FaultyLink::install(&fixture.lab, 4);
    for family in FAMILIES {
        let _site = fixture.lab.server.inside(|| HttpServer::start(SocketAddr::new(family.server, 80)));
        for probe in [ProbeKind::Icmp, http(80, "/")] {
            let verdict = if probe == ProbeKind::Icmp { "L4TOUT" } else { "L7TOUT no answer" };
            // One byte of each reply is corrupted, in turn, beginning with the header.
            let is_answer = |packet: &Packet| {
                !packet.is_request && (packet.is_echo_reply() || packet.payload().len() > 60)
            };
            let mut at = 0..;
            link.set_rule(move |packet, random| {
                vec![if is_answer(packet) {
                    packet.corrupt(at.next().unwrap(), random)
                } else {
                    packet.forward()
                }]
            });
            let check = Check { timeout: SHORT, ..check(family.server, probe) };
            assert_eq!(fixture.controller.outcomes(check, 10), vec![verdict; 10]);
            link.clear_rule();
            while fixture.controller.more(1).last().is_none_or(|verdict| !verdict.starts_with("L7OK")) {}
        }
    }
    let half_open = ProbeKind::Tcp { port: 80, mode: ConnectMode::HalfOpen, tls: None };
    // A reply to a SYN is matched by acknowledgement number and sender only.
    let _site = fixture.lab.server.inside(|| HttpServer::start(SocketAddr::new(FAMILIES[0].server, 80)));
    link.set_rule(|packet, random| {
        let at = random.usize(8..12);
        let spoil = |bytes: &mut Vec<u8>| bytes[at] ^= 1;
        vec![if !packet.is_request && packet.is_segment(0x12) {
            packet.modify(spoil)
        } else {
            packet.forward()
        }]
    });
    let check = Check { timeout: SHORT, ..check(FAMILIES[0].server, half_open) };
    assert_eq!(fixture.controller.outcomes(check, 4), ["L4TOUT"; 4]);
}
