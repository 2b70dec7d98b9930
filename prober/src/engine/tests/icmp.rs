use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

/// Prints the line by which skipped tests are counted.
fn skip(name: &str) -> bool {
    if !is_root() {
        println!("SKIP {name}: needs root");
    }
    !is_root()
}

#[test]
fn a_host_that_answers_passes() {
    if skip("a_host_that_answers_passes") {
        return;
    }
    for target in [IpAddr::from(Ipv4Addr::new(127, 3, 2, 1)), Ipv6Addr::LOCALHOST.into()] {
        assert_eq!(probe(check(target, Probe::Icmp)), (Code::L7Ok, String::new()), "{target}");
    }
}

#[test]
fn a_source_address_is_used() {
    if skip("a_source_address_is_used") {
        return;
    }
    let source = Some(Ipv4Addr::new(127, 9, 9, 9).into());
    assert_eq!(probe(Check { source, ..check(Ipv4Addr::LOCALHOST, Probe::Icmp) }).0, Code::L7Ok);
    let source = Some(Ipv6Addr::LOCALHOST.into());
    assert_eq!(probe(Check { source, ..check(Ipv6Addr::LOCALHOST, Probe::Icmp) }).0, Code::L7Ok);
}

#[test]
fn a_source_address_that_is_not_ours_is_a_local_fault() {
    if skip("a_source_address_that_is_not_ours_is_a_local_fault") {
        return;
    }
    let sources: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(192, 0, 2, 77).into()),
        (Ipv6Addr::LOCALHOST.into(), "2001:db8::77".parse().unwrap()),
    ];
    for (target, source) in sources {
        let code = probe(Check { source: Some(source), ..check(target, Probe::Icmp) }).0;
        assert_eq!(code, Code::Local, "{source}");
    }
}

#[test]
fn many_are_probed_at_a_time_and_none_is_taken_for_another() {
    if skip("many_are_probed_at_a_time_and_none_is_taken_for_another") {
        return;
    }
    let (mut controller, _thread) = spawn();
    controller.greet();
    let checks: Vec<_> =
        (0..250).map(|n| (u32::from(n), check(Ipv4Addr::new(127, 5, 5, n), Probe::Icmp))).collect();
    assert_eq!(controller.commit(1, &checks), []);
    let mut seen = vec![0; 250];
    while seen.iter().any(|seen| *seen < 3) {
        for Outcome { check, seq, code, .. } in controller.outcomes() {
            seen[check.0 as usize] += 1;
            assert_eq!((code, seq), (Code::L7Ok, seen[check.0 as usize]));
        }
    }
}
