//! Equivalent checks in each checker's configuration language.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::{address, server};

/// Type of probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Probe {
    /// ICMP echo request.
    Icmp,
    /// Half-open TCP handshake.
    TcpHalf,
    /// Full TCP connection.
    TcpFull,
    /// HTTP request on a new connection.
    Http,
    /// HTTP request on a reused connection.
    HttpKept,
    /// HTTPS request on a new connection.
    Https,
    /// HTTPS request on a reused connection.
    HttpsKept,
}

impl Probe {
    /// Returns the server port, or 0 for none.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Icmp => 0,
            Self::TcpHalf | Self::TcpFull => server::TCP,
            Self::Http | Self::HttpKept => server::HTTP,
            Self::Https | Self::HttpsKept => server::HTTPS,
        }
    }

    /// True if connections are reused.
    #[must_use]
    pub const fn is_kept(self) -> bool {
        matches!(self, Self::HttpKept | Self::HttpsKept)
    }

    /// Returns the name of its kind on the command line.
    #[must_use]
    pub const fn family(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::TcpHalf | Self::TcpFull => "tcp",
            Self::Http | Self::HttpKept => "http",
            Self::Https | Self::HttpsKept => "https",
        }
    }

    /// Returns the name for tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "ICMP",
            Self::TcpHalf => "TCP, half-open",
            Self::TcpFull => "TCP, full",
            Self::Http => "HTTP",
            Self::HttpKept => "HTTP, keep-alive",
            Self::Https => "HTTPS",
            Self::HttpsKept => "HTTPS, keep-alive",
        }
    }
}

/// A check configuration.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Type of probe.
    pub probe: Probe,
    /// Number of backends.
    pub backends: u32,
    /// Index of the first backend.
    pub first: u32,
    /// Interval of probes of a healthy backend.
    pub interval: Duration,
    /// Interval after a first failure.
    pub fast: Duration,
    /// Failures that take a backend down.
    pub fall: u32,
    /// True if our timeouts adapt to latency.
    pub auto: bool,
}

impl Check {
    /// Returns a check with one probe per second.
    #[must_use]
    pub const fn new(probe: Probe, backends: u32) -> Self {
        let interval = Duration::from_secs(1);
        Self { probe, backends, first: 0, interval, fast: interval, fall: 3, auto: false }
    }

    fn all(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.backends
    }
}

/// Returns `maglevd`'s configuration. Ten backends share a frontend.
#[must_use]
pub fn ours(check: &Check) -> String {
    let port = check.probe.port();
    let (kind, params) = match check.probe {
        Probe::Icmp => ("type: icmp".to_owned(), ""),
        Probe::TcpHalf => (format!("type: tcp, port: {port}"), "mode: half-open"),
        Probe::TcpFull => (format!("type: tcp, port: {port}"), "mode: full"),
        Probe::Http => (format!("type: http, port: {port}"), "path: /health"),
        Probe::HttpKept => (format!("type: http, port: {port}"), "path: /health, keep-alive: true"),
        Probe::Https => (format!("type: https, port: {port}"), "path: /health, insecure-skip-verify: true"),
        Probe::HttpsKept => (
            format!("type: https, port: {port}"),
            "path: /health, insecure-skip-verify: true, keep-alive: true",
        ),
    };
    let params = if params.is_empty() { String::new() } else { format!(", params: {{ {params} }}") };
    let timeout = if check.auto { "auto" } else { "1s" };
    let (interval, fast, fall) = (check.interval.as_millis(), check.fast.as_millis(), check.fall);
    let mut text = format!(
        "maglev:
  vpp: {{ lb: {{ ipv4-src-address: 192.0.2.1, startup-max-delay: 2s }} }}
  healthchecks:
    all: {{ {kind}, interval: {interval}ms, fast-interval: {fast}ms, timeout: {timeout}, fall: {fall}{params} }}
  backends:
"
    );
    for backend in check.all() {
        _ = writeln!(text, "    b{backend}: {{ address: {}, healthcheck: all }}", address::of(backend));
    }
    text += "  frontends:\n";
    let all: Vec<_> = check.all().collect();
    for (frontend, backends) in all.chunks(10).enumerate() {
        let backends: Vec<_> = backends.iter().map(|backend| format!("b{backend}: ")).collect();
        let (high, low, backends) = (frontend / 256, frontend % 256, backends.join(", "));
        _ = writeln!(
            text,
            "    f{frontend}: {{ address: 172.16.{high}.{low}, pools: [ {{ name: all, backends: {{ {backends} }} }} ] }}"
        );
    }
    text
}

/// Returns HAProxy's configuration with one thread, for one processor. Its TCP check is half-open.
///
/// # Errors
/// If HAProxy has no such check.
pub fn haproxy(check: &Check) -> anyhow::Result<String> {
    let (option, words) = match check.probe {
        Probe::TcpHalf => ("", "check"),
        Probe::Http => ("  option httpchk GET /health\n", "check"),
        Probe::Https => ("  option httpchk GET /health\n", "check check-ssl verify none"),
        Probe::TcpFull => bail!("HAProxy's TCP check never completes the handshake"),
        Probe::Icmp => bail!("HAProxy has no ICMP check"),
        Probe::HttpKept | Probe::HttpsKept => bail!("HAProxy 2.6 has no keep-alive for checks"),
    };
    let (interval, fast, fall) = (check.interval.as_millis(), check.fast.as_millis(), check.fall);
    let mut text = format!(
        "global
  maxconn 1000
  nbthread 1
  log stderr format raw local0 notice
defaults
  mode http
  log global
  timeout connect 1s
  timeout client 5s
  timeout server 5s
  timeout check 1s
  default-server inter {interval}ms fastinter {fast}ms downinter {interval}ms rise 2 fall {fall}
frontend all
  bind 127.0.0.1:7999
  default_backend p0
"
    );
    let all: Vec<_> = check.all().collect();
    for (pool, backends) in all.chunks(1000).enumerate() {
        _ = write!(text, "backend p{pool}\n  balance static-rr\n{option}");
        for &backend in backends {
            _ = writeln!(text, "  server b{backend} {}:{} {words}", address::of(backend), check.probe.port());
        }
    }
    Ok(text)
}

/// Returns keepalived's configuration.
///
/// # Errors
/// If keepalived has no such check.
pub fn keepalived(check: &Check) -> anyhow::Result<String> {
    ensure!(check.interval.subsec_nanos() == 0, "keepalived's intervals are whole seconds");
    let (name, words) = match check.probe {
        Probe::Icmp => ("PING_CHECK", ""),
        Probe::TcpFull => ("TCP_CHECK", ""),
        Probe::Http => ("HTTP_GET", "url { path /health\n status_code 200\n }"),
        Probe::Https => ("SSL_GET", "url { path /health\n status_code 200\n }"),
        Probe::TcpHalf => bail!("keepalived's TCP check completes the handshake"),
        Probe::HttpKept | Probe::HttpsKept => bail!("keepalived has no keep-alive for checks"),
    };
    let port = check.probe.port().max(1);
    let (interval, retry, fast) = (check.interval.as_secs(), check.fall - 1, check.fast.as_secs_f64());
    let mut text = "global_defs {\n router_id bench\n}\n".to_owned();
    let all: Vec<_> = check.all().collect();
    for (service, backends) in all.chunks(1000).enumerate() {
        _ = write!(
            text,
            "virtual_server 198.18.{service}.1 {port} {{\n delay_loop {interval}\n lb_algo rr\n lb_kind DR\n protocol TCP\n"
        );
        for &backend in backends {
            _ = writeln!(
                text,
                " real_server {} {port} {{\n {name} {{\n {words}\n connect_timeout 1\n retry {retry}\n delay_before_retry {fast}\n }}\n }}",
                address::of(backend)
            );
        }
        text += "}\n";
    }
    Ok(text)
}

/// Returns the C program with the same system calls, and its mode.
///
/// # Errors
/// If there is none.
pub fn floor(check: &Check) -> anyhow::Result<(&'static str, &'static str)> {
    Ok(match check.probe {
        Probe::Icmp => ("raw", "icmp"),
        Probe::TcpHalf => ("raw", "syn"),
        Probe::TcpFull => ("floor", "full"),
        Probe::Http => ("floor", "http"),
        Probe::HttpKept => ("floor", "kept"),
        Probe::Https | Probe::HttpsKept => bail!("the C floor has no TLS"),
    })
}
