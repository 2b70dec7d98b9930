//! Sample answers for tests of the output.

use std::time::{Duration, SystemTime};

use maglev_proto::Timestamp;
use maglev_proto::v1::watch_events_response::Event;
use maglev_proto::v1::{
    Backend, BackendEvent, BackendState, Code, CodeRange, DerivedTimeout, Encap, Frontend, FrontendEvent,
    FrontendState, GetLbCountersResponse, GetVppInfoResponse, Healthcheck, HttpParams, LbBackendCounters,
    LbConf, LbPackets, LbServer, LbVip, LbVipCounters, Outcome, Override, OverrideKind, OverrideMetadata,
    Plan, Pool, PoolBackend, ProbeType, ProberEvent, Reason, TlsParams, TlsVerify, Traffic, Transition,
    Verdict, Vip, VipPlan, WatchEventsResponse, transition,
};

/// Returns 2026-11-22 12:00:00 UTC plus `seconds`.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds: 1_795_348_800 + seconds, nanos: 0 }
}

/// Returns 2026-11-22 12:10:30 UTC.
pub fn now() -> SystemTime {
    at(630).try_into().unwrap()
}

pub fn nginx0() -> Backend {
    Backend {
        name: "nginx0".into(),
        address: "192.0.2.10".into(),
        healthcheck: "nginx".into(),
        r#type: ProbeType::Https.into(),
        enabled: true,
        state: BackendState::Down.into(),
        since: Some(at(30)),
        counter: 1,
        rise: 2,
        fall: 3,
        last: Some(Outcome {
            at: Some((now() - Duration::from_secs(10)).into()),
            duration: Some(Duration::from_micros(300).try_into().unwrap()),
            verdict: Some(refused()),
        }),
        transitions: vec![went_down()],
        overrides: Vec::new(),
        derived_timeout: Some(DerivedTimeout { now: duration(83), min: duration(50), max: duration(1_000) }),
        certificate_expires: Some(at(864_000)),
        certificate_chain_expires: Some(at(777_600)),
        ..Backend::default()
    }
}

pub fn nginx1() -> Backend {
    Backend {
        name: "nginx1".into(),
        address: "192.0.2.12".into(),
        state: BackendState::Paused.into(),
        counter: 4,
        overrides: vec![overrides().remove(0)],
        transitions: Vec::new(),
        certificate_expires: Some(at(-7_200)),
        certificate_chain_expires: Some(at(-7_200)),
        ..nginx0()
    }
}

pub fn overrides() -> Vec<Override> {
    let metadata = OverrideMetadata {
        reason: "disk swap".into(),
        lifetime: Some(Duration::from_secs(7_200).try_into().unwrap()),
    };
    let weight = Override {
        frontend: "web".into(),
        pool: "fallback".into(),
        weight: Some(50),
        ..override_of("sorry", OverrideKind::Weight, None)
    };
    let gone = Override { dangling: true, ..override_of("sor", OverrideKind::Disabled, None) };
    vec![override_of("nginx1", OverrideKind::Paused, Some(metadata)), gone, weight]
}

/// Returns an override that alice made at 12:00:30.
pub fn override_of(backend: &str, kind: OverrideKind, metadata: Option<OverrideMetadata>) -> Override {
    let metadata = metadata.unwrap_or_default();
    let expires = metadata.lifetime.map(|lifetime| at(30 + lifetime.seconds));
    Override {
        kind: kind.into(),
        backend: backend.into(),
        actor: "alice (uid 1000)".into(),
        at: Some(at(30)),
        reason: metadata.reason,
        expires,
        ..Override::default()
    }
}

fn duration(millis: u64) -> Option<maglev_proto::Duration> {
    Some(Duration::from_millis(millis).try_into().unwrap())
}

pub fn healthcheck() -> Healthcheck {
    Healthcheck {
        name: "nginx".into(),
        r#type: ProbeType::Https.into(),
        interval: duration(2_000),
        fast_interval: duration(500),
        down_interval: duration(10_000),
        timeout: duration(1_000),
        timeout_min: duration(50),
        rise: 2,
        fall: 3,
        probe_ipv4_src: "192.0.2.9".into(),
        probe_ipv6_src: String::new(),
        port: 443,
        http: Some(HttpParams {
            path: "/healthz".into(),
            host: "example.org".into(),
            response_codes: vec![CodeRange { first: 200, last: 299 }],
            response_regexp: String::new(),
            keep_alive_requests: Some(10),
        }),
        tcp: None,
        tls: Some(TlsParams { server_name: String::new(), verify: TlsVerify::System.into() }),
    }
}

pub fn reasons() -> Vec<Reason> {
    let reason = |topic: &str, text: &str| Reason { topic: topic.into(), text: text.into() };
    vec![
        reason("state", "down since 10m0s ago, because 3 probes in a row failed"),
        reason("probes", "the newest: L4CON connection refused"),
        reason("weight", "0 of 100 in pool primary of web: only what is up has weight"),
    ]
}

pub fn vpp_info() -> GetVppInfoResponse {
    GetVppInfoResponse {
        version: "26.10-release".into(),
        build_date: "2026-10-28T12:00:00".into(),
        pid: 4711,
        boot_time: Some(at(-86_400)),
        connected_since: Some(at(0)),
    }
}

pub fn plan() -> Plan {
    let set = VipPlan {
        vip: Some(vip()),
        frontend: "web".into(),
        steps: vec!["set 192.0.2.11 weight 3 -> 1".into()],
        new_flows_moved: Some(0.254),
        flows_flushed: Some(17),
        recreates_vip: false,
    };
    let notes = vec!["unknown until they are probed, then further steps: nginx1".to_owned()];
    Plan { updates_global_conf: false, vips: vec![set], notes, reading_age: duration(3000) }
}

/// Returns the replay at noon.
pub fn replay() -> Vec<WatchEventsResponse> {
    let backend =
        BackendEvent { name: "nginx0".into(), address: "192.0.2.10".into(), transition: Some(went_down()) };
    let frontend = FrontendEvent {
        name: "web".into(),
        from: FrontendState::Up.into(),
        to: FrontendState::Up.into(),
        active_pool: "fallback".into(),
    };
    let events =
        [Event::Prober(ProberEvent { connected: true }), Event::Backend(backend), Event::Frontend(frontend)];
    let replayed = |event| WatchEventsResponse { at: Some(at(0)), replay: true, event: Some(event) };
    events.map(replayed).into()
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
        address: if name == "sorry" { "192.0.2.11" } else { "192.0.2.10" }.into(),
        state: state.into(),
        weight,
        effective_weight,
        vpp_weight,
        vpp_buckets: vpp_weight.map(|weight| weight * 100),
        configured_weight: 100,
        rounded_weight: weight,
        overridden: weight == 50,
    };
    Frontend {
        name: "web".into(),
        description: "the web site".into(),
        vip: Some(vip()),
        state: FrontendState::Up.into(),
        since: Some(at(0)),
        active_pool: "fallback".into(),
        startup_done: true,
        flush_on_down: true,
        encap: Encap::Gre4.into(),
        table_length: 1024,
        weights_exceed_table: true,
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

pub fn lb_counters() -> GetLbCountersResponse {
    let route = Some(Traffic { packets: 18, bytes: 1800 });
    let packets = Some(LbPackets { existing_flow: 9, first: 1, untracked: 3, no_server: 4 });
    let other = Vip { port: 443, ..vip() };
    GetLbCountersResponse {
        read_at: Some(at(628)),
        vips: vec![
            LbVipCounters { vip: Some(vip()), frontend: "web".into(), packets, route, weight: 0 },
            LbVipCounters { vip: Some(other), frontend: String::new(), packets: None, route, weight: 3 },
        ],
        backends: vec![LbBackendCounters {
            backend: "nginx0".into(),
            address: "192.0.2.10".into(),
            traffic: Some(Traffic { packets: 15, bytes: 1860 }),
        }],
        stray_packets: Some(5),
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
        desired_table_length: None,
    }
}
