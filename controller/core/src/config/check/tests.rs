//! Every accepted configuration can be served. The rules themselves are tested beside the file reader.

use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec;
use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use maglev_ipc::bundle::certificates;
use maglev_ipc::{HttpCheck, ProbeKind, regexp};
use maglev_time::TextDuration;
use proptest::collection::vec as many;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;

use super::super::ForeignVips;
use super::super::file::{
    Address, Healthcheck, Mode, Named, Params, Pool, PoolEntry, ProbeType, Protocol, Timeout,
};
use super::*;
use crate::dataplane::{ANY_PROTOCOL, Encap};

const PEM: &str = include_str!("../../../../../ipc/tests/self-signed.pem");

fn no_files(_: &str) -> Result<Vec<u8>, String> {
    Err("not found".to_owned())
}

#[test]
fn repeated_errors_are_bounded() {
    let mut problems = Vec::new();
    let mut scope = Scope { place: Place::Root("here"), problems: &mut problems };
    for _ in 0..2 * MAX_PROBLEMS {
        scope.refuse::<()>("wrong");
    }
    assert_eq!(problems.len(), MAX_PROBLEMS + 1);
    assert_eq!(problems[MAX_PROBLEMS].to_string(), "maglev: more is wrong than these 1000 things");
}

fn address() -> impl Strategy<Value = Address> {
    let v4 = (1..250_u8).prop_map(|last| IpAddr::from([192, 0, 2, last]));
    let odd = [
        "2001:db8::1",
        "fe80::1",
        "127.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "::1",
        "::192.0.2.1",
        "::ffff:192.0.2.1",
    ];
    let odd = select(odd.to_vec()).prop_map(|text| text.parse().unwrap());
    prop_oneof![40 => v4, 1 => odd].prop_map(Address)
}

fn span() -> impl Strategy<Value = Option<TextDuration>> {
    let millis = prop_oneof![20 => 10_u64..60_000, 1 => 0..10_000_000_u64];
    weighted(0.2, millis.prop_map(|ms| TextDuration(Duration::from_millis(ms))))
}

fn timeouts() -> impl Strategy<Value = (Option<Timeout>, Option<TextDuration>, Option<TextDuration>)> {
    let fixed = span().prop_map(|span| (span.map(Timeout::Fixed), None, None));
    let bound = |usual: core::ops::Range<u64>| {
        let millis = prop_oneof![20 => usual, 1 => 0..100_000_u64];
        weighted(0.5, millis.prop_map(|ms| TextDuration(Duration::from_millis(ms))))
    };
    let bounds = (bound(1..500), bound(500..60_000));
    let auto = bounds.prop_map(|(min, max)| (Some(Timeout::Auto), min, max));
    prop_oneof![3 => fixed, 1 => auto]
}

fn text(good: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    let odd = ["a{1,400}b{1,400}", "example.org.", "-a", "1.2"].map(String::from).to_vec();
    weighted(0.3, prop_oneof![20 => select(good).prop_map(String::from), 1 => "\\PC{0,8}", 1 => select(odd)])
}

fn params(kind: ProbeType) -> impl Strategy<Value = Params> {
    let all = (
        text(&["/", "/healthz?a=b"]),
        text(&["example.org", "example.org:8080", "[2001:db8::1]:80", "192.0.2.1"]),
        text(&["200", "200-299", "200, 301-302"]),
        text(&["ok", "^a[bc]+$", "x.{0,5}y"]),
        any::<bool>(),
        text(&["example.org", "2001:db8::1", "a_b.example"]),
        weighted(0.1, any::<bool>()),
        text(&["/ca.pem"]),
        (
            weighted(0.3, weighted(0.5, prop_oneof![20 => 2..20_i64, 1 => any::<i64>()])),
            weighted(0.3, select(vec![Mode::Full, Mode::HalfOpen])),
        ),
    );
    all.prop_map(
        move |(
            path,
            host,
            response_code,
            response_regexp,
            tls,
            server_name,
            insecure,
            ca_file,
            (kept, mode),
        )| {
            let http = matches!(kind, ProbeType::Http | ProbeType::Https);
            let with_tls = kind == ProbeType::Https || (kind == ProbeType::Tcp && tls);
            Params {
                path: path.filter(|_| http),
                host: host.filter(|_| http),
                response_code: response_code.filter(|_| http),
                response_regexp: response_regexp.filter(|_| http),
                keep_alive: kept.map(|_| true).filter(|_| http),
                keep_alive_requests: kept.flatten().filter(|_| http),
                mode: mode.filter(|_| kind == ProbeType::Tcp && !tls),
                tls: (kind == ProbeType::Tcp).then_some(tls),
                server_name: server_name.filter(|_| with_tls),
                insecure_skip_verify: insecure.filter(|_| with_tls),
                ca_file: ca_file.filter(|_| with_tls),
            }
        },
    )
}

fn healthcheck() -> impl Strategy<Value = Healthcheck> {
    let kinds = select(vec![ProbeType::Icmp, ProbeType::Tcp, ProbeType::Http, ProbeType::Https]);
    kinds.prop_flat_map(|kind| {
        let counts = weighted(0.2, prop_oneof![20 => 1..5_i64, 1 => any::<i64>()]);
        let port = prop_oneof![20 => 1..65535_i64, 1 => any::<i64>()]
            .prop_map(move |p| (kind != ProbeType::Icmp).then_some(p));
        let all = (
            port,
            span(),
            timeouts(),
            counts,
            weighted(0.1, address()),
            weighted(0.1, address()),
            params(kind),
        );
        all.prop_map(
            move |(
                port,
                interval,
                (timeout, timeout_min, timeout_max),
                rise,
                probe_ipv4_src,
                probe_ipv6_src,
                params,
            )| {
                Healthcheck {
                    kind: Some(kind),
                    port,
                    interval,
                    timeout,
                    timeout_min,
                    timeout_max,
                    rise,
                    probe_ipv4_src,
                    probe_ipv6_src,
                    params,
                    ..Healthcheck::default()
                }
            },
        )
    })
}

fn frontend() -> impl Strategy<Value = file::Frontend> {
    let service = prop_oneof![
        Just((None, None)),
        (select(vec![Protocol::Tcp, Protocol::Udp]), 79..82_i64).prop_map(|(p, port)| (Some(p), Some(port))),
    ];
    let vips = select(vec!["198.51.100.1", "198.51.100.2", "2001:db8:1::1", "::198.51.100.1"]);
    let vips = vips.prop_map(|text| Address(text.parse().unwrap()));
    let member = (0..5_usize, weighted(0.5, prop_oneof![20 => 0..=100_i64, 1 => any::<i64>()]));
    let length = weighted(0.1, select(vec![0, 1024, 1 << 20, 1 << 30, 1000]));
    (vips, service, many(member, 1..3), length).prop_map(
        |(address, (protocol, port), members, table_length)| {
            let member = |(n, weight): (usize, _)| (n.to_string(), PoolEntry { weight });
            let pool =
                Pool { name: Some("p".into()), backends: Named(members.into_iter().map(member).collect()) };
            let address = Some(address);
            file::Frontend {
                address,
                protocol,
                port,
                table_length,
                pools: vec![pool],
                ..file::Frontend::default()
            }
        },
    )
}

fn numbered<T>(things: Vec<T>) -> Named<T> {
    Named(things.into_iter().enumerate().map(|(n, thing)| (n.to_string(), thing)).collect())
}

fn documents() -> impl Strategy<Value = File> {
    let backend = (address(), weighted(0.7, 0..3_usize)).prop_map(|(address, check)| file::Backend {
        address: Some(address),
        healthcheck: check.map(|n| n.to_string()),
        enabled: None,
    });
    let buckets = weighted(0.1, select(vec![0, 1, 1024, 1000, 1 << 22, 1 << 31]));
    let all = (many(healthcheck(), 3), many(backend, 5), many(frontend(), 0..4), buckets);
    all.prop_map(|(checks, backends, frontends, sticky_buckets_per_core)| {
        let mut file = File::default();
        file.maglev.vpp.lb.ipv4_src_address = Some(Address("192.0.2.9".parse().unwrap()));
        file.maglev.vpp.lb.ipv6_src_address = Some(Address("2001:db8::9".parse().unwrap()));
        file.maglev.vpp.lb.sticky_buckets_per_core = sticky_buckets_per_core;
        file.maglev.healthchecks = numbered(checks);
        file.maglev.backends = numbered(backends);
        file.maglev.frontends = numbered(frontends);
        file
    })
}

/// Asserts that the configuration has nothing that crashes VPP or that VPP rejects or misreads.
fn vpp_takes(config: &Config) {
    assert!(config.lb.conf.sticky_buckets_per_core.is_power_of_two());
    let mut keys = BTreeSet::new();
    for frontend in config.frontends.values() {
        let vip = frontend.vip;
        assert!(keys.insert(vip), "{vip} twice");
        assert_eq!(vip.prefix_len, if vip.address.is_ipv4() { 32 } else { 128 });
        assert_eq!(vip.protocol == ANY_PROTOCOL, vip.port == 0);
        assert!(frontend.table_length.is_none_or(u32::is_power_of_two));
        let mut servers = BTreeSet::new();
        for (_, name, weight) in frontend.members() {
            let server = config.backends[name].address;
            assert!(servers.insert(server), "{server} twice in {vip}");
            assert_eq!(server.is_ipv4(), frontend.encap == Encap::Gre4);
            assert!(weight <= 100);
        }
        for address in servers.iter().chain([&vip.address]) {
            assert!(!matches!(address, IpAddr::V6(v6) if v6.to_bits() >> 32 == 0), "{address}");
        }
        for other in config.frontends.values().filter(|other| other.vip.same_prefix(&vip)) {
            assert_eq!(other.vip.port == 0, vip.port == 0);
            assert_eq!(other.encap, frontend.encap);
        }
    }
}

proptest! {
    #[test]
    fn accepted_configuration_can_be_served(file in documents()) {
        let mut read = |_: &str| Ok(PEM.as_bytes().to_vec());
        let Ok(config) = check(&file, &mut read) else { return Ok(()) };
        for backend in config.backends.values() {
            let Some(name) = &backend.healthcheck else { continue };
            let check = config.healthchecks[name].check(backend.address);
            prop_assert_eq!(check.validate(), Ok(()));
            prop_assert_eq!(config.healthchecks[name].bundle().map(|b| certificates(&b.pem).map(drop)).unwrap_or(Ok(())), Ok(()));
            if let ProbeKind::Http { http: HttpCheck { body: Some(pattern), .. }, .. } = &check.probe {
                prop_assert_eq!(regexp::compile(pattern).map(drop), Ok(()));
            }
        }
        vpp_takes(&config);
    }
}

#[test]
fn generator_yields_accepted_configurations() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut read = |_: &str| Ok(PEM.as_bytes().to_vec());
    let mut accepted = 0;
    for _ in 0..500 {
        let file = documents().new_tree(&mut runner).unwrap().current();
        let config = check(&file, &mut read);
        accepted += usize::from(config.is_ok_and(|config| !config.frontends.is_empty()));
    }
    assert!(accepted > 50, "{accepted} of 500");
}

#[test]
fn defaults_match_documentation() {
    let config = check(&File::default(), &mut no_files).unwrap();
    assert_eq!(config.transition_history, 5);
    assert_eq!(config.netns, None);
    assert_eq!(config.lb.sync_interval, Duration::from_secs(30));
    assert_eq!(config.lb.startup_min_delay, Duration::ZERO);
    assert_eq!(config.lb.startup_max_delay, Duration::from_secs(30));
    assert_eq!(config.lb.foreign_vips, ForeignVips::Remove);
    assert_eq!(config.lb.conf.sticky_buckets_per_core, 65536);
    assert_eq!(config.lb.conf.flow_timeout, 40);
    assert_eq!(config.lb.conf.ipv4_src, Ipv4Addr::BROADCAST);
    assert_eq!(config.lb.conf.ipv6_src.to_bits(), u128::MAX);
}
