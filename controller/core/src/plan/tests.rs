//! Plans converge, are minimal, and keep weight at every step.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use alloc::string::{String, ToString};
use alloc::vec;
use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;
use crate::dataplane::DesiredAs;

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn found(servers: &[(u8, u8)]) -> ActualVip {
    ActualVip {
        encap: Encap::Gre4,
        table_length: Some(1024),
        src_ip_sticky: Some(false),
        servers: servers.iter().map(|(a, w)| (v4(*a), ActualAs { weight: *w, buckets: 0 })).collect(),
    }
}

fn wanted(servers: &[(u8, u8)]) -> DesiredVip {
    DesiredVip {
        encap: Encap::Gre4,
        src_ip_sticky: false,
        table_length: 1024,
        servers: servers.iter().map(|(a, w)| (v4(*a), DesiredAs { weight: *w, flush: false })).collect(),
    }
}

fn words(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

#[test]
fn new_vip_is_created_with_servers() {
    let steps = plan(Some(&wanted(&[(1, 2), (2, 0)])), None, true);
    assert_eq!(
        words(&steps),
        ["create vip gre4 table 1024", "add 192.0.2.1 weight 2", "add 192.0.2.2 weight 0"]
    );
}

#[test]
fn vip_is_removed_after_flushed_servers() {
    let steps = plan(None, Some(&found(&[(1, 2), (2, 0)])), true);
    assert_eq!(words(&steps), ["remove 192.0.2.1 flush", "remove 192.0.2.2 flush", "remove vip"]);
}

#[test]
fn servers_are_added_before_removal() {
    let steps = plan(Some(&wanted(&[(1, 0), (2, 5), (4, 1)])), Some(&found(&[(1, 5), (2, 1), (3, 7)])), true);
    assert_eq!(
        words(&steps),
        [
            "add 192.0.2.4 weight 1",
            "set 192.0.2.2 weight 1 -> 5",
            "set 192.0.2.1 weight 5 -> 0",
            "remove 192.0.2.3 flush",
        ]
    );
}

#[test]
fn flush_without_weight_change_is_a_step() {
    let mut wanted = wanted(&[(1, 0), (2, 1)]);
    wanted.servers.insert(v4(1), DesiredAs { weight: 0, flush: true });
    let steps = plan(Some(&wanted), Some(&found(&[(1, 0), (2, 1)])), true);
    assert_eq!(words(&steps), ["set 192.0.2.1 weight 0 -> 0 flush"]);
}

#[test]
fn encap_or_sticky_change_recreates_vip() {
    let mut sticky = found(&[(1, 1)]);
    sticky.src_ip_sticky = Some(true);
    let recreated =
        ["remove 192.0.2.1 flush", "remove vip", "create vip gre4 table 1024", "add 192.0.2.1 weight 1"];
    assert_eq!(words(&plan(Some(&wanted(&[(1, 1)])), Some(&sticky), true)), recreated);
    assert_eq!(words(&plan(Some(&wanted(&[(1, 1)])), Some(&sticky), false)), recreated[..2]);

    let mut encap = found(&[(1, 1)]);
    encap.encap = Encap::Nat4;
    assert_eq!(words(&plan(Some(&wanted(&[(1, 1)])), Some(&encap), true)), recreated);
}

#[test]
fn table_length_change_is_ignored() {
    let mut short = found(&[(1, 1)]);
    short.table_length = Some(64);
    assert_eq!(plan(Some(&wanted(&[(1, 1)])), Some(&short), true), vec![]);
}

#[test]
fn some_vips_block_creation() {
    let port = |port| VipKey::host(v4(1), 6, port);
    let all = VipKey::host(v4(1), ANY_PROTOCOL, 0);
    let elsewhere = VipKey::host(v4(2), ANY_PROTOCOL, 0);
    assert!(blocks_creation((&all, Encap::Gre4), (&port(80), Encap::Gre4)));
    assert!(blocks_creation((&port(80), Encap::Gre4), (&all, Encap::Gre4)));
    assert!(blocks_creation((&port(80), Encap::Gre4), (&port(443), Encap::Gre6)));
    assert!(!blocks_creation((&port(80), Encap::Gre4), (&port(443), Encap::Gre4)));
    assert!(!blocks_creation((&elsewhere, Encap::Gre4), (&port(80), Encap::Gre4)));
    assert!(!blocks_creation((&all, Encap::Gre4), (&all, Encap::Gre6)), "not itself");
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1u8..8).prop_map(v4),
        (1u16..8).prop_map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).into()),
    ]
}

fn encap() -> impl Strategy<Value = Encap> {
    prop_oneof![4 => Just(Encap::Gre4), 1 => Just(Encap::Gre6), 1 => Just(Encap::Nat4)]
}

prop_compose! {
    fn any_found()(
        encap in encap(),
        src_ip_sticky in proptest::option::weighted(0.9, proptest::bool::weighted(0.1)),
        servers in btree_map(address(), (0u8..=4).prop_map(|weight| ActualAs { weight, buckets: 0 }), 0..8),
    ) -> ActualVip {
        ActualVip { encap, table_length: None, src_ip_sticky, servers }
    }
}

prop_compose! {
    fn any_wanted()(
        encap in encap(),
        src_ip_sticky in proptest::bool::weighted(0.1),
        servers in btree_map(address(), (0u8..=4).prop_map(|weight| DesiredAs { weight, flush: false }), 0..8),
    ) -> DesiredVip {
        DesiredVip { encap, src_ip_sticky, table_length: 1024, servers }
    }
}

proptest! {
    #[test]
    fn applied_plan_converges(
        wanted in proptest::option::of(any_wanted()),
        mut found in proptest::option::of(any_found()),
    ) {
        for step in plan(wanted.as_ref(), found.as_ref(), true) {
            apply(&step, &mut found);
        }
        prop_assert_eq!(plan(wanted.as_ref(), found.as_ref(), true), vec![]);
        let weights = |servers: &BTreeMap<IpAddr, ActualAs>| servers.iter().map(|(a, s)| (*a, s.weight)).collect::<Vec<_>>();
        let reached = found.as_ref().map(|f| (f.encap, weights(&f.servers)));
        let desired = wanted.as_ref().map(|w| {
            (w.encap, w.servers.iter().map(|(a, s)| (*a, s.weight)).collect::<Vec<_>>())
        });
        prop_assert_eq!(reached, desired);
    }

    #[test]
    fn each_step_keeps_some_weight(wanted in any_wanted(), found in any_found()) {
        prop_assume!(!needs_recreate(&wanted, &found));
        let has_weight = |found: &ActualVip| found.servers.values().any(|s| s.weight > 0);
        prop_assume!(has_weight(&found) && wanted.servers.values().any(|s| s.weight > 0));
        let mut vip = Some(found);
        for step in plan(Some(&wanted), vip.clone().as_ref(), true) {
            apply(&step, &mut vip);
            prop_assert!(has_weight(vip.as_ref().unwrap()), "after {}", step);
        }
    }

    #[test]
    fn each_server_has_at_most_one_step(wanted in any_wanted(), found in any_found()) {
        prop_assume!(!needs_recreate(&wanted, &found));
        let mut servers: Vec<_> = plan(Some(&wanted), Some(&found), true)
            .iter()
            .map(|step| match step {
                Step::AddAs { server, .. } | Step::SetWeight { server, .. } | Step::RemoveAs { server } => *server,
                Step::CreateVip { .. } | Step::RemoveVip => panic!("the VIP itself need not change"),
            })
            .collect();
        let touched = servers.len();
        servers.sort_unstable();
        servers.dedup();
        prop_assert_eq!(servers.len(), touched);
    }
}
