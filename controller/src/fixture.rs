//! Fixture for tests: a hand-made view, and a task that serves it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use maglev_core::config::{self, Backend, Config, ForeignVips, Frontend, Healthcheck, Lb, Pool, Probe};
use maglev_core::dataplane::{ActualAs, ActualState, ActualVip, Encap, LbConf, VipKey};
use maglev_core::event::{Event, Kind};
use maglev_core::failover::FrontendState;
use maglev_core::health::{Health, LastOutcome, ProbeCounters, Transition, TransitionCause};
use maglev_core::state::State;
use maglev_core::time::{MonoTime, Now, WallTime};
use maglev_core::view::{
    BackendView, FrontendView, MemberView, PoolView, ProberView, Problems, View, VppInfo, VppView,
};
use maglev_ipc::{CertificateExpiry, OutcomeCode, OutcomeDetail, ProbeTimeout, ProberStats};
use maglev_vpp::stats::CombinedCounter;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::driver::{Driver, DriverChannels};
use crate::handle::{DriverRequest, Handle, HandleEnds, StateSnapshot};
use crate::metrics::Metrics;
use crate::published::{PersistStatus, TrafficCounters, VipCounters, VipPackets};
use crate::service_manager::DriverStatus;

/// Last group of the address of `nginx0`.
const NGINX0: u16 = 0x10;

/// Last group of the address of `sorry`.
const SORRY: u16 = 0x11;

/// End of the validity of `nginx0`'s certificate: 2026-12-02 12:00:00 UTC, in seconds since the Unix epoch.
const NOT_AFTER: u64 = 1_796_212_800;
/// Earliest expiry of its chain, a day before.
const CHAIN_NOT_AFTER: u64 = NOT_AFTER - 86_400;

/// Returns 2026-11-22 12:00:00 UTC plus `seconds`.
pub const fn wall(seconds: u64) -> WallTime {
    WallTime((1_795_348_800 + seconds) * 1_000_000_000)
}

/// Returns a handle on a task that answers every request with `view` and the initial state of its configuration.
pub fn owner(view: View) -> Handle {
    owner_with_counters(view).0
}

/// Like [`owner`], with the sender of traffic counters.
pub fn owner_with_counters(view: View) -> (Handle, watch::Sender<Option<Arc<TrafficCounters>>>) {
    let (handle, HandleEnds { mut requests, counters, .. }) = Handle::new();
    let view = Arc::new(view);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            match request {
                DriverRequest::Reload(..)
                | DriverRequest::ReadVpp(_)
                | DriverRequest::Resync(_)
                | DriverRequest::Operate(..) => {
                    panic!("there is only a view to be had here")
                }
                DriverRequest::Snapshot(reply) => {
                    let state =
                        State::new(view.config.clone(), Arc::default(), true, view.at, &mut Vec::new());
                    drop(reply.send(Arc::new(StateSnapshot::showing(view.clone(), state))));
                }
            }
        }
    });
    (handle, counters)
}

/// Returns a handle on a driver with the configuration of [`view`], without prober and VPP. `status` is the state of
/// the disk.
pub fn driven(status: PersistStatus) -> (Handle, watch::Sender<PersistStatus>) {
    let (handle, HandleEnds { requests, events, persist_status, .. }) = Handle::new();
    persist_status.send_replace(status);
    let metrics = Arc::new(Metrics::new().unwrap());
    let (pending_write, pending) = watch::channel((0, Arc::default()));
    let (prober, probed) = mpsc::unbounded_channel();
    let (inputs, input_receiver) = mpsc::channel(1);
    let channels = DriverChannels {
        inputs: input_receiver,
        requests,
        events,
        prober,
        netns: watch::channel(None).0,
        vpp: None,
        index_changes: broadcast::channel(1).0,
        pending_write,
        owned_vips: watch::channel(Default::default()).0,
        driver_status: DriverStatus::default(),
    };
    let driver = Driver::new(Arc::new(config()), metrics, channels, crate::clock::SystemClock);
    tokio::spawn(async move {
        driver.run(CancellationToken::new()).await;
        drop((inputs, probed, pending));
    });
    (handle, persist_status)
}

/// Returns a backend's transition.
pub fn went(from: Health, to: Health, at: WallTime, code: OutcomeCode, detail: OutcomeDetail) -> Transition {
    Transition { from, to, at, cause: TransitionCause::Outcome { code, detail } }
}

/// Returns the event of `nginx0` going down.
pub fn nginx0_down() -> Event {
    let transition =
        went(Health::Up, Health::Down, wall(700), OutcomeCode::L4Con, "connection refused".into());
    let kind = Kind::Backend { name: "nginx0".into(), address: address(NGINX0), transition };
    Event { at: wall(700), kind }
}

/// Returns a view of one frontend, `web`: `nginx0` is up in its first pool, the static `sorry` is standby in its
/// second, and VPP and the prober are connected.
pub fn view() -> View {
    View {
        at: Now { mono: MonoTime(0), wall: wall(630) },
        config: Arc::new(config()),
        backends: vec![nginx0(), sorry()],
        frontends: vec![web()],
        prober: ProberView {
            connected: true,
            since: wall(1),
            mass_failure_pending: false,
            stats: ProberStats {
                probes: 1000,
                unmatched: 7,
                delayed_by_stall: 3,
                tls_resumptions: 40,
                ..ProberStats::default()
            },
            rejected_checks: Vec::new(),
        },
        vpp: vpp(),
        overrides: Arc::default(),
    }
}

/// Returns VPP's counters of that frontend, of a second VIP on its address, and of `nginx0`.
pub fn counters() -> TrafficCounters {
    let route = Some(CombinedCounter { packets: 18, bytes: 1800 });
    let packets = Some(VipPackets { next: 9, first: 1, untracked: 3, no_server: 4 });
    let other = VipKey { port: 443, ..vip() };
    TrafficCounters {
        at: SystemTime::UNIX_EPOCH + Duration::from_nanos(wall(629).0),
        vips: BTreeMap::from([
            (vip(), VipCounters { packets, route, weight: 3 }),
            (other, VipCounters { packets: None, route, weight: 0 }),
        ]),
        servers: BTreeMap::from([(address(NGINX0), CombinedCounter { packets: 15, bytes: 1860 })]),
        strays: Some(5),
    }
}

fn address(last: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last).into()
}

fn vip() -> VipKey {
    VipKey::host(Ipv4Addr::new(192, 0, 2, 80).into(), 6, 80)
}

/// Returns the configuration of that view.
pub fn config() -> Config {
    let healthcheck = Healthcheck {
        probe: Probe::Http {
            port: 80,
            path: "/healthz".into(),
            host: Some("example.org".into()),
            codes: vec![(200, 299), (304, 304)],
            body: None,
            keep_alive: None,
            tls: Some(config::Tls { server_name: None, verify: config::Verify::System }),
        },
        interval: Duration::from_secs(2),
        fast_interval: Duration::from_millis(500),
        down_interval: Duration::from_secs(10),
        timeout: ProbeTimeout::Auto { min: Duration::from_millis(50), max: Duration::from_secs(1) },
        rise: 2,
        fall: 3,
        source4: None,
        source6: None,
    };
    let pool = |name: &str, backend: &str, weight| Pool {
        name: name.into(),
        backends: BTreeMap::from([(backend.into(), weight)]),
    };
    let frontend = Frontend {
        description: "the web site".into(),
        vip: vip(),
        encap: Encap::Gre6,
        src_ip_sticky: false,
        flush_on_down: true,
        table_length: None,
        weight_step: None,
        pools: vec![pool("primary", "nginx0", 100), pool("fallback", "sorry", 10)],
    };
    let backend = |last, healthcheck: Option<&str>| Backend {
        address: address(last),
        healthcheck: healthcheck.map(Into::into),
        enabled: true,
    };
    Config {
        transition_history: 5,
        mass_failure_threshold: 100,
        netns: None,
        lb: Lb {
            sync_interval: Duration::from_secs(30),
            conf: conf(),
            startup_min_delay: Duration::ZERO,
            startup_max_delay: Duration::from_secs(30),
            foreign_vips: ForeignVips::Remove,
            allow_no_frontends: false,
        },
        healthchecks: BTreeMap::from([("nginx".into(), Arc::new(healthcheck))]),
        backends: BTreeMap::from([
            ("nginx0".into(), backend(NGINX0, Some("nginx"))),
            ("sorry".into(), backend(SORRY, None)),
        ]),
        frontends: BTreeMap::from([("web".into(), Arc::new(frontend))]),
        api: config::Api::default(),
    }
}

const fn conf() -> LbConf {
    LbConf {
        ipv4_src: Ipv4Addr::BROADCAST,
        ipv6_src: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        sticky_buckets_per_core: 65_536,
        flow_timeout: 40,
    }
}

fn nginx0() -> BackendView {
    BackendView {
        name: "nginx0".into(),
        address: address(NGINX0),
        healthcheck: Some("nginx".into()),
        kind: "https",
        enabled: true,
        health: Health::Up,
        counter: 4,
        rise: 2,
        fall: 3,
        stale: false,
        hidden: false,
        since: wall(3),
        last: Some(LastOutcome {
            at: wall(629),
            duration: Duration::from_micros(1200),
            code: OutcomeCode::L7Ok,
            detail: OutcomeDetail::Status(200),
            timeout: Some(Duration::from_millis(83)),
        }),
        probes: ProbeCounters::default(),
        not_after: Some(CertificateExpiry { leaf: NOT_AFTER, chain: CHAIN_NOT_AFTER }),
        transitions: vec![went(
            Health::Unknown,
            Health::Up,
            wall(3),
            OutcomeCode::L7Ok,
            OutcomeDetail::Status(200),
        )],
    }
}

fn sorry() -> BackendView {
    BackendView {
        name: "sorry".into(),
        address: address(SORRY),
        healthcheck: None,
        kind: "static",
        counter: 1,
        rise: 1,
        fall: 1,
        last: None,
        not_after: None,
        transitions: Vec::new(),
        ..nginx0()
    }
}

fn web() -> FrontendView {
    let member = |name: &str, last, weight, effective, in_vpp, buckets| MemberView {
        name: name.into(),
        address: address(last),
        health: Health::Up,
        weight,
        configured: weight,
        overridden: false,
        rounded: weight,
        effective,
        in_vpp: Some(in_vpp),
        buckets: Some(buckets),
    };
    let primary =
        PoolView { name: "primary".into(), backends: vec![member("nginx0", NGINX0, 100, 100, 10, 1024)] };
    let fallback = PoolView { name: "fallback".into(), backends: vec![member("sorry", SORRY, 10, 0, 0, 0)] };
    FrontendView {
        name: "web".into(),
        state: FrontendState::Up,
        since: wall(3),
        startup_done: true,
        active_pool: Some(0),
        pools: vec![primary, fallback],
        table_length: 1024,
        weights_exceed_table: false,
        other_table: false,
        problems: Problems::default(),
        warnings: Vec::new(),
    }
}

fn vpp() -> VppView {
    let servers = BTreeMap::from([
        (address(NGINX0), ActualAs { weight: 10, buckets: 1024 }),
        (address(SORRY), ActualAs { weight: 0, buckets: 0 }),
    ]);
    let ours =
        ActualVip { encap: Encap::Gre6, table_length: Some(1024), src_ip_sticky: Some(false), servers };
    VppView {
        enabled: true,
        info: Some(VppInfo {
            version: "26.10-release".into(),
            build_date: "2026-10-28T12:00:00".into(),
            pid: 4711,
            boot: Some(wall(0)),
        }),
        since: wall(2),
        actual: Some(Arc::new(ActualState { conf: Some(conf()), vips: BTreeMap::from([(vip(), ours)]) })),
        failing: Vec::new(),
    }
}
