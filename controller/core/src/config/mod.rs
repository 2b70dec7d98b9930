//! The configuration, valid by construction: a [`Config`] comes from [`check()`] only, and holds nothing that VPP or
//! the prober would refuse.

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

mod api;
mod check;
pub mod file;

pub use api::{Account, Api, ApiTls, Caller, Role, Rule};
pub use check::{Problem, Read, check};

/// A whole configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// How many transitions are kept per backend, at least 1.
    pub transition_history: usize,
    /// When so many of the backends that were up fail at once, in percent, verdicts wait for another round of probes; 0 is
    /// never.
    pub mass_failure_threshold: u8,
    /// The network namespace that probes run in; `None` is the prober's own.
    pub netns: Option<String>,
    /// What concerns VPP.
    pub lb: Lb,
    /// By name.
    pub healthchecks: BTreeMap<Name, Arc<Healthcheck>>,
    /// By name.
    pub backends: BTreeMap<Name, Backend>,
    /// By name.
    pub frontends: BTreeMap<Name, Arc<Frontend>>,
    /// Who may call what.
    pub api: Api,
}

/// `vpp.lb`: what concerns VPP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lb {
    /// The period in which everything in VPP is compared with what it should be.
    pub sync_interval: Duration,
    /// The plugin's global settings.
    pub conf: LbConf,
    /// No weight that VPP has is changed earlier than this after the start.
    pub startup_min_delay: Duration,
    /// At the latest this long after the start, a frontend follows the health that is known.
    pub startup_max_delay: Duration,
    /// What becomes of VIPs in VPP that no frontend names.
    pub foreign_vips: ForeignVips,
}

/// What becomes of VIPs in VPP that no frontend names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForeignVips {
    /// They are removed.
    Remove,
    /// They are left alone.
    Keep,
}

/// How a backend is probed and judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Healthcheck {
    /// What is sent.
    pub probe: Probe,
    /// Between two probes of a backend that is up and has missed none.
    pub interval: Duration,
    /// Between two probes of a backend that is degraded or unknown.
    pub fast_interval: Duration,
    /// Between two probes of a backend that is fully down.
    pub down_interval: Duration,
    /// The bound on one probe, all its phases together.
    pub timeout: ProbeTimeout,
    /// How many passes bring a backend up, at least 1.
    pub rise: u32,
    /// How many failures take a backend down, at least 1.
    pub fall: u32,
    /// The address that IPv4 backends are probed from.
    pub source4: Option<Ipv4Addr>,
    /// The address that IPv6 backends are probed from.
    pub source6: Option<Ipv6Addr>,
}

/// The kinds of probe, as configured: what is left out here follows from the backend's address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Probe {
    /// An ICMP echo request.
    Icmp,
    /// A TCP connection.
    Tcp {
        /// The destination port.
        port: u16,
        /// How far it goes; all the way, if a handshake follows.
        mode: ipc::ConnectMode,
        /// The handshake that follows the connection.
        tls: Option<Tls>,
    },
    /// An HTTP request; with `tls`, HTTPS.
    Http {
        /// The destination port.
        port: u16,
        /// The request target.
        path: String,
        /// The `Host` header; `None` is the backend's address.
        host: Option<String>,
        /// The status codes that pass, as inclusive ranges.
        codes: Vec<(u16, u16)>,
        /// What the first 64 KiB of the body must match.
        body: Option<String>,
        /// Every how many probes there is a fresh connection; `None` is every one: no connection is kept.
        keep_alive: Option<NonZeroU32>,
        /// The handshake that precedes the request.
        tls: Option<Tls>,
    },
}

/// A TLS handshake, as configured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// `None` is the host, or else the backend's address.
    pub server_name: Option<String>,
    /// What the certificate is held against.
    pub verify: Verify,
}

/// What a server's certificate is held against.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verify {
    /// Nothing: `insecure-skip-verify`.
    Nothing,
    /// The system's roots.
    System,
    /// The certificates of a `ca-file`.
    Bundle(Arc<Bundle>),
}

/// The certificates of a `ca-file`, as they were when the configuration was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    /// Follows from the contents, so that equal checks stay equal over reloads and restarts.
    pub id: u32,
    /// The certificates in PEM.
    pub pem: Vec<u8>,
}

/// One application server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// The name of its healthcheck; `None` is a static backend, which is always up.
    pub healthcheck: Option<Name>,
    /// Whether it starts enabled.
    pub enabled: bool,
}

/// One VIP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frontend {
    /// For people.
    pub description: String,
    /// What VPP knows it by.
    pub vip: VipKey,
    /// How packets travel to its servers; follows from their address family.
    pub encap: Encap,
    /// Whether flows are told apart by their addresses alone.
    pub src_ip_sticky: bool,
    /// Whether a server that goes down loses its flows at once.
    pub flush_on_down: bool,
    /// The length of the new-flow table; `None` lets the weights decide.
    pub table_length: Option<u32>,
    /// By descending priority; at least one.
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
    /// The healthcheck's `type` as users write it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match &self.probe {
            Probe::Icmp => "icmp",
            Probe::Tcp { .. } => "tcp",
            Probe::Http { tls: None, .. } => "http",
            Probe::Http { tls: Some(_), .. } => "https",
        }
    }

    /// What the prober is asked to do for a backend at `target`.
    #[must_use]
    pub fn check(&self, target: IpAddr) -> ipc::Check {
        let source = match target {
            IpAddr::V4(_) => self.source4.map(IpAddr::V4),
            IpAddr::V6(_) => self.source6.map(IpAddr::V6),
        };
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

    /// The certificates that the prober must have for it.
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
    /// Each backend of each pool: the pool's index, the backend's name, its configured weight.
    pub fn members(&self) -> impl Iterator<Item = (usize, &Name, u8)> {
        let pools = self.pools.iter().enumerate();
        pools.flat_map(|(pool, p)| p.backends.iter().map(move |(name, weight)| (pool, name, *weight)))
    }
}

/// An address as the `Host` header wants it (RFC 3986 §3.2.2).
fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => alloc::format!("{v4}"),
        IpAddr::V6(v6) => alloc::format!("[{v6}]"),
    }
}

/// The name in a `Host` header, without the port and the brackets that may surround it.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.split(':').next().unwrap_or(host)
}
