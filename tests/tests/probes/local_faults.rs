//! Faults of the prober's own host, which are no evidence about servers.

use maglev_ipc::{Check, ProbeKind};
use maglev_lab::controller::{check, tcp};
use maglev_lab::skip;
use maglev_lab::topology::FAMILIES;

use crate::ProberFixture;

#[test]
fn missing_route_is_local_fault() {
    if skip("missing_route_is_local_fault", &[]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    for family in FAMILIES {
        for probe in [ProbeKind::Icmp, tcp(80)] {
            let verdict = fixture.controller.verdict(check(family.unrouted, probe));
            assert_eq!(verdict, "LOCAL no route from this host");
        }
    }
}

#[test]
fn foreign_source_address_is_local_fault() {
    if skip("foreign_source_address_is_local_fault", &[]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    for family in FAMILIES {
        for probe in [ProbeKind::Icmp, tcp(80)] {
            let check = Check { source: Some(family.unused), ..check(family.server, probe) };
            let verdict = fixture.controller.verdict(check);
            assert!(verdict.starts_with("LOCAL "), "{verdict}");
        }
    }
}

#[test]
fn output_filter_is_local_fault() {
    if skip("output_filter_is_local_fault", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    fixture.lab.prober.filter("output", &["icmp type echo-request drop", "icmpv6 type echo-request drop"]);
    for family in FAMILIES {
        let verdict = fixture.controller.verdict(check(family.server, ProbeKind::Icmp));
        assert_eq!(verdict, "LOCAL not permitted on this host");
    }
}

#[test]
fn fd_exhaustion_is_local_fault() {
    if skip("fd_exhaustion_is_local_fault", &["prlimit"]) {
        return;
    }
    // The limit covers what a ready prober has open (raw sockets, ports, epoll, signals, listener, link, logs) and no
    // connection.
    let mut fixture = ProberFixture::with_wrapped_prober(&["prlimit", "--nofile=40:40"]);
    for family in FAMILIES {
        assert_eq!(fixture.controller.verdict(check(family.server, tcp(80))), "LOCAL out of descriptors");
        assert_eq!(fixture.controller.verdict(check(family.server, ProbeKind::Icmp)), "L7OK");
    }
}
