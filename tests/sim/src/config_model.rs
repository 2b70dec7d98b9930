//! A model of the configuration, how it is drawn and how it changes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use maglev_core::config::{Config, check, file::File};
use serde_json::{Value, json};

/// Interval between comparisons with VPP, in seconds, unless another is drawn.
const SYNC_INTERVAL: u64 = 30;
/// Maximum time for which a frontend waits for its backends after a start.
pub const STARTUP: Duration = Duration::from_secs(5);

/// Number of the first spare server, to which a backend moves.
pub const SPARE: usize = 8;

/// Weights that are drawn: some share divisors, one is zero.
const WEIGHTS: [u8; 6] = [100, 100, 50, 10, 7, 0];

/// A configuration, with numbers for names.
#[derive(Clone, Debug)]
pub struct ConfigModel {
    /// Health checks.
    pub checks: Vec<CheckModel>,
    /// Health check of each backend; `None` is static.
    pub backends: Vec<Option<usize>>,
    /// Health checks that static backends had before.
    former_checks: BTreeMap<usize, usize>,
    /// Server of each backend. Two backends may share one.
    servers: Vec<usize>,
    /// Frontends.
    pub frontends: Vec<FrontendModel>,
    /// Percentage of simultaneous failures that counts as a mass failure; 0 disables it.
    mass_failure_threshold: u8,
    /// Interval between comparisons with VPP, in seconds.
    sync_interval: u64,
    /// VPP's global flow timeout, in seconds.
    pub flow_timeout: u64,
    /// Foreign VIPs are removed.
    pub removes_foreign: bool,
    /// Maximum latency of messages to and from VPP without faults, in milliseconds.
    pub vpp_latency: u64,
}

/// A health check.
#[derive(Clone, Debug)]
pub struct CheckModel {
    kind: &'static str,
    interval: u64,
    fast: u64,
    down: u64,
    timeout: u64,
    /// Number of passes that bring a backend up.
    pub rise: u32,
    /// Number of failures that take a backend down.
    pub fall: u32,
}

/// A frontend.
#[derive(Clone, Debug)]
pub struct FrontendModel {
    /// True if the file leaves it out.
    pub is_absent: bool,
    flush_on_down: bool,
    /// Weights of the backends of each pool.
    pub pools: Vec<BTreeMap<usize, u8>>,
}

/// A change of the file.
#[derive(Clone, Debug)]
pub enum ConfigEdit {
    /// No change.
    Nothing,
    /// Sets the weight of a member of a frontend, or adds the member.
    Member(usize, usize, usize, u8),
    /// Removes a member from a frontend.
    Leaves(usize, usize),
    /// Adds or removes a frontend.
    Frontend(usize),
    /// Scales the intervals of a check, in thousandths.
    Check(usize, u64),
    /// Sets the global flow timeout.
    FlowTimeout(u64),
    /// Sets the interval between comparisons with VPP.
    SyncInterval(u64),
    /// Gives two backends one server and equal checks.
    SharedServer(usize, usize),
    /// Gives a backend its own server.
    OwnServer(usize),
    /// Makes a backend static, or probed again.
    Static(usize),
    /// Moves backends, selected by bits, to spare servers, or back to their own.
    Move(u8),
}

impl CheckModel {
    fn draw(rng: &mut Rng) -> Self {
        let interval = [200, 500, 1000, 2000][rng.usize(..4)];
        Self {
            kind: ["icmp", "tcp", "http"][rng.usize(..3)],
            interval,
            fast: [interval, 100, 250][rng.usize(..3)].min(interval),
            down: [interval, 1500][rng.usize(..2)],
            timeout: [100, 500, 1000][rng.usize(..3)],
            rise: rng.u32(1..=3),
            fall: rng.u32(1..=4),
        }
    }

    /// Returns the maximum time to detect a change of a backend.
    pub fn detection_time(&self) -> Duration {
        let first = self.interval.max(self.down) * 11 / 10 + self.timeout;
        let rising = if self.kind == "icmp" { self.interval.max(self.fast) } else { self.fast };
        let more = |count: u32, pace: u64| u64::from(count) * (pace * 11 / 10 + self.timeout);
        let more = more(self.rise, rising).max(more(self.fall, self.fast));
        // In a mass failure, DOWN is deferred.
        let doubt = u64::from(self.fall + 1) * self.fast * 11 / 10 + self.timeout;
        // Timer granularity, and the latency of the links.
        Duration::from_millis(first + more + doubt + 200)
    }

    /// Returns the longest time between two probes.
    pub fn longest_interval(&self) -> Duration {
        Duration::from_millis(self.interval.max(self.down) * 11 / 10 + self.timeout)
    }
}

impl ConfigModel {
    /// Draws a valid configuration.
    pub fn draw(rng: &mut Rng) -> Self {
        let checks: Vec<_> = (0..rng.usize(1..=3)).map(|_| CheckModel::draw(rng)).collect();
        let of = |rng: &mut Rng| (rng.u8(..10) > 0).then(|| rng.usize(..checks.len()));
        let backends: Vec<_> = (0..rng.usize(2..=6)).map(|_| of(rng)).collect();
        let frontends = (0..rng.usize(1..=3)).map(|_| FrontendModel::draw(rng, backends.len())).collect();
        let vpp_latency = [1, 1, 20, 150][rng.usize(..4)];
        let mass_failure_threshold = [100, 100, 50, 0][rng.usize(..4)];
        Self {
            checks,
            servers: (0..backends.len()).collect(),
            former_checks: BTreeMap::new(),
            backends,
            frontends,
            mass_failure_threshold,
            sync_interval: SYNC_INTERVAL,
            flow_timeout: 40,
            removes_foreign: rng.bool(),
            vpp_latency,
        }
    }

    /// Changes the file, as far as the change applies.
    pub fn edit(&mut self, edit: &ConfigEdit) {
        match *edit {
            ConfigEdit::Nothing => {}
            ConfigEdit::Member(frontend, pool, backend, weight) => {
                let Some(found) = self.frontends.get_mut(frontend) else { return };
                let there = found.pools.iter().position(|members| members.contains_key(&backend));
                let pool = there.unwrap_or(pool % found.pools.len());
                if backend < self.backends.len() {
                    found.pools[pool].insert(backend, weight);
                }
            }
            ConfigEdit::Leaves(frontend, backend) => {
                let Some(found) = self.frontends.get_mut(frontend) else { return };
                let members: usize = found.pools.iter().map(BTreeMap::len).sum();
                if members > 1 {
                    found.pools.iter_mut().for_each(|members| _ = members.remove(&backend));
                }
            }
            ConfigEdit::Frontend(frontend) => {
                if let Some(found) = self.frontends.get_mut(frontend) {
                    found.is_absent = !found.is_absent;
                }
            }
            ConfigEdit::Check(check, per_mille) => {
                if let Some(check) = self.checks.get_mut(check) {
                    check.interval = (check.interval * per_mille / 1000).clamp(100, 4000);
                    check.fast = check.fast.min(check.interval);
                }
            }
            ConfigEdit::FlowTimeout(seconds) => self.flow_timeout = seconds,
            ConfigEdit::SyncInterval(seconds) => self.sync_interval = seconds,
            ConfigEdit::SharedServer(one, other) => self.pair(one, other),
            ConfigEdit::Static(backend) => {
                let Some(check) = self.backends.get_mut(backend) else { return };
                if let Some(check) = check.take() {
                    self.former_checks.insert(backend, check);
                } else {
                    *check = self.former_checks.remove(&backend);
                }
            }
            ConfigEdit::Move(backends) => {
                for (number, server) in self.servers.iter_mut().enumerate() {
                    if backends >> number & 1 == 1 {
                        *server = if *server == number { SPARE + number } else { number };
                    }
                }
            }
            ConfigEdit::OwnServer(backend) => {
                if let Some(server) = self.servers.get_mut(backend) {
                    *server = backend;
                }
            }
        }
    }

    fn pair(&mut self, one: usize, other: usize) {
        let (Some(Some(check)), Some(_)) = (self.backends.get(one), self.backends.get(other)) else { return };
        (self.backends[other], self.servers[other]) = (Some(*check), self.servers[one]);
        self.former_checks.remove(&other);
        // A frontend must not have a server twice.
        for (number, frontend) in self.frontends.iter_mut().enumerate() {
            let has = |backend| frontend.pools.iter().any(|members| members.contains_key(&backend));
            if one != other && has(one) && has(other) {
                let leaves = if number % 2 == 0 { other } else { one };
                frontend.pools.iter_mut().for_each(|members| _ = members.remove(&leaves));
                frontend.pools.retain(|members| !members.is_empty());
            }
        }
    }

    /// Returns the interval between comparisons with VPP.
    pub fn sync_interval(&self) -> Duration {
        Duration::from_secs(self.sync_interval)
    }

    /// Returns the address of a server.
    pub fn address(server: usize) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, server as u8 + 1).into()
    }

    /// Returns the server of an address.
    pub fn server_at(address: IpAddr) -> Option<usize> {
        let IpAddr::V4(address) = address else { return None };
        usize::from(address.octets()[3]).checked_sub(1)
    }

    /// Returns the server of a backend.
    pub fn server(&self, backend: usize) -> usize {
        self.servers.get(backend).copied().unwrap_or(backend)
    }

    /// Returns the backends of a server.
    pub fn backends_on(&self, server: usize) -> Vec<usize> {
        (0..self.servers.len()).filter(|backend| self.servers[*backend] == server).collect()
    }

    /// Returns the VIP of a frontend.
    pub fn vip(frontend: usize) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, frontend as u8 + 1).into()
    }

    /// Returns the number in a name.
    pub fn number(name: &str) -> Option<usize> {
        name.get(1..)?.parse().ok()
    }

    /// Returns the frontends that contain a backend.
    pub fn frontends_of(&self, backend: usize) -> Vec<usize> {
        let uses =
            |(_, f): &(usize, &FrontendModel)| f.pools.iter().any(|members| members.contains_key(&backend));
        self.frontends.iter().enumerate().filter(uses).map(|(frontend, _)| frontend).collect()
    }

    /// Returns the maximum time to apply a decision: a run of six steps, the run before it, and the latency of each message.
    pub fn apply_time(&self) -> Duration {
        Duration::from_millis(1000 + 24 * self.vpp_latency)
    }

    /// Returns the maximum time to detect a change of a backend.
    pub fn detection_time(&self, backend: usize) -> Duration {
        self.backends[backend].map_or(Duration::ZERO, |check| self.checks[check].detection_time())
    }

    /// Returns the maximum time to detect and apply any change.
    pub fn recovery(&self) -> Duration {
        self.checks.iter().map(CheckModel::detection_time).max().unwrap_or_default() + self.apply_time()
    }

    /// Parses the file as the daemon does.
    ///
    /// # Errors
    /// It is invalid.
    pub fn config(&self) -> Result<Arc<Config>, String> {
        let file: File = serde_json::from_value(self.to_json()).map_err(|error| error.to_string())?;
        let config = check(&file, &mut |path| Err(format!("{path}: no file is named")));
        config.map(Arc::new).map_err(|problems| format!("{problems:?}"))
    }

    fn to_json(&self) -> Value {
        let ms = |n: u64| format!("{n}ms");
        let checks = self.checks.iter().enumerate().map(|(number, check)| {
            let mut value = json!({
                "type": check.kind, "interval": ms(check.interval), "fast-interval": ms(check.fast),
                "down-interval": ms(check.down), "timeout": ms(check.timeout), "rise": check.rise, "fall": check.fall,
            });
            if check.kind != "icmp" {
                value["port"] = json!(80);
            }
            (format!("c{number}"), value)
        });
        let backends = self.backends.iter().enumerate().map(|(number, check)| {
            let mut value = json!({ "address": Self::address(self.server(number)).to_string() });
            if let Some(check) = check {
                value["healthcheck"] = json!(format!("c{check}"));
            }
            (format!("b{number}"), value)
        });
        let there = self.frontends.iter().enumerate().filter(|(_, frontend)| !frontend.is_absent);
        let frontends = there.map(|(number, frontend)| {
            let pools = frontend.pools.iter().enumerate().map(|(pool, members)| {
                let members =
                    members.iter().map(|(b, weight)| (format!("b{b}"), json!({ "weight": weight })));
                json!({ "name": format!("p{pool}"), "backends": members.collect::<serde_json::Map<_, _>>() })
            });
            let value = json!({
                "address": Self::vip(number).to_string(), "protocol": "tcp", "port": 80,
                "flush-on-down": frontend.flush_on_down, "pools": pools.collect::<Vec<_>>(),
            });
            (format!("f{number}"), value)
        });
        json!({ "maglev": {
            "healthchecker": { "mass-failure-threshold": self.mass_failure_threshold },
            "vpp": { "lb": {
                "sync-interval": ms(self.sync_interval * 1000), "startup-max-delay": ms(STARTUP.as_millis() as u64),
                "ipv4-src-address": "192.0.2.100", "flow-timeout": ms(self.flow_timeout * 1000),
                "allow-no-frontends": true, "foreign-vips": if self.removes_foreign { "remove" } else { "keep" },
            } },
            "healthchecks": checks.collect::<serde_json::Map<_, _>>(),
            "backends": backends.collect::<serde_json::Map<_, _>>(),
            "frontends": frontends.collect::<serde_json::Map<_, _>>(),
        } })
    }
}

impl FrontendModel {
    fn draw(rng: &mut Rng, backends: usize) -> Self {
        let mut pools = vec![BTreeMap::new(); rng.usize(1..=2)];
        for backend in 0..backends {
            if rng.u8(..4) > 0 {
                let pool = rng.usize(..pools.len());
                pools[pool].insert(backend, WEIGHTS[rng.usize(..WEIGHTS.len())]);
            }
        }
        pools.retain(|members| !members.is_empty());
        if pools.is_empty() {
            pools.push(BTreeMap::from([(0, 100)]));
        }
        Self { is_absent: false, flush_on_down: rng.bool(), pools }
    }
}

impl ConfigEdit {
    /// Draws a change.
    pub fn draw(rng: &mut Rng) -> Self {
        let weight = WEIGHTS[rng.usize(..WEIGHTS.len())];
        match rng.u8(..8) {
            0 => Self::Nothing,
            1..=3 => Self::Member(rng.usize(..3), rng.usize(..2), rng.usize(..6), weight),
            4 => Self::Leaves(rng.usize(..3), rng.usize(..6)),
            5 => Self::Frontend(rng.usize(..3)),
            6 => Self::Check(rng.usize(..3), [500, 2000][rng.usize(..2)]),
            _ => Self::FlowTimeout(rng.u64(20..60)),
        }
    }
}
