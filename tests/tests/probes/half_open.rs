//! Half-open connections.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use maglev_ipc::{Check, ConnectMode, ProbeKind};
use maglev_lab::controller::{SHORT, check, tcp};
use maglev_lab::host::Host;
use maglev_lab::skip;
use maglev_lab::topology::{FAMILIES, V4, V6};

use crate::ProberFixture;

const OPEN: u16 = 80;
const CLOSED: u16 = 81;
/// Matches the answer of a server with an open port.
const SYN_ACK: &str = "tcp flags & (syn | ack) == syn | ack";
/// Starts the prober without capabilities.
const WITHOUT: [&str; 5] = ["setpriv", "--inh-caps", "-all", "--ambient-caps", "-all"];
/// State TIME_WAIT in `/proc/net/tcp`.
const TIME_WAIT: &str = "06";

fn half_open(port: u16) -> ProbeKind {
    ProbeKind::Tcp { port, mode: ConnectMode::HalfOpen, tls: None }
}

fn listen(host: &Host, address: SocketAddr) -> TcpListener {
    host.inside(|| TcpListener::bind(address).unwrap())
}

/// Returns the connections that the kernel of `host` has accepted for listeners.
fn passive_opens(host: &Host) -> u64 {
    host.inside(|| {
        let text = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let mut pairs = names.split(' ').zip(values.split(' '));
        pairs.find(|(name, _)| *name == "PassiveOpens").unwrap().1.parse().unwrap()
    })
}

fn has_time_wait(host: &Host) -> bool {
    host.inside(|| {
        ["tcp", "tcp6"].iter().any(|file| {
            let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
            text.lines().skip(1).any(|line| line.split_whitespace().nth(3) == Some(TIME_WAIT))
        })
    })
}

#[test]
fn half_open_probe_is_invisible_to_applications() {
    if skip("half_open_probe_is_invisible_to_applications", &[]) {
        return;
    }
    for (wrapper, fallback) in [(&[][..], false), (&WITHOUT, true)] {
        let mut fixture = ProberFixture::with_wrapped_prober(wrapper);
        for family in FAMILIES {
            let listener = listen(&fixture.lab.server, SocketAddr::new(family.server, OPEN));
            let before = passive_opens(&fixture.lab.server);
            let half = fixture.controller.outcomes(check(family.server, half_open(OPEN)), 50);
            assert_eq!(half, ["L4OK"; 50], "fallback: {fallback}");
            assert_eq!(passive_opens(&fixture.lab.server), before, "fallback: {fallback}");
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            assert!(!has_time_wait(&fixture.lab.server) && !has_time_wait(&fixture.lab.prober));
            // Control: a full connection is counted.
            assert_eq!(fixture.controller.verdict(check(family.server, tcp(OPEN))), "L4OK");
            assert!(passive_opens(&fixture.lab.server) > before);
        }
        let output = fixture.prober.lines(0);
        let reported =
            output.iter().filter(|line| line.contains("half-open probes use kernel sockets")).count();
        assert_eq!(reported, usize::from(fallback), "{output:?}");
        assert_eq!(fixture.prober.status("CapEff"), "0000000000000000");
    }
}

#[test]
fn refused_port_fails_immediately() {
    if skip("refused_port_fails_immediately", &[]) {
        return;
    }
    for wrapper in [&[][..], &WITHOUT] {
        let mut fixture = ProberFixture::with_wrapped_prober(wrapper);
        for family in FAMILIES {
            let refused = fixture.controller.verdict(check(family.server, half_open(CLOSED)));
            assert_eq!(refused, "L4CON connection refused");
        }
    }
}

#[test]
fn silent_port_times_out() {
    if skip("silent_port_times_out", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    fixture.lab.server.filter("input", &["tcp dport 82 drop"]);
    for family in FAMILIES {
        let check = Check { timeout: SHORT, ..check(family.server, half_open(82)) };
        assert_eq!(fixture.controller.verdict(check), "L4TOUT");
    }
}

#[test]
fn icmp_rejection_fails_with_reason() {
    if skip("icmp_rejection_fails_with_reason", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    for (server, how, words) in [
        (V4.server, "tcp reset", "connection refused"),
        (V4.server, "icmp type net-unreachable", "network unreachable"),
        (V4.server, "icmp type host-unreachable", "host unreachable"),
        (V4.server, "icmp type port-unreachable", "port unreachable"),
        (V4.server, "icmp type admin-prohibited", "administratively prohibited"),
        (V6.server, "tcp reset", "connection refused"),
        (V6.server, "icmpv6 type no-route", "no route to destination"),
        (V6.server, "icmpv6 type admin-prohibited", "administratively prohibited"),
        (V6.server, "icmpv6 type addr-unreachable", "address unreachable"),
        (V6.server, "icmpv6 type port-unreachable", "port unreachable"),
    ] {
        fixture.lab.server.filter("input", &[&format!("tcp dport 82 reject with {how}")]);
        let verdict = fixture.controller.verdict(check(server, half_open(82)));
        assert_eq!(verdict, format!("L4CON {words}"), "{server} {how}");
        fixture.lab.server.remove_filters();
    }
}

#[test]
fn unmatched_syn_ack_is_ignored() {
    if skip("unmatched_syn_ack_is_ignored", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let _listeners = FAMILIES.map(|family| listen(&fixture.lab.server, SocketAddr::new(family.server, OPEN)));
    for (family, ip) in FAMILIES.iter().zip(["ip", "ip6"]) {
        // A forgery, and whether it counts as spoofed. A wrong number counts as stray.
        for (forgery, is_spoofed) in [
            (format!("{ip} saddr set {}", family.unused), true),
            ("tcp sport set 83".to_owned(), true),
            ("tcp ackseq set 48879".to_owned(), false),
        ] {
            fixture.lab.server.filter("output", &[&format!("meta nfproto {} {SYN_ACK} {forgery}", kind(ip))]);
            let before = fixture.controller.stats(|_| true);
            let check = Check { timeout: SHORT, ..check(family.server, half_open(OPEN)) };
            assert_eq!(fixture.controller.outcomes(check, 3), ["L4TOUT"; 3], "{forgery}");
            let after = fixture.controller.stats(|stats| {
                let (now, then) = if is_spoofed {
                    (stats.spoofed, before.spoofed)
                } else {
                    (stats.unmatched, before.unmatched)
                };
                now >= then + 3
            });
            assert_eq!(after.malformed, before.malformed);
            fixture.lab.server.remove_filters();
        }
        // The server may still hold half-open connections: a SYN from the same port then gets a challenge ACK.
        let check = Check { timeout: SHORT, ..check(family.server, half_open(OPEN)) };
        assert!(fixture.controller.outcomes(check, 40).ends_with(&["L4OK".to_owned()]));
    }
}

fn kind(ip: &str) -> &'static str {
    if ip == "ip" { "ipv4" } else { "ipv6" }
}

#[test]
fn configured_source_address_is_used() {
    if skip("configured_source_address_is_used", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    for (family, ip) in FAMILIES.iter().zip(["ip", "ip6"]) {
        let _listener = listen(&fixture.lab.server, SocketAddr::new(family.server, OPEN));
        // Clients with another source address are reset.
        fixture.lab.server.filter(
            "input",
            &[&format!("tcp dport {OPEN} {ip} saddr != {} reject with tcp reset", family.secondary)],
        );
        let from = |source| Check { source: Some(source), ..check(family.server, half_open(OPEN)) };
        assert_eq!(fixture.controller.verdict(from(family.secondary)), "L4OK");
        assert_eq!(fixture.controller.verdict(from(family.prober)), "L4CON connection refused");
        fixture.lab.server.remove_filters();
    }
}

#[test]
fn removed_source_address_is_replaced() {
    if skip("removed_source_address_is_replaced", &[]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let _listener = listen(&fixture.lab.server, SocketAddr::new(V4.server, OPEN));
    assert_eq!(fixture.controller.verdict(check(V4.server, half_open(OPEN))), "L4OK");
    // By default the kernel removes secondary addresses together with the primary one.
    fixture.lab.prober.set("ipv4/conf/all/promote_secondaries", "1");
    fixture.lab.prober.ip(&format!("address del {}/24 dev eth0", V4.prober));
    let verdicts = fixture.controller.more(50);
    // The first probe detects the change.
    assert!(verdicts.iter().filter(|verdict| *verdict != "L4OK").count() <= 2, "{verdicts:?}");
    assert!(verdicts.iter().all(|verdict| verdict == "L4OK" || verdict.starts_with("LOCAL")), "{verdicts:?}");
    assert_eq!(verdicts.last().map(String::as_str), Some("L4OK"));
}

#[test]
fn ten_thousand_half_open_probes_pass() {
    if skip("ten_thousand_half_open_probes_pass", &[]) {
        return;
    }
    const SERVERS: u16 = 10_000;
    let mut fixture = ProberFixture::new();
    let _listener = listen(&fixture.lab.prober, SocketAddr::from((Ipv4Addr::UNSPECIFIED, OPEN)));
    let checks = (0..SERVERS).map(|n| {
        let [high, low] = n.to_be_bytes();
        check(Ipv4Addr::new(127, 9, high, low).into(), half_open(OPEN))
    });
    let verdicts = fixture.controller.first_verdicts(Duration::from_secs(1), checks);
    assert_eq!(verdicts, vec!["L4OK"; SERVERS.into()]);
}
