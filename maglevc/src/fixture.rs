//! Answers made by hand, for the tests of everything that shows them.

use std::time::{Duration, SystemTime};

use maglev_proto::Timestamp;
use maglev_proto::v1::{
    Backend, BackendState, Code, Encap, Frontend, FrontendState, GetVpplbCountersResponse, LbBackendCounters,
    LbConf, LbPackets, LbServer, LbVip, LbVipCounters, Outcome, Pool, PoolBackend, ProbeType, Traffic,
    Transition, Verdict, Vip, transition,
};

/// 2026-11-22 12:00:00 UTC plus `seconds`.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds: 1_795_348_800 + seconds, nanos: 0 }
}

/// Ten and a half minutes past noon.
pub fn now() -> SystemTime {
    at(630).try_into().unwrap()
}

pub fn nginx0() -> Backend {
    Backend {
        name: "nginx0".into(),
        address: "192.0.2.10".into(),
        healthcheck: "nginx".into(),
        r#type: ProbeType::Http.into(),
        enabled: true,
        state: BackendState::Down.into(),
        since: Some(at(30)),
        counter: 1,
        rise: 2,
        fall: 3,
        last: Some(Outcome {
            at: Some(at(620)),
            duration: Some(Duration::from_micros(300).try_into().unwrap()),
            verdict: Some(refused()),
        }),
        transitions: vec![went_down()],
        overrides: Vec::new(),
        ..Backend::default()
    }
}

pub fn sorry() -> Backend {
    Backend {
        name: "sorry".into(),
        address: "192.0.2.11".into(),
        r#type: ProbeType::Static.into(),
        enabled: true,
        state: BackendState::Up.into(),
        since: Some(at(0)),
        counter: 1,
        rise: 1,
        fall: 1,
        stale: true,
        ..Backend::default()
    }
}

pub fn went_down() -> Transition {
    Transition {
        from: BackendState::Up.into(),
        to: BackendState::Down.into(),
        at: Some(at(30)),
        cause: Some(transition::Cause::Verdict(refused())),
    }
}

fn refused() -> Verdict {
    Verdict { code: Code::L4con.into(), detail: "connection refused".into() }
}

pub fn web() -> Frontend {
    let member = |name: &str, state: BackendState, weight, effective_weight, vpp_weight| PoolBackend {
        name: name.into(),
        address: "192.0.2.10".into(),
        state: state.into(),
        weight,
        effective_weight,
        vpp_weight,
        vpp_buckets: vpp_weight.map(|weight| weight * 100),
        configured_weight: 100,
        overridden: weight == 50,
    };
    Frontend {
        name: "web".into(),
        description: "the web site".into(),
        vip: Some(vip()),
        state: FrontendState::Up.into(),
        since: Some(at(0)),
        active_pool: "fallback".into(),
        released: true,
        flush_on_down: true,
        encap: Encap::Gre4.into(),
        table_length: 1024,
        distorted: true,
        warnings: vec!["192.0.2.80 is an address of VPP's own".into()],
        pools: vec![
            Pool {
                name: "primary".into(),
                backends: vec![member("nginx0", BackendState::Down, 100, 0, Some(0))],
            },
            Pool { name: "fallback".into(), backends: vec![member("sorry", BackendState::Up, 50, 50, None)] },
        ],
        ..Frontend::default()
    }
}

pub fn vip() -> Vip {
    Vip { prefix: "192.0.2.80".into(), protocol: "tcp".into(), port: 80 }
}

pub fn conf() -> LbConf {
    LbConf {
        ipv4_src_address: "192.0.2.1".into(),
        ipv6_src_address: String::new(),
        sticky_buckets_per_core: 65_536,
        flow_timeout: Some(Duration::from_secs(40).try_into().unwrap()),
    }
}

pub fn lb_counters() -> GetVpplbCountersResponse {
    let route = Some(Traffic { packets: 18, bytes: 1800 });
    let packets = Some(LbPackets { next: 9, first: 1, untracked: 3, no_server: 4 });
    let other = Vip { port: 443, ..vip() };
    GetVpplbCountersResponse {
        read_at: Some(at(628)),
        vips: vec![
            LbVipCounters { vip: Some(vip()), frontend: "web".into(), packets, route },
            LbVipCounters { vip: Some(other), frontend: String::new(), packets: None, route },
        ],
        backends: vec![LbBackendCounters {
            backend: "nginx0".into(),
            address: "192.0.2.10".into(),
            traffic: Some(Traffic { packets: 15, bytes: 1860 }),
        }],
    }
}

pub fn lb_vip() -> LbVip {
    let server = |address: &str, backend: &str, weight, buckets| LbServer {
        address: address.into(),
        backend: backend.into(),
        weight,
        buckets,
    };
    LbVip {
        vip: Some(vip()),
        frontend: "web".into(),
        encap: Encap::Gre4.into(),
        table_length: Some(1024),
        src_ip_sticky: Some(true),
        servers: vec![server("192.0.2.10", "nginx0", 2, 683), server("192.0.2.11", "", 1, 341)],
        failure: String::new(),
    }
}
