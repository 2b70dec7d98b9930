//! Faults of the prober's own host: no link, no route, no descriptors, no ports, no permission; and a link that is cut
//! elsewhere.

use std::net::{IpAddr, SocketAddr};

use maglev_lab::faulty_link::FaultyLink;
use maglev_lab::http_server::HttpServer;
use maglev_lab::packets::until;
use maglev_lab::skip;
use maglev_lab::topology::{Lab, V4, V6};
use maglev_proto::v1::{BackendState, MassFailureResult};

use crate::{Backend, FaultFixture, add_servers, recovery, uniform_backends};

const CHECKS: &str = "    ping: { type: icmp, interval: 100ms, fast-interval: 50ms, timeout: 20s, rise: 2, fall: 3 }
    open: { type: tcp, port: 80, interval: 100ms, fast-interval: 50ms, timeout: 20s, rise: 2, fall: 3 }
    half: { type: tcp, port: 80, params: { mode: half-open }, interval: 100ms, fast-interval: 50ms, timeout: 20s }
";

/// Returns three servers of each family, each with a different check.
fn mixed_backends(lab: &Lab) -> Vec<Backend> {
    let kinds = ["ping", "open", "half"].into_iter().cycle();
    let backends = add_servers(lab, 3).into_iter().zip(kinds).enumerate();
    backends.map(|(n, (address, check))| (format!("b{n}"), address, check)).collect()
}

/// Starts a server for both families.
fn site(lab: &Lab) -> HttpServer {
    let at: SocketAddr = "[::]:80".parse().unwrap();
    lab.server.inside(|| HttpServer::start(at))
}

/// Asserts that all backends are stale and unchanged, in `maglevc` too.
fn assert_frozen(fixture: &FaultFixture, fault: &str) {
    let all = fixture.backends.len() as f64;
    until(|| fixture.stale_backends() >= all, || format!("{} of {all} are stale", fixture.stale_backends()));
    for (name, ..) in &fixture.backends {
        let backend = fixture.maglevd.backend(name);
        assert_eq!((backend.state(), backend.stale), (BackendState::Up, true), "{backend:#?}");
        fixture.until_outcome(name, &format!("LOCAL {fault}"));
    }
    let shown = fixture.maglevd.maglevc(&["show", "backends"]).stdout;
    assert_eq!(String::from_utf8(shown).unwrap().matches("up (stale)").count() as f64, all);
    fixture.assert_unchanged_except(&[]);
}

/// Asserts that all backends are observed again, without other changes.
fn assert_thawed(fixture: &mut FaultFixture, scenario: &str) {
    recovery(scenario, || fixture.maglevd.until_local_faults(&[true, false]));
    fixture.flush_outcomes();
    fixture.maglevd.until_local_faults(&[true, false]);
    assert_eq!(fixture.stale_backends(), 0.0);
    assert_eq!(fixture.metric("maglev_local_fault_episodes_total", &[]), 1.0);
    fixture.assert_unchanged_except(&[]);
}

#[test]
fn link_down_freezes_health() {
    if skip("link_down_freezes_health", &[]) {
        return;
    }
    let lab = Lab::new();
    lab.prober.set("ipv6/conf/eth0/keep_addr_on_down", "1");
    let (backends, _site) = (mixed_backends(&lab), site(&lab));
    let mut fixture = FaultFixture::new(lab, 100, CHECKS, backends);
    fixture.settle();
    fixture.lab.prober.ip("link set eth0 down");
    fixture.maglevd.until_local_faults(&[true]);
    assert_frozen(&fixture, "no route from this host");
    fixture.lab.prober.ip("link set eth0 up");
    fixture.lab.prober.ip(&format!("route replace 10.88.0.0/16 via {}", V4.server));
    fixture.lab.prober.ip(&format!("-6 route replace fd88::/64 via {}", V6.server));
    assert_thawed(&mut fixture, "the link is down");
}

#[test]
fn missing_route_freezes_health() {
    if skip("missing_route_freezes_health", &[]) {
        return;
    }
    let lab = Lab::new();
    let (backends, _site) = (mixed_backends(&lab), site(&lab));
    let mut fixture = FaultFixture::new(lab, 100, CHECKS, backends);
    fixture.settle();
    fixture.lab.prober.ip("route del 10.88.0.0/16");
    fixture.lab.prober.ip("-6 route del fd88::/64");
    fixture.maglevd.until_local_faults(&[true]);
    assert_frozen(&fixture, "no route from this host");
    fixture.lab.prober.ip(&format!("route add 10.88.0.0/16 via {}", V4.server));
    fixture.lab.prober.ip(&format!("-6 route add fd88::/64 via {}", V6.server));
    assert_thawed(&mut fixture, "the route is gone");
}

#[test]
fn local_firewall_freezes_health() {
    if skip("local_firewall_freezes_health", &["nft"]) {
        return;
    }
    let lab = Lab::new();
    let (mut backends, _site) = (mixed_backends(&lab), site(&lab));
    // The kernel does not report a filtered SYN of its own TCP stack to the prober.
    backends.retain(|(_, _, check)| *check != "open");
    let mut fixture = FaultFixture::new(lab, 100, CHECKS, backends);
    fixture.settle();
    fixture.lab.prober.filter("output", &["meta l4proto { icmp, ipv6-icmp, tcp } drop"]);
    fixture.maglevd.until_local_faults(&[true]);
    assert_frozen(&fixture, "not permitted on this host");
    fixture.lab.prober.remove_filters();
    assert_thawed(&mut fixture, "a filter of our own");
}

#[test]
fn fd_exhaustion_freezes_tcp_checks_only() {
    if skip("fd_exhaustion_freezes_tcp_checks_only", &["prlimit"]) {
        return;
    }
    let lab = Lab::new();
    let link = FaultyLink::install(&lab, 12);
    let (mut backends, _site) = (mixed_backends(&lab), site(&lab));
    // Their checks use up to eight connections at a time.
    let hogs = ["10.88.0.101", "10.88.0.102"].map(|address| address.parse::<IpAddr>().unwrap());
    backends.extend(hogs.map(|address| (format!("hog-{address}").replace('.', "-"), address, "open")));
    // The descriptor limit leaves room for six.
    let mut fixture =
        FaultFixture::with_wrapped_prober(&["prlimit", "--nofile=70:70"], lab, 100, CHECKS, backends);
    fixture.settle();
    link.set_rule(
        move |packet, _| {
            if hogs.contains(&packet.server()) { Vec::new() } else { vec![packet.forward()] }
        },
    );
    fixture.maglevd.until_local_faults(&[true]);
    let others = fixture.backends.iter().filter(|(name, ..)| !name.starts_with("hog"));
    let (open, rest): (Vec<_>, Vec<_>) = others.partition(|(.., check)| *check == "open");
    for (name, ..) in open {
        until(|| fixture.maglevd.backend(name).stale, || format!("{name} is not stale"));
        let backend = fixture.maglevd.backend(name);
        assert_eq!(backend.state(), BackendState::Up, "{backend:#?}");
        fixture.until_outcome(name, "LOCAL out of descriptors");
    }
    for (name, ..) in rest {
        assert!(!fixture.maglevd.backend(name).stale, "{name}");
        assert_eq!(fixture.probes(Some(name), &["LOCAL"]), 0.0);
    }
    fixture.assert_unchanged_except(&[]);
    link.clear_rule();
    assert_thawed(&mut fixture, "no descriptors");
}

#[test]
fn port_exhaustion_freezes_health() {
    if skip("port_exhaustion_freezes_health", &["nft"]) {
        return;
    }
    const HANG: &str = "    hang: { type: tcp, port: 80, interval: 100ms, fast-interval: 50ms, timeout: 20s, rise: 2, fall: 3 }\n";
    let lab = Lab::new();
    let _site = lab.server.inside(|| HttpServer::start("0.0.0.0:80".parse().unwrap()));
    let server = add_servers(&lab, 1)[0];
    let backends = vec![("b0".to_owned(), server, "hang")];
    let mut fixture = FaultFixture::new(lab, 100, HANG, backends);
    fixture.settle();
    // The only port is in use by another connection to the same server.
    fixture.lab.prober.set("ipv4/ip_local_port_range", "40001 40001");
    let taken = fixture.lab.prober.inside(|| std::net::TcpStream::connect((server, 80)).unwrap());
    fixture.maglevd.until_local_faults(&[true]);
    assert_frozen(&fixture, "out of ports, or no such source address here");
    fixture.lab.prober.set("ipv4/ip_local_port_range", "40000 50000");
    drop(taken);
    assert_thawed(&mut fixture, "no ports");
}

/// Three failures take about 3 s, and the round in which deferred backends are probed again about 5 s.
const SILENCE: &str =
    "    ping: { type: icmp, interval: 200ms, fast-interval: 1500ms, timeout: 1s, rise: 2, fall: 3 }\n";

#[test]
fn short_uplink_cut_takes_nothing_down() {
    if skip("short_uplink_cut_takes_nothing_down", &[]) {
        return;
    }
    let lab = Lab::new();
    let link = FaultyLink::install(&lab, 10);
    let backends = uniform_backends(&add_servers(&lab, 3), "ping");
    let mut fixture = FaultFixture::new(lab, 100, SILENCE, backends);
    fixture.settle();
    link.set_rule(|_, _| Vec::new());
    fixture.maglevd.until_mass_failures(&[MassFailureResult::Suspected]);
    assert_eq!(fixture.metric("maglev_mass_failure_pending", &[]), 1.0);
    link.clear_rule();
    let reported = [MassFailureResult::Suspected, MassFailureResult::Dismissed];
    recovery("the uplink is cut for a moment", || fixture.maglevd.until_mass_failures(&reported));
    let below = |name: &String| fixture.maglevd.backend(name).counter < 4;
    until(|| !fixture.backends.iter().any(|(name, ..)| below(name)), || "counters do not recover".to_owned());
    fixture.flush_outcomes();
    fixture.maglevd.until_mass_failures(&reported);
    assert_eq!(fixture.metric("maglev_mass_failure_pending", &[]), 0.0);
    fixture.assert_unchanged_except(&[]);
}

#[test]
fn long_uplink_cut_is_total_outage() {
    if skip("long_uplink_cut_is_total_outage", &[]) {
        return;
    }
    const SOON: &str =
        "    ping: { type: icmp, interval: 200ms, fast-interval: 100ms, timeout: 1s, rise: 2, fall: 3 }\n";
    let lab = Lab::new();
    let link = FaultyLink::install(&lab, 11);
    let backends = uniform_backends(&add_servers(&lab, 3), "ping");
    let names: Vec<_> = backends.iter().map(|(name, ..)| name.clone()).collect();
    let mut fixture = FaultFixture::new(lab, 100, SOON, backends);
    fixture.settle();
    link.set_rule(|_, _| Vec::new());
    fixture.maglevd.until_mass_failures(&[MassFailureResult::Suspected, MassFailureResult::Confirmed]);
    fixture.until_weights(|_| 0);
    for name in &names {
        fixture.until_outcome(name, "L4TOUT");
    }
    link.clear_rule();
    recovery("the uplink is cut for longer", || fixture.until_weights(|_| 20));
    fixture.flush_outcomes();
    fixture.maglevd.until_mass_failures(&[MassFailureResult::Suspected, MassFailureResult::Confirmed]);
    for name in &names {
        assert_eq!(fixture.maglevd.backend(name).transitions.len(), 3, "down and up once each");
    }
}
