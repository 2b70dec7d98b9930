//! Full TCP connections.

use std::net::SocketAddr;

use maglev_ipc::Check;
use maglev_lab::controller::{SHORT, check, http, tcp};
use maglev_lab::http_server::Site;
use maglev_lab::skip;
use maglev_lab::topology::{FAMILIES, V4, V6};

use crate::Bench;

const OPEN: u16 = 80;
const CLOSED: u16 = 81;

#[test]
fn open_port_passes_and_closed_port_fails() {
    if skip("open_port_passes_and_closed_port_fails", &[]) {
        return;
    }
    let mut bench = Bench::new();
    for family in FAMILIES {
        let _site = bench.lab.server.inside(|| Site::start(SocketAddr::new(family.server, OPEN)));
        assert_eq!(bench.controller.verdict(check(family.server, tcp(OPEN))), "L4OK");
        let refused = bench.controller.verdict(check(family.server, tcp(CLOSED)));
        assert_eq!(refused, "L4CON connection refused");
    }
}

#[test]
fn dropped_syn_times_out() {
    if skip("dropped_syn_times_out", &["nft"]) {
        return;
    }
    let mut bench = Bench::new();
    bench.lab.server.filter("input", &["tcp dport 82 drop"]);
    for family in FAMILIES {
        let check = Check { timeout: SHORT, ..check(family.server, tcp(82)) };
        assert_eq!(bench.controller.verdict(check), "L4TOUT");
    }
}

#[test]
fn rejected_port_fails_with_reason() {
    if skip("rejected_port_fails_with_reason", &["nft"]) {
        return;
    }
    let mut bench = Bench::new();
    for (how, words) in [
        ("tcp reset", "connection refused"),
        ("icmp type net-unreachable", "network unreachable"),
        ("icmp type host-unreachable", "host unreachable"),
        ("icmp type prot-unreachable", "protocol unreachable"),
        ("icmp type port-unreachable", "connection refused"),
        ("icmp type net-prohibited", "network unreachable"),
        ("icmp type host-prohibited", "host unreachable"),
        ("icmp type admin-prohibited", "host unreachable"),
    ] {
        bench.lab.server.filter("input", &[&format!("tcp dport 82 reject with {how}")]);
        assert_eq!(bench.controller.verdict(check(V4.server, tcp(82))), format!("L4CON {words}"), "{how}");
        bench.lab.server.unfilter();
    }
    for (how, words) in [
        ("tcp reset", "connection refused"),
        ("icmpv6 type no-route", "network unreachable"),
        ("icmpv6 type admin-prohibited", "administratively prohibited"),
        ("icmpv6 type addr-unreachable", "host unreachable"),
        ("icmpv6 type port-unreachable", "connection refused"),
        ("icmpv6 type policy-fail", "administratively prohibited"),
        ("icmpv6 type reject-route", "administratively prohibited"),
    ] {
        bench.lab.server.filter("input", &[&format!("tcp dport 82 reject with {how}")]);
        assert_eq!(bench.controller.verdict(check(V6.server, tcp(82))), format!("L4CON {words}"), "{how}");
        bench.lab.server.unfilter();
    }
}

#[test]
fn configured_source_address_is_used() {
    if skip("configured_source_address_is_used", &[]) {
        return;
    }
    let mut bench = Bench::new();
    for family in FAMILIES {
        let site = bench.lab.server.inside(|| Site::start(SocketAddr::new(family.server, OPEN)));
        for source in [family.second, family.prober] {
            let before = site.visits().len();
            let check = Check { source: Some(source), ..check(family.server, http(OPEN, "/")) };
            assert_eq!(bench.controller.verdict(check), "L7OK HTTP 200");
            let visits = site.wait_for_visits(before + 1);
            assert_eq!(visits[before].from.ip(), source);
        }
    }
}
