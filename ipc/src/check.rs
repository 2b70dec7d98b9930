//! Checks: targets, probes and their bounds. The prober enforces the bounds on every check it receives, so a compromised
//! controller cannot use it to flood others.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr};
use core::num::NonZeroU32;
use core::ops::RangeInclusive;
use core::time::Duration;

use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};

/// Shortest time between the starts of two probes of one check.
pub const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Longest time between the starts of two probes of one check.
pub const MAX_INTERVAL: Duration = Duration::from_secs(3600);
/// Shortest timeout of a probe.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(1);
/// Longest timeout of a probe, all its phases together.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest path, in bytes.
pub const MAX_PATH: usize = 2048;
/// Longest host, in bytes: a name of up to 253 (RFC 1035), or an address, with a port.
pub const MAX_NAME: usize = 255;
/// Longest regular expression, in bytes.
pub const MAX_REGEXP: usize = 1024;
/// Largest number of ranges of status codes in one check.
pub const MAX_CODE_RANGES: usize = 32;
/// Bounds of the number of requests over one kept connection (`keep-alive-requests`).
pub const KEEP_ALIVE_REQUESTS: RangeInclusive<u32> = 2..=1000;
/// Largest bundle of CA certificates, in bytes of PEM.
pub const MAX_BUNDLE: usize = 60 * 1024;
/// Largest number of bundles in one check set.
pub const MAX_BUNDLES: usize = 256;

/// Number of a check on one link. The controller never reuses one while it runs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct CheckId(pub u32);

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A target and its probe. The prober identifies a check by this value: an equal check of the next set keeps its schedule
/// and its verdict history, under whatever [`CheckId`].
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Check {
    /// Address to probe.
    pub target: IpAddr,
    /// Source address. Without one, the kernel chooses.
    pub source: Option<IpAddr>,
    /// Timeout of one probe, all its phases together.
    pub timeout: ProbeTimeout,
    /// Time between the starts of probes while a reply takes longer than usual.
    pub fast_interval: Duration,
    /// Kind of probe.
    pub probe: ProbeKind,
}

/// Interval of a check's probes, and the urgency of its outcomes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Schedule {
    /// Time between the starts of two probes, before the jitter of ±10 %.
    pub interval: Duration,
    /// Number of successive passes after which a further pass changes nothing. The prober may delay and batch such passes.
    pub stable_after: u16,
}

impl From<Duration> for Schedule {
    /// Makes every outcome urgent, up to 65,535 successive passes.
    fn from(interval: Duration) -> Self {
        Self { interval, stable_after: u16::MAX }
    }
}

/// Timeout of one probe.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ProbeTimeout {
    /// A constant.
    Fixed(Duration),
    /// Derived by the prober from the check's response times (as in RFC 6298).
    Auto {
        /// Lower bound.
        min: Duration,
        /// Upper bound, and the value until there are enough samples.
        max: Duration,
    },
}

impl ProbeTimeout {
    /// Returns the upper bound.
    #[must_use]
    pub const fn longest(self) -> Duration {
        match self {
            Self::Fixed(longest) | Self::Auto { max: longest, .. } => longest,
        }
    }
}

/// A kind of probe, with its parameters.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ProbeKind {
    /// ICMP echo request (RFC 792, RFC 4443).
    Icmp,
    /// TCP connection, with a TLS handshake on request.
    Tcp {
        /// Destination port.
        port: u16,
        /// Extent of the connection.
        mode: ConnectMode,
        /// TLS handshake after the connection. It requires [`ConnectMode::Full`].
        tls: Option<TlsHandshake>,
    },
    /// HTTP/1.1 `GET`, over TLS on request.
    Http {
        /// Destination port.
        port: u16,
        /// The request, and the responses that pass.
        http: HttpCheck,
        /// TLS handshake before the request.
        tls: Option<TlsHandshake>,
    },
}

/// Extent of a probe's TCP connection.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ConnectMode {
    /// Full handshake, then a reset. The server application may accept the connection.
    #[default]
    Full,
    /// Reset after the SYN-ACK. The server's kernel answers, and the application is not involved.
    HalfOpen,
}

/// An HTTP request, and the responses that pass.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct HttpCheck {
    /// Request target, begins with `/`.
    pub path: String,
    /// Value of the `Host` header.
    pub host: String,
    /// Status codes that pass, as inclusive ranges.
    pub codes: Vec<(u16, u16)>,
    /// Regular expression that the first 64 KiB of the body must match.
    pub body: Option<String>,
    /// Number of requests over one connection before the prober opens a fresh one. `None` disables keep-alive.
    pub keep_alive: Option<NonZeroU32>,
}

/// Parameters of a TLS handshake.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct TlsHandshake {
    /// Name expected in the certificate. It is sent as SNI unless it is an address.
    pub server_name: String,
    /// Verification of the certificate.
    pub verify: TlsVerify,
}

/// Verification of a server's certificate.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum TlsVerify {
    /// None: any certificate passes.
    Nothing,
    /// Against the root certificates of the prober's host.
    System,
    /// Against the bundle with this number, sent before the check in the same set.
    Bundle(u32),
}

/// Reason for which the prober rejects a check.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
pub enum RejectReason {
    /// The address is not a single host, or not one that `--targets` of the prober allows.
    #[error("{0} is no target: {1}")]
    Target(IpAddr, String),
    /// A value is out of bounds.
    #[error("{what} is out of bounds")]
    Bounds {
        /// Name of the value.
        what: String,
    },
    /// The prober's own limit on checks or on probes a second (`--max-checks`, `--max-rate`) is reached.
    #[error("the prober's own limit is reached: {what}")]
    Limit {
        /// Name and value of the limit.
        what: String,
    },
    /// The regular expression does not compile, or the bundle has no certificate.
    #[error("{0}")]
    Invalid(String),
}

impl Check {
    /// Checks every value against its bounds.
    ///
    /// # Errors
    /// The first violation.
    pub fn validate(&self) -> Result<(), RejectReason> {
        target_allowed(self.target).map_err(|why| RejectReason::Target(self.target, why.to_owned()))?;
        ensure(self.source.is_none_or(|s| s.is_ipv4() == self.target.is_ipv4()), "source family")?;
        self.timeout.validate()?;
        ensure((MIN_INTERVAL..=MAX_INTERVAL).contains(&self.fast_interval), "fast interval")?;
        let (port, tls) = match &self.probe {
            ProbeKind::Icmp => return Ok(()),
            ProbeKind::Tcp { port, mode, tls } => {
                ensure(*mode == ConnectMode::Full || tls.is_none(), "mode with TLS")?;
                (*port, tls)
            }
            ProbeKind::Http { port, http, tls } => {
                http.validate()?;
                (*port, tls)
            }
        };
        ensure(port != 0, "port")?;
        tls.as_ref().map_or(Ok(()), |tls| ensure(server_name(&tls.server_name).is_some(), "server name"))
    }
}

impl ProbeTimeout {
    fn validate(self) -> Result<(), RejectReason> {
        let allowed = MIN_TIMEOUT..=MAX_TIMEOUT;
        match self {
            Self::Fixed(timeout) => ensure(allowed.contains(&timeout), "timeout"),
            Self::Auto { min, max } => {
                ensure(min <= max && allowed.contains(&min) && allowed.contains(&max), "timeout")
            }
        }
    }
}

impl HttpCheck {
    /// True if `status` passes.
    #[must_use]
    pub fn passes(&self, status: u16) -> bool {
        self.codes.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }

    fn validate(&self) -> Result<(), RejectReason> {
        ensure(self.path.starts_with('/') && is_token(&self.path, MAX_PATH), "path")?;
        ensure(is_token(&self.host, MAX_NAME), "host")?;
        ensure((1..=MAX_CODE_RANGES).contains(&self.codes.len()), "response codes")?;
        ensure(
            self.codes.iter().all(|(low, high)| 100 <= *low && low <= high && *high <= 599),
            "response codes",
        )?;
        ensure(self.body.as_ref().is_none_or(|b| b.len() <= MAX_REGEXP), "response regexp")?;
        ensure(
            self.keep_alive.is_none_or(|every| KEEP_ALIVE_REQUESTS.contains(&every.get())),
            "keep-alive-requests",
        )
    }
}

/// Accepts an address that can be a single host.
///
/// # Errors
/// The kind of address, for addresses that cannot.
pub fn target_allowed(address: IpAddr) -> Result<(), &'static str> {
    if address.is_unspecified() {
        return Err("the unspecified address");
    }
    if address.is_multicast() {
        return Err("a multicast address");
    }
    let v4 = match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
    };
    match v4 {
        Some(Ipv4Addr::BROADCAST) => Err("the broadcast address"),
        Some(v4) if v4.octets()[0] == 0 => Err("an address of \"this network\" (RFC 1122)"),
        Some(v4) if v4.is_multicast() => Err("a multicast address"),
        _ => match address {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                Err("an IPv4 address written as IPv6 (write it as IPv4)")
            }
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                Err("a link-local address, and no interface can be given")
            }
            _ => Ok(()),
        },
    }
}

/// Parses a name expected in a certificate: a host name or an address.
#[must_use]
pub fn server_name(text: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(text.to_owned()).ok()
}

/// True if `text` is printable ASCII without spaces, so that it cannot inject into an HTTP request.
#[must_use]
pub fn is_token(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn ensure(holds: bool, what: &str) -> Result<(), RejectReason> {
    if holds { Ok(()) } else { Err(RejectReason::Bounds { what: what.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn http() -> Check {
        Check {
            target: "192.0.2.1".parse().unwrap(),
            source: None,
            timeout: ProbeTimeout::Fixed(Duration::from_secs(1)),
            fast_interval: Duration::from_millis(100),
            probe: ProbeKind::Http {
                port: 80,
                http: HttpCheck {
                    path: "/".into(),
                    host: "h".into(),
                    codes: vec![(200, 200)],
                    body: None,
                    keep_alive: None,
                },
                tls: None,
            },
        }
    }

    #[test]
    fn ordinary_check_passes() {
        assert_eq!(http().validate(), Ok(()));
    }

    #[test]
    fn address_of_many_hosts_is_rejected() {
        for address in
            ["0.0.0.0", "0.1.2.3", "::", "255.255.255.255", "224.0.0.1", "ff02::1", "::ffff:224.0.0.1"]
        {
            let check = Check { target: address.parse().unwrap(), ..http() };
            assert!(matches!(check.validate(), Err(RejectReason::Target(..))), "{address}");
        }
    }

    #[test]
    fn request_injection_is_rejected() {
        for path in ["", "x", "/a b", "/a\r\nX: y", "/\u{e9}"] {
            let mut check = http();
            if let ProbeKind::Http { http, .. } = &mut check.probe {
                http.path = path.into();
            }
            assert_eq!(check.validate(), Err(RejectReason::Bounds { what: "path".into() }), "{path:?}");
        }
    }

    #[test]
    fn keep_alive_requests_are_bounded() {
        for (every, allowed) in [(1, false), (2, true), (1000, true), (1001, false)] {
            let mut check = http();
            if let ProbeKind::Http { http, .. } = &mut check.probe {
                http.keep_alive = NonZeroU32::new(every);
            }
            assert_eq!(check.validate().is_ok(), allowed, "{every}");
        }
    }

    #[test]
    fn half_open_with_tls_is_rejected() {
        let tls = TlsHandshake { server_name: "h".into(), verify: TlsVerify::System };
        for (mode, tls, passes) in [
            (ConnectMode::Full, Some(&tls), true),
            (ConnectMode::Full, None, true),
            (ConnectMode::HalfOpen, None, true),
            (ConnectMode::HalfOpen, Some(&tls), false),
        ] {
            let check = Check { probe: ProbeKind::Tcp { port: 443, mode, tls: tls.cloned() }, ..http() };
            assert_eq!(check.validate().is_ok(), passes, "{mode:?} {tls:?}");
        }
    }

    #[test]
    fn timeouts_and_intervals_are_bounded() {
        let auto = |min, max| ProbeTimeout::Auto {
            min: Duration::from_millis(min),
            max: Duration::from_millis(max),
        };
        for (timeout, is_allowed) in [
            (auto(1, 60_000), true),
            (auto(50, 50), true),
            (auto(51, 50), false),
            (auto(0, 50), false),
            (auto(50, 60_001), false),
            (ProbeTimeout::Fixed(Duration::ZERO), false),
        ] {
            assert_eq!(Check { timeout, ..http() }.validate().is_ok(), is_allowed, "{timeout:?}");
        }
        let check = Check { fast_interval: MIN_INTERVAL / 2, ..http() };
        assert_eq!(check.validate(), Err(RejectReason::Bounds { what: "fast interval".into() }));
    }

    #[test]
    fn source_of_other_family_is_rejected() {
        let check = Check { source: Some("2001:db8::1".parse().unwrap()), ..http() };
        assert_eq!(check.validate(), Err(RejectReason::Bounds { what: "source family".into() }));
    }
}
