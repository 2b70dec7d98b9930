//! Echo requests.

use std::time::Duration;

use maglev_ipc::{Check, ProbeKind, ProbeTimeout};
use maglev_lab::controller::{SHORT, check};
use maglev_lab::skip;
use maglev_lab::topology::{FAMILIES, V4, V6};

use crate::ProberFixture;

#[test]
fn echo_reply_passes() {
    if skip("echo_reply_passes", &[]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    for family in FAMILIES {
        assert_eq!(fixture.controller.verdict(check(family.server, ProbeKind::Icmp)), "L7OK");
    }
    assert_eq!(fixture.prober.status("Uid"), ["65534"; 4].join("\t"));
    assert_eq!(fixture.prober.status("CapEff"), "0000000000000000");
}

#[test]
fn missing_echo_reply_times_out() {
    if skip("missing_echo_reply_times_out", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    fixture.lab.server.filter("input", &["icmp type echo-request drop", "icmpv6 type echo-request drop"]);
    for family in FAMILIES {
        let check = Check { timeout: SHORT, ..check(family.server, ProbeKind::Icmp) };
        assert_eq!(fixture.controller.verdict(check), "L4TOUT");
    }
}

#[test]
fn icmp_error_fails_with_reason() {
    if skip("icmp_error_fails_with_reason", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    for (code, words) in [
        ("net-unreachable", "network unreachable"),
        ("host-unreachable", "host unreachable"),
        ("prot-unreachable", "protocol unreachable"),
        ("port-unreachable", "port unreachable"),
        ("net-prohibited", "administratively prohibited"),
        ("host-prohibited", "administratively prohibited"),
        ("admin-prohibited", "administratively prohibited"),
    ] {
        let rule = format!("icmp type echo-request reject with icmp type {code}");
        fixture.lab.server.filter("input", &[&rule]);
        assert_eq!(
            fixture.controller.verdict(check(V4.server, ProbeKind::Icmp)),
            format!("L4CON {words}"),
            "{code}"
        );
        fixture.lab.server.remove_filters();
    }
    for (code, words) in [
        ("no-route", "no route to destination"),
        ("admin-prohibited", "administratively prohibited"),
        ("addr-unreachable", "address unreachable"),
        ("port-unreachable", "port unreachable"),
        ("policy-fail", "source address failed policy"),
        ("reject-route", "route rejected"),
    ] {
        let rule = format!("icmpv6 type echo-request reject with icmpv6 type {code}");
        fixture.lab.server.filter("input", &[&rule]);
        assert_eq!(
            fixture.controller.verdict(check(V6.server, ProbeKind::Icmp)),
            format!("L4CON {words}"),
            "{code}"
        );
        fixture.lab.server.remove_filters();
    }
}

#[test]
fn duplicate_echo_reply_counts_once() {
    if skip("duplicate_echo_reply_counts_once", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    fixture.lab.switch.nft(
        "add table netdev lab
add chain netdev lab twice { type filter hook ingress device p-server priority 0; }
add rule netdev lab twice icmp type echo-reply dup to p-prober
add rule netdev lab twice icmpv6 type echo-reply dup to p-prober
",
    );
    for family in FAMILIES {
        let before = fixture.controller.stats(|_| true).duplicates;
        let verdicts = fixture.controller.outcomes(check(family.server, ProbeKind::Icmp), 10);
        assert_eq!(verdicts, ["L7OK"; 10]);
        let stats = fixture.controller.stats(|stats| stats.duplicates >= before + 9);
        assert_eq!((stats.unmatched, stats.spoofed, stats.malformed), (0, 0, 0));
    }
}

#[test]
fn echo_reply_with_wrong_sequence_is_ignored() {
    if skip("echo_reply_with_wrong_sequence_is_ignored", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    // Another sequence number. nftables corrects the checksum for named fields only.
    fixture.lab.server.filter(
        "output",
        &["icmp type echo-reply icmp sequence set 48879", "icmpv6 type echo-reply icmpv6 sequence set 48879"],
    );
    for family in FAMILIES {
        let before = fixture.controller.stats(|_| true).spoofed;
        let check = Check { timeout: SHORT, ..check(family.server, ProbeKind::Icmp) };
        assert_eq!(fixture.controller.outcomes(check, 3), ["L4TOUT"; 3]);
        fixture.controller.stats(|stats| stats.spoofed >= before + 3);
    }
}

#[test]
fn echo_reply_from_other_address_is_ignored() {
    if skip("echo_reply_from_other_address_is_ignored", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    fixture.lab.server.filter(
        "output",
        &[
            &format!("icmp type echo-reply ip saddr set {}", V4.unused),
            &format!("icmpv6 type echo-reply ip6 saddr set {}", V6.unused),
        ],
    );
    for family in FAMILIES {
        let before = fixture.controller.stats(|_| true).spoofed;
        let check = Check { timeout: SHORT, ..check(family.server, ProbeKind::Icmp) };
        assert_eq!(fixture.controller.outcomes(check, 3), ["L4TOUT"; 3]);
        fixture.controller.stats(|stats| stats.spoofed >= before + 3);
    }
}

#[test]
fn late_echo_reply_is_ignored() {
    if skip("late_echo_reply_is_ignored", &["tc"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    // Each reply takes longer than a probe's timeout, so replies queue up.
    fixture.lab.server.tc("qdisc add dev eth0 root tbf rate 8kbit burst 1540 latency 10s");
    let check = Check {
        timeout: ProbeTimeout::Fixed(Duration::from_millis(30)),
        ..check(V4.server, ProbeKind::Icmp)
    };
    let verdicts = fixture.controller.outcomes(check, 200);
    fixture.controller.stats(|stats| stats.unmatched > 0);
    assert!(verdicts.iter().any(|verdict| verdict == "L4TOUT"), "{verdicts:?}");
    assert!(verdicts.iter().all(|verdict| verdict == "L4TOUT" || verdict == "L7OK"), "{verdicts:?}");
}
