//! Random configurations, and random changes to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use maglev_core::config::{Api, Backend, Config, ForeignVips, Frontend, Healthcheck, Lb, Pool, Probe};
use maglev_core::dataplane::{Encap, LbConf, VipKey};
use maglev_ipc::ProbeTimeout;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::vpp;

/// The first half of the backends is IPv4, the second IPv6.
pub const BACKENDS: usize = 8;
const FRONTENDS: usize = 4;
pub const SYNC_INTERVAL: Duration = Duration::from_secs(3);

/// Parts of a configuration. Frontends that VPP would reject are left out of the configuration, but not of the shape.
#[derive(Clone, Debug)]
pub struct ConfigShape {
    backends: Vec<BackendShape>,
    frontends: Vec<FrontendShape>,
    /// Rise and fall of each healthcheck.
    thresholds: Vec<(u32, u32)>,
    foreign: ForeignVips,
    /// `startup-min-delay` and how much longer `startup-max-delay` is, in seconds.
    startup_delays: (u64, u64),
    flow_timeout: u32,
}

#[derive(Clone, Debug)]
struct BackendShape {
    present: bool,
    /// Last byte of its address, unique.
    host: u8,
    healthcheck: Option<usize>,
    enabled: bool,
}

#[derive(Clone, Debug)]
pub struct FrontendShape {
    present: bool,
    address: usize,
    port: u16,
    gre6: bool,
    src_ip_sticky: bool,
    flush_on_down: bool,
    pools: Vec<BTreeMap<usize, u8>>,
}

/// A change to a configuration.
#[derive(Clone, Debug)]
pub enum ConfigMutation {
    Nothing,
    Present(usize),
    Move(usize),
    Swap(usize, usize),
    Check(usize, Option<usize>),
    Enabled(usize),
    Thresholds(usize, (u32, u32)),
    Frontend(usize, FrontendShape),
    Sticky(usize),
    Flush(usize),
    Weight(usize, usize, u8),
    Foreign,
    FlowTimeout(u32),
}

pub fn shapes() -> impl Strategy<Value = ConfigShape> {
    let hosts = Just((1..=BACKENDS as u8).collect::<Vec<_>>()).prop_shuffle();
    let backend =
        (prop::bool::weighted(0.9), prop::option::weighted(0.8, 0..2usize), prop::bool::weighted(0.9));
    (
        (hosts, vec(backend, BACKENDS)),
        vec(frontends(), FRONTENDS),
        vec(thresholds(), 2),
        prop_oneof![Just(ForeignVips::Remove), Just(ForeignVips::Keep)],
        (0..3u64, 0..4u64),
    )
        .prop_map(|((hosts, backends), frontends, thresholds, foreign, startup_delays)| {
            let backends = hosts.into_iter().zip(backends).map(|(host, (present, healthcheck, enabled))| {
                BackendShape { present, host, healthcheck, enabled }
            });
            ConfigShape {
                backends: backends.collect(),
                frontends,
                thresholds,
                foreign,
                startup_delays,
                flow_timeout: 40,
            }
        })
}

fn thresholds() -> impl Strategy<Value = (u32, u32)> {
    (1..4u32, 1..4u32)
}

pub fn weights() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(50), Just(100), 0..=100u8]
}

fn frontends() -> impl Strategy<Value = FrontendShape> {
    let port = prop_oneof![Just(0u16), Just(80), Just(443)];
    let pools = vec(btree_map(0..BACKENDS / 2, weights(), 0..4), 1..4);
    let flags = (prop::bool::weighted(0.8), prop::bool::weighted(0.3), any::<bool>(), any::<bool>());
    (0..3usize, port, flags, pools).prop_map(|(address, port, flags, pools)| {
        let (present, gre6, src_ip_sticky, flush_on_down) = flags;
        FrontendShape { present, address, port, gre6, src_ip_sticky, flush_on_down, pools }
    })
}

pub fn mutations() -> impl Strategy<Value = ConfigMutation> {
    let (b, f) = (0..BACKENDS, 0..FRONTENDS);
    prop_oneof![
        Just(ConfigMutation::Nothing),
        b.clone().prop_map(ConfigMutation::Present),
        b.clone().prop_map(ConfigMutation::Move),
        (b.clone(), b.clone()).prop_map(|(x, y)| ConfigMutation::Swap(x, y)),
        (b.clone(), prop::option::of(0..2usize)).prop_map(|(b, h)| ConfigMutation::Check(b, h)),
        b.clone().prop_map(ConfigMutation::Enabled),
        (0..2usize, thresholds()).prop_map(|(h, l)| ConfigMutation::Thresholds(h, l)),
        (f.clone(), frontends()).prop_map(|(f, shape)| ConfigMutation::Frontend(f, shape)),
        f.clone().prop_map(ConfigMutation::Sticky),
        f.clone().prop_map(ConfigMutation::Flush),
        (f, b, weights()).prop_map(|(f, b, w)| ConfigMutation::Weight(f, b, w)),
        Just(ConfigMutation::Foreign),
        (1..121u32).prop_map(ConfigMutation::FlowTimeout),
    ]
}

impl ConfigShape {
    pub fn mutate(&mut self, mutation: &ConfigMutation) {
        match mutation {
            ConfigMutation::Nothing => {}
            ConfigMutation::Present(b) => self.backends[*b].present ^= true,
            ConfigMutation::Move(b) => self.backends[*b].host = self.backends[*b].host % 200 + 10,
            ConfigMutation::Swap(x, y) => {
                let (x_host, y_host) = (self.backends[*x].host, self.backends[*y].host);
                (self.backends[*x].host, self.backends[*y].host) = (y_host, x_host);
            }
            ConfigMutation::Check(b, healthcheck) => self.backends[*b].healthcheck = *healthcheck,
            ConfigMutation::Enabled(b) => self.backends[*b].enabled ^= true,
            ConfigMutation::Thresholds(h, thresholds) => self.thresholds[*h] = *thresholds,
            ConfigMutation::Frontend(f, shape) => self.frontends[*f] = shape.clone(),
            ConfigMutation::Sticky(f) => self.frontends[*f].src_ip_sticky ^= true,
            ConfigMutation::Flush(f) => self.frontends[*f].flush_on_down ^= true,
            ConfigMutation::Weight(f, b, weight) => {
                _ = self.frontends[*f].pools[0].insert(*b % (BACKENDS / 2), *weight);
            }
            ConfigMutation::Foreign => {
                self.foreign = match self.foreign {
                    ForeignVips::Remove => ForeignVips::Keep,
                    ForeignVips::Keep => ForeignVips::Remove,
                };
            }
            ConfigMutation::FlowTimeout(seconds) => self.flow_timeout = *seconds,
        }
    }

    /// Adds a startup hold, so that a restart changes nothing.
    pub fn with_startup_hold(mut self) -> Self {
        self.startup_delays.1 += 10;
        self
    }

    pub fn config(&self) -> Arc<Config> {
        let healthchecks =
            self.thresholds.iter().enumerate().map(|(h, l)| (named('h', h), Arc::new(healthcheck(*l))));
        let present = self.backends.iter().enumerate().filter(|(_, b)| b.present);
        let backends = present.map(|(i, b)| {
            let healthcheck = b.healthcheck.map(|h| named('h', h));
            (named('b', i), Backend { address: address(i, b.host), healthcheck, enabled: b.enabled })
        });
        Arc::new(Config {
            transition_history: 3,
            mass_failure_threshold: 100,
            netns: None,
            lb: Lb {
                sync_interval: SYNC_INTERVAL,
                conf: LbConf { flow_timeout: self.flow_timeout, ..vpp::CONF },
                startup_min_delay: Duration::from_secs(self.startup_delays.0),
                startup_max_delay: Duration::from_secs(self.startup_delays.0 + self.startup_delays.1),
                foreign_vips: self.foreign,
                allow_no_frontends: true,
            },
            healthchecks: healthchecks.collect(),
            backends: backends.collect(),
            frontends: self.valid_frontends(),
            api: Api::default(),
        })
    }

    fn valid_frontends(&self) -> BTreeMap<Arc<str>, Arc<Frontend>> {
        let mut frontends: BTreeMap<_, Arc<Frontend>> = BTreeMap::new();
        for (i, shape) in self.frontends.iter().enumerate().filter(|(_, f)| f.present) {
            let frontend = self.frontend(shape);
            let conflicts = |other: &Arc<Frontend>| {
                vpp::refusal((&other.vip, other.encap), (&frontend.vip, frontend.encap)).is_some()
            };
            if !frontends.values().any(conflicts) {
                frontends.insert(named('f', i), Arc::new(frontend));
            }
        }
        frontends
    }

    fn frontend(&self, shape: &FrontendShape) -> Frontend {
        let mut used = BTreeSet::new();
        let mut members = |pool: &BTreeMap<usize, u8>| {
            let member = |(b, weight): (&usize, &u8)| {
                let b = if shape.gre6 { b + BACKENDS / 2 } else { *b };
                (self.backends[b].present && used.insert(b)).then(|| (named('b', b), *weight))
            };
            pool.iter().filter_map(member).collect()
        };
        let pool = |(i, pool)| Pool { name: named('p', i), backends: members(pool) };
        let pools = shape.pools.iter().enumerate().map(pool).collect();
        let protocol = if shape.port == 0 { 255 } else { 6 };
        Frontend {
            description: String::new(),
            vip: VipKey::host(vip_address(shape.address), protocol, shape.port),
            encap: if shape.gre6 { Encap::Gre6 } else { Encap::Gre4 },
            src_ip_sticky: shape.src_ip_sticky,
            flush_on_down: shape.flush_on_down,
            table_length: None,
            weight_step: None,
            pools,
        }
    }
}

/// Returns the name of the `index`th object of a kind.
pub fn named(kind: char, index: usize) -> Arc<str> {
    format!("{kind}{index}").into()
}

fn address(backend: usize, host: u8) -> IpAddr {
    if backend < BACKENDS / 2 {
        Ipv4Addr::new(192, 0, 2, host).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host.into()).into()
    }
}

fn vip_address(index: usize) -> IpAddr {
    match index {
        0 => Ipv4Addr::new(203, 0, 113, 1).into(),
        1 => Ipv4Addr::new(203, 0, 113, 2).into(),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80).into(),
    }
}

fn healthcheck((rise, fall): (u32, u32)) -> Healthcheck {
    Healthcheck {
        probe: Probe::Icmp,
        interval: Duration::from_secs(2),
        fast_interval: Duration::from_millis(500),
        down_interval: Duration::from_secs(5),
        timeout: ProbeTimeout::Fixed(Duration::from_secs(1)),
        rise,
        fall,
        source4: None,
        source6: None,
    }
}
