//! Full TCP connections.

use std::net::SocketAddr;

use maglev_ipc::Check;
use maglev_lab::controller::{SHORT, check, http, tcp};
use maglev_lab::http_server::HttpServer;
use maglev_lab::skip;
use maglev_lab::topology::{FAMILIES, V4, V6};

use crate::ProberFixture;

const OPEN: u16 = 80;
const CLOSED: u16 = 81;

#[test]
fn open_port_passes_and_closed_port_fails() {
    if skip("open_port_passes_and_closed_port_fails", &[]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    for family in FAMILIES {
        let _site = fixture.lab.server.inside(|| HttpServer::start(SocketAddr::new(family.server, OPEN)));
        assert_eq!(fixture.controller.verdict(check(family.server, tcp(OPEN))), "L4OK");
        let refused = fixture.controller.verdict(check(family.server, tcp(CLOSED)));
        assert_eq!(refused, "L4CON connection refused");
    }
}

#[test]
fn dropped_syn_times_out() {
    if skip("dropped_syn_times_out", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    fixture.lab.server.filter("input", &["tcp dport 82 drop"]);
    for family in FAMILIES {
        let check = Check { timeout: SHORT, ..check(family.server, tcp(82)) };
        assert_eq!(fixture.controller.verdict(check), "L4TOUT");
    }
}

#[test]
fn rejected_port_fails_with_reason() {
    if skip("rejected_port_fails_with_reason", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
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
        fixture.lab.server.filter("input", &[&format!("tcp dport 82 reject with {how}")]);
        assert_eq!(fixture.controller.verdict(check(V4.server, tcp(82))), format!("L4CON {words}"), "{how}");
        fixture.lab.server.remove_filters();
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
        fixture.lab.server.filter("input", &[&format!("tcp dport 82 reject with {how}")]);
        assert_eq!(fixture.controller.verdict(check(V6.server, tcp(82))), format!("L4CON {words}"), "{how}");
        fixture.lab.server.remove_filters();
    }
}

#[test]
fn configured_source_address_is_used() {
    if skip("configured_source_address_is_used", &[]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    for family in FAMILIES {
        let site = fixture.lab.server.inside(|| HttpServer::start(SocketAddr::new(family.server, OPEN)));
        for source in [family.secondary, family.prober] {
            let before = site.requests().len();
            let check = Check { source: Some(source), ..check(family.server, http(OPEN, "/")) };
            assert_eq!(fixture.controller.verdict(check), "L7OK HTTP 200");
            let requests = site.wait_for_requests(before + 1);
            assert_eq!(requests[before].from.ip(), source);
        }
    }
}
