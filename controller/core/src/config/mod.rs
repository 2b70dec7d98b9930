//! The configuration, valid by construction: only [`check()`] creates a [`Config`], without anything that VPP or the
//! prober would reject.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU32;
use core::time::Duration;

use maglev_ipc::{self as ipc, ProbeTimeout};

use crate::Name;
use crate::dataplane::{Encap, LbConf, VipKey};
use crate::maglev::{self, WeightScale};

mod api;
mod check;
pub mod file;

pub use api::{Account, Api, ApiTls, Caller, Role, Rule};
pub use check::{Problem, Read, check};

/// A checked configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Number of transitions kept per backend, at least 1.
    pub transition_history: usize,
    /// Share of the backends that fail at once in a suspected mass failure, in percent; 0 disables the suspicion.
    pub mass_failure_threshold: u8,
    /// Network namespace of the probes; `None` is the prober's own.
    pub netns: Option<String>,
    /// Settings of VPP.
    pub lb: Lb,
    /// By name.
    pub healthchecks: BTreeMap<Name, Arc<Healthcheck>>,
    /// By name.
    pub backends: BTreeMap<Name, Backend>,
    /// By name.
    pub frontends: BTreeMap<Name, Arc<Frontend>>,
    /// Roles of callers.
    pub api: Api,
}

/// `vpp.lb`: settings of VPP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lb {
    /// Period of the full reconciliation.
    pub sync_interval: Duration,
    /// The plugin's global settings.
    pub conf: LbConf,
    /// Minimum startup hold: VPP's weights do not change before.
    pub startup_min_delay: Duration,
    /// Maximum startup hold, if any backend is known by then.
    pub startup_max_delay: Duration,
    /// Treatment of VIPs without a frontend.
    pub foreign_vips: ForeignVips,
    /// True if the file may have no frontend, so that VPP loses all VIPs.
    pub allow_no_frontends: bool,
}

/// Treatment of VIPs in VPP without a frontend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForeignVips {
    /// Remove them.
    Remove,
    /// Leave them.
    Keep,
}

/// Probe and thresholds of backends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Healthcheck {
    /// The probe.
    pub probe: Probe,
    /// Interval for a backend that is up without failures.
    pub interval: Duration,
    /// Interval for a degraded or unknown backend.
    pub fast_interval: Duration,
    /// Interval for a backend that is fully down.
    pub down_interval: Duration,
    /// Timeout of one probe, for all its phases together.
    pub timeout: ProbeTimeout,
    /// Number of passes that bring a backend up, at least 1.
    pub rise: u32,
    /// Number of failures that take a backend down, at least 1.
    pub fall: u32,
    /// Source address for IPv4 backends.
    pub source4: Option<Ipv4Addr>,
    /// Source address for IPv6 backends.
    pub source6: Option<Ipv6Addr>,
}

impl Healthcheck {
    /// Returns the interval for a backend that is down and begins to pass.
    ///
    /// Servers and routers limit the echo requests that they answer. After the first pass, a faster pace would exceed the limit,
    /// and the backend would never reach `rise`.
    #[must_use]
    pub fn rise_interval(&self) -> Duration {
        match self.probe {
            Probe::Icmp => self.fast_interval.max(self.interval),
            Probe::Tcp { .. } | Probe::Http { .. } => self.fast_interval,
        }
    }
}

/// Kind of probe, as configured. The backend's address completes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Probe {
    /// An ICMP echo request.
    Icmp,
    /// A TCP connection.
    Tcp {
        /// Destination port.
        port: u16,
        /// Extent of the connection; full if a TLS handshake follows.
        mode: ipc::ConnectMode,
        /// TLS handshake after the connection.
        tls: Option<Tls>,
    },
    /// An HTTP request; with `tls`, HTTPS.
    Http {
        /// Destination port.
        port: u16,
        /// Request target.
        path: String,
        /// `Host` header; `None` is the backend's address.
        host: Option<String>,
        /// Accepted status codes, as inclusive ranges.
        codes: Vec<(u16, u16)>,
        /// Regular expression for the first 64 KiB of the body.
        body: Option<String>,
        /// Number of probes after which one uses a fresh connection; `None` keeps no connection.
        keep_alive: Option<NonZeroU32>,
        /// TLS handshake before the request.
        tls: Option<Tls>,
    },
}

/// A TLS handshake, as configured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// SNI and certificate name; `None` is the host, or else the backend's address.
    pub server_name: Option<String>,
    /// Verification of the server's certificate.
    pub verify: Verify,
}

/// Verification of a server's certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verify {
    /// No verification: `insecure-skip-verify`.
    Nothing,
    /// The system's root certificates.
    System,
    /// The certificates of a `ca-file`.
    Bundle(Arc<Bundle>),
}

/// Certificates of a `ca-file` at the time the configuration was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    /// Hash of the contents, so that equal checks stay equal across reloads and restarts.
    pub id: u32,
    /// The certificates in PEM.
    pub pem: Vec<u8>,
}

/// One application server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Name of its healthcheck; `None` is a static backend, which is always up.
    pub healthcheck: Option<Name>,
    /// False to start disabled.
    pub enabled: bool,
}

/// One VIP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frontend {
    /// Free text.
    pub description: String,
    /// Key of the VIP in VPP.
    pub vip: VipKey,
    /// Encapsulation to the servers, by their address family.
    pub encap: Encap,
    /// True to hash flows by source address only.
    pub src_ip_sticky: bool,
    /// True to flush flows of a server that goes down.
    pub flush_on_down: bool,
    /// Length of the new-flow table; `None` derives it from the number of servers.
    pub table_length: Option<u32>,
    /// Weight that is one unit in VPP; `None` derives it from the weights of each pool.
    pub weight_step: Option<u8>,
    /// Pools by descending priority; at least one.
    pub pools: Vec<Pool>,
}

/// A priority tier of backends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pool {
    /// Unique in the frontend.
    pub name: Name,
    /// The weight, 0…100, of each backend by name.
    pub backends: BTreeMap<Name, u8>,
}

impl Healthcheck {
    /// Returns the healthcheck's `type` as users write it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match &self.probe {
            Probe::Icmp => "icmp",
            Probe::Tcp { .. } => "tcp",
            Probe::Http { tls: None, .. } => "http",
            Probe::Http { tls: Some(_), .. } => "https",
        }
    }

    /// Returns the source address of probes to `target`.
    fn source(&self, target: IpAddr) -> Option<IpAddr> {
        match target {
            IpAddr::V4(_) => self.source4.map(IpAddr::V4),
            IpAddr::V6(_) => self.source6.map(IpAddr::V6),
        }
    }

    /// Reports whether another healthcheck asks the same of `target`, perhaps at other intervals, timeouts or thresholds.
    #[must_use]
    pub fn probes_like(&self, other: &Self, target: IpAddr) -> bool {
        self.probe == other.probe && self.source(target) == other.source(target)
    }

    /// Returns the prober's check for a backend at `target`.
    #[must_use]
    pub fn check(&self, target: IpAddr) -> ipc::Check {
        let source = self.source(target);
        let probe = match &self.probe {
            Probe::Icmp => ipc::ProbeKind::Icmp,
            Probe::Tcp { port, mode, tls } => ipc::ProbeKind::Tcp {
                port: *port,
                mode: *mode,
                tls: tls.as_ref().map(|tls| tls.resolve(None, target)),
            },
            Probe::Http { port, path, host, codes, body, keep_alive, tls } => ipc::ProbeKind::Http {
                port: *port,
                http: ipc::HttpCheck {
                    path: path.clone(),
                    host: host.clone().unwrap_or_else(|| host_of(target)),
                    codes: codes.clone(),
                    body: body.clone(),
                    keep_alive: *keep_alive,
                },
                tls: tls.as_ref().map(|tls| tls.resolve(host.as_deref(), target)),
            },
        };
        ipc::Check { target, source, timeout: self.timeout, fast_interval: self.fast_interval, probe }
    }

    /// Returns the certificates that the prober needs for it.
    #[must_use]
    pub const fn bundle(&self) -> Option<&Arc<Bundle>> {
        let (Probe::Tcp { tls, .. } | Probe::Http { tls, .. }) = &self.probe else { return None };
        match tls {
            Some(Tls { verify: Verify::Bundle(bundle), .. }) => Some(bundle),
            Some(Tls { verify: Verify::Nothing | Verify::System, .. }) | None => None,
        }
    }
}

impl Tls {
    fn resolve(&self, host: Option<&str>, target: IpAddr) -> ipc::TlsHandshake {
        let name = self.server_name.as_deref().or(host.map(without_port));
        ipc::TlsHandshake {
            server_name: name.map_or_else(|| alloc::format!("{target}"), String::from),
            verify: match &self.verify {
                Verify::Nothing => ipc::TlsVerify::Nothing,
                Verify::System => ipc::TlsVerify::System,
                Verify::Bundle(bundle) => ipc::TlsVerify::Bundle(bundle.id),
            },
        }
    }
}

impl Frontend {
    /// Iterates over the members: the pool's index, the backend's name, its configured weight.
    pub fn members(&self) -> impl Iterator<Item = (usize, &Name, u8)> {
        let pools = self.pools.iter().enumerate();
        pools.flat_map(|(pool, p)| p.backends.iter().map(move |(name, weight)| (pool, name, *weight)))
    }

    /// Returns the scale of a pool's weights.
    #[must_use]
    pub fn weight_scale(&self, pool: &Pool) -> WeightScale {
        self.weight_step
            .map_or_else(|| WeightScale::of_pool(pool.backends.values().copied()), WeightScale::new)
    }

    /// Returns the length of the new-flow table with which the VIP is created.
    #[must_use]
    pub fn created_table_length(&self) -> u32 {
        let of_pool = |pool: &Pool| maglev::table_length(pool.backends.len(), self.weight_step);
        self.table_length.unwrap_or_else(|| self.pools.iter().map(of_pool).max().unwrap_or(maglev::MIN_TABLE))
    }
}

/// Formats an address for the `Host` header (RFC 3986 §3.2.2).
fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => alloc::format!("{v4}"),
        IpAddr::V6(v6) => alloc::format!("[{v6}]"),
    }
}

/// Returns the name in a `Host` header, without brackets and port.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.split(':').next().unwrap_or(host)
}
