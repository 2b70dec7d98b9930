//! What is probed, and how. The limits here are the prober's own: it enforces them on whatever it is sent, so that
//! a captured controller is no packet cannon.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The shortest time between the starts of two probes of one check.
pub const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// The longest time between the starts of two probes of one check.
pub const MAX_INTERVAL: Duration = Duration::from_secs(3600);
/// The shortest time-out of a probe.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(1);
/// The longest time-out of a probe, all its phases together.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest path, in bytes.
pub const MAX_PATH: usize = 2048;
/// The longest host or server name, in bytes (RFC 1035 allows 253).
pub const MAX_NAME: usize = 255;
/// The longest regular expression, in bytes.
pub const MAX_REGEXP: usize = 1024;
/// How many ranges of status codes one check may name.
pub const MAX_CODE_RANGES: usize = 32;
/// Of how many probes over kept connections one may begin with a fresh connection.
pub const KEEP_ALIVE_REQUESTS: RangeInclusive<u32> = 2..=1000;
/// The largest bundle of CA certificates, in bytes of PEM.
pub const MAX_BUNDLE: usize = 60 * 1024;
/// How many bundles one check set may carry.
pub const MAX_BUNDLES: usize = 256;

/// Names one check on one link. The controller never reuses a number within its life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct CheckId(pub u32);

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One thing to probe. Two equal checks are the same check to the prober: it is by this value, not by [`CheckId`],
/// that a check keeps its schedule and its streak from one set to the next.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Check {
    /// The address that is probed.
    pub target: IpAddr,
    /// The address it is probed from; `None` leaves the choice to the kernel.
    pub source: Option<IpAddr>,
    /// The bound on one probe, all its phases together.
    pub timeout: ProbeTimeout,
    /// Between the starts of probes while one is not answered as soon as it usually is.
    pub fast_interval: Duration,
    /// How it is probed.
    pub probe: ProbeKind,
}

/// How often a check is probed, and how soon what comes of it is told.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Schedule {
    /// Between the starts of two probes, before the jitter of ±10 %.
    pub interval: Duration,
    /// After so many passes in a row, one more changes nothing: it may wait a little to be told together with others.
    pub stable_after: u16,
}

impl From<Duration> for Schedule {
    /// Every outcome is told at once, but for those of a check that has passed 65,535 times in a row.
    fn from(interval: Duration) -> Self {
        Self { interval, stable_after: u16::MAX }
    }
}

/// The bound on one probe.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ProbeTimeout {
    /// Always the same.
    Fixed(Duration),
    /// Derived by the prober from how long the check's probes take.
    Auto {
        /// It is never less.
        min: Duration,
        /// It is never more, and it is this until enough is known.
        max: Duration,
    },
}

impl ProbeTimeout {
    /// The longest that it can be.
    #[must_use]
    pub const fn longest(self) -> Duration {
        match self {
            Self::Fixed(longest) | Self::Auto { max: longest, .. } => longest,
        }
    }
}

/// The kinds of probe.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ProbeKind {
    /// An echo request (RFC 792, RFC 4443).
    Icmp,
    /// A connection, with a TLS handshake if asked.
    Tcp {
        /// The destination port.
        port: u16,
        /// How far the connection goes.
        mode: ConnectMode,
        /// The handshake that follows the connection, which is then [`ConnectMode::Full`].
        tls: Option<TlsHandshake>,
    },
    /// An HTTP/1.1 `GET`, over TLS if asked.
    Http {
        /// The destination port.
        port: u16,
        /// What is asked, and which answer passes.
        http: HttpCheck,
        /// The handshake that precedes the request.
        tls: Option<TlsHandshake>,
    },
}

/// How far a connection goes that is made to see that it can be.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ConnectMode {
    /// It is made, and then reset: the server's program may accept it.
    #[default]
    Full,
    /// It is reset before it is made, when the server's kernel has agreed to it: no program hears of it.
    HalfOpen,
}

/// An HTTP request and the answer that passes.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct HttpCheck {
    /// The request target; starts with `/`.
    pub path: String,
    /// The `Host` header's value.
    pub host: String,
    /// The status codes that pass, as inclusive ranges.
    pub codes: Vec<(u16, u16)>,
    /// A regular expression that the first 64 KiB of the body must match.
    pub body: Option<String>,
    /// Whether the connection is kept for the next probe, and if so, every how many probes there is a fresh one all the
    /// same.
    pub keep_alive: Option<NonZeroU32>,
}

/// A TLS handshake.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct TlsHandshake {
    /// The name asked for (SNI, when it is no address) and expected in the certificate.
    pub server_name: String,
    /// What the certificate is held against.
    pub verify: TlsVerify,
}

/// What a server's certificate is held against.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum TlsVerify {
    /// Nothing: any certificate passes.
    Nothing,
    /// The system's roots.
    System,
    /// The bundle of that number, sent ahead of the check in the same set.
    Bundle(u32),
}

/// Why a check was refused.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
pub enum RejectReason {
    /// No probe may go to this address.
    #[error("{0} is never a target: {1}")]
    Target(IpAddr, String),
    /// A value lies outside its bounds.
    #[error("{what} is out of bounds")]
    Bounds {
        /// The value's name.
        what: String,
    },
    /// The prober serves as many checks, or as many probes a second, as it was started to serve.
    #[error("the prober's own limit is reached: {what}")]
    Limit {
        /// The limit's name and value.
        what: String,
    },
    /// The regular expression does not compile, or the bundle holds no certificate.
    #[error("{0}")]
    Invalid(String),
}

impl Check {
    /// Holds every value against its bounds.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn validate(&self) -> Result<(), RejectReason> {
        target_allowed(self.target).map_err(|why| RejectReason::Target(self.target, why.to_owned()))?;
        ensure(self.source.is_none_or(|s| s.is_ipv4() == self.target.is_ipv4()), "source family")?;
        self.timeout.validate()?;
        ensure((MIN_INTERVAL..=MAX_INTERVAL).contains(&self.fast_interval), "fast_interval interval")?;
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
        tls.as_ref().map_or(Ok(()), |tls| ensure(is_token(&tls.server_name, MAX_NAME), "server name"))
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
    /// Whether `status` passes.
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

/// Why no probe may go to `address`, if so: it names no single host.
///
/// # Errors
/// The reason, in a few words.
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
        _ => Ok(()),
    }
}

/// Whether `text` is printable ASCII without blanks, so that it can neither end nor split a line of HTTP.
#[must_use]
pub fn is_token(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn ensure(holds: bool, what: &str) -> Result<(), RejectReason> {
    if holds { Ok(()) } else { Err(RejectReason::Bounds { what: what.to_owned() }) }
}

#[cfg(test)]
mod tests {
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
    fn an_ordinary_check_passes() {
        assert_eq!(http().validate(), Ok(()));
    }

    #[test]
    fn no_address_that_names_many_hosts_is_a_target() {
        for address in
            ["0.0.0.0", "0.1.2.3", "::", "255.255.255.255", "224.0.0.1", "ff02::1", "::ffff:224.0.0.1"]
        {
            let check = Check { target: address.parse().unwrap(), ..http() };
            assert!(matches!(check.validate(), Err(RejectReason::Target(..))), "{address}");
        }
    }

    #[test]
    fn nothing_can_be_smuggled_into_a_request() {
        for path in ["", "x", "/a b", "/a\r\nX: y", "/\u{e9}"] {
            let mut check = http();
            if let ProbeKind::Http { http, .. } = &mut check.probe {
                http.path = path.into();
            }
            assert_eq!(check.validate(), Err(RejectReason::Bounds { what: "path".into() }), "{path:?}");
        }
    }

    #[test]
    fn a_connection_is_not_kept_for_ever() {
        for (every, allowed) in [(1, false), (2, true), (1000, true), (1001, false)] {
            let mut check = http();
            if let ProbeKind::Http { http, .. } = &mut check.probe {
                http.keep_alive = NonZeroU32::new(every);
            }
            assert_eq!(check.validate().is_ok(), allowed, "{every}");
        }
    }

    #[test]
    fn there_is_no_handshake_over_half_a_connection() {
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
    fn times_have_bounds() {
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
        assert_eq!(check.validate(), Err(RejectReason::Bounds { what: "fast_interval interval".into() }));
    }

    #[test]
    fn a_source_of_the_other_family_is_refused() {
        let check = Check { source: Some("2001:db8::1".parse().unwrap()), ..http() };
        assert_eq!(check.validate(), Err(RejectReason::Bounds { what: "source family".into() }));
    }
}
