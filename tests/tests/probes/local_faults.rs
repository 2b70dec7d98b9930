//! Faults of the prober's own host, which say nothing about who is probed.

use maglev_ipc::{Check, Probe};
use maglev_lab::controller::{check, tcp};
use maglev_lab::skip;
use maglev_lab::topology::FAMILIES;

use crate::Bench;

#[test]
fn no_route_is_no_verdict() {
    if skip("no_route_is_no_verdict", &[]) {
        return;
    }
    let mut bench = Bench::new();
    for family in FAMILIES {
        for probe in [Probe::Icmp, tcp(80)] {
            let verdict = bench.controller.verdict(check(family.elsewhere, probe));
            assert_eq!(verdict, "LOCAL no route from this host");
        }
    }
}

#[test]
fn a_source_address_of_another_host_is_no_verdict() {
    if skip("a_source_address_of_another_host_is_no_verdict", &[]) {
        return;
    }
    let mut bench = Bench::new();
    for family in FAMILIES {
        for probe in [Probe::Icmp, tcp(80)] {
            let check = Check { source: Some(family.nobody), ..check(family.server, probe) };
            let verdict = bench.controller.verdict(check);
            assert!(verdict.starts_with("LOCAL "), "{verdict}");
        }
    }
}

#[test]
fn a_filter_on_the_way_out_is_no_verdict() {
    if skip("a_filter_on_the_way_out_is_no_verdict", &["nft"]) {
        return;
    }
    let mut bench = Bench::new();
    bench.lab.prober.filter("output", &["icmp type echo-request drop", "icmpv6 type echo-request drop"]);
    for family in FAMILIES {
        let verdict = bench.controller.verdict(check(family.server, Probe::Icmp));
        assert_eq!(verdict, "LOCAL not permitted on this host");
    }
}

#[test]
fn being_out_of_descriptors_is_no_verdict() {
    if skip("being_out_of_descriptors_is_no_verdict", &["prlimit"]) {
        return;
    }
    // Room for what the prober has open once it is ready (raw sockets, ports, epoll, signals, listener, link, logs), and for no
    // connection.
    let mut bench = Bench::with_prober_in(&["prlimit", "--nofile=40:40"]);
    for family in FAMILIES {
        assert_eq!(bench.controller.verdict(check(family.server, tcp(80))), "LOCAL out of descriptors");
        assert_eq!(bench.controller.verdict(check(family.server, Probe::Icmp)), "L7OK");
    }
}
