//! Rules for healthchecks.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::vec;
use core::num::NonZeroU32;
use core::time::Duration;

use maglev_ipc::check::{
    KEEP_ALIVE_REQUESTS, MAX_INTERVAL, MAX_REGEXP, MAX_TIMEOUT, MIN_INTERVAL, MIN_TIMEOUT,
};
use maglev_ipc::regexp::{MAX_REGEXPS, RegexpSet};
use maglev_ipc::{ConnectMode, ProbeTimeout};
use maglev_time::TextDuration;

use super::super::file::{self, Params, ProbeType};
use super::super::{Healthcheck, Probe, Tls, Verify};
use super::bundle::Bundles;
use super::{Read, Scope, value};

/// Highest rise and fall.
const MAX_COUNT: u32 = 1000;
/// Default of `keep-alive-requests`.
const DEFAULT_KEEP_ALIVE_REQUESTS: u32 = 10;
/// Default of `timeout-min`.
const DEFAULT_TIMEOUT_MIN: Duration = Duration::from_millis(50);

/// Parts that several healthchecks may share.
pub struct SharedParts<'r, 'f> {
    bundles: Bundles<'r, 'f>,
    regexps: RegexpSet,
}

impl<'r, 'f> SharedParts<'r, 'f> {
    pub fn new(read: &'r mut Read<'f>) -> Self {
        Self { bundles: Bundles::new(read), regexps: RegexpSet::new(MAX_REGEXPS) }
    }
}

pub fn healthcheck(
    scope: &mut Scope<'_>,
    check: &file::Healthcheck,
    shared: &mut SharedParts<'_, '_>,
) -> Option<Healthcheck> {
    let kind = check.kind.or_else(|| scope.at("type").refuse("required: icmp, tcp, http or https"));
    let port = kind.and_then(|kind| port(&mut scope.at("port"), kind, check.port));

    let paces = MIN_INTERVAL..=MAX_INTERVAL;
    let counts = 1..=MAX_COUNT;
    let interval =
        value::span(&mut scope.at("interval"), check.interval, Duration::from_secs(2), paces.clone());
    // A wrong interval is reported only once.
    let usual = interval.unwrap_or(MIN_INTERVAL);
    let fast_interval =
        value::span(&mut scope.at("fast-interval"), check.fast_interval, usual, paces.clone());
    let down_interval = value::span(&mut scope.at("down-interval"), check.down_interval, usual, paces);
    let timeout = timeout(scope, check);
    let rise = value::integer(&mut scope.at("rise"), check.rise, 2, counts.clone());
    let fall = value::integer(&mut scope.at("fall"), check.fall, 3, counts);
    let source4 =
        value::optional(check.probe_ipv4_src, |source| value::ipv4(&mut scope.at("probe-ipv4-src"), source));
    let source6 =
        value::optional(check.probe_ipv6_src, |source| value::ipv6(&mut scope.at("probe-ipv6-src"), source));
    let probe = kind.and_then(|kind| probe(&mut scope.at("params"), kind, port, &check.params, shared));

    Some(Healthcheck {
        probe: probe?,
        interval: interval?,
        fast_interval: fast_interval?,
        down_interval: down_interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
        source4: source4?,
        source6: source6?,
    })
}

fn timeout(scope: &mut Scope<'_>, check: &file::Healthcheck) -> Option<ProbeTimeout> {
    let bounds = MIN_TIMEOUT..=MAX_TIMEOUT;
    let usual = Duration::from_secs(1);
    if check.timeout == Some(file::Timeout::Auto) {
        let max = value::span(&mut scope.at("timeout-max"), check.timeout_max, usual, bounds.clone());
        // A low `timeout-max` alone lowers the default of `timeout-min`.
        let least = DEFAULT_TIMEOUT_MIN.min(max.unwrap_or(usual));
        let min = value::span(&mut scope.at("timeout-min"), check.timeout_min, least, bounds);
        let (min, max) = (min?, max?);
        if min > max {
            return scope.at("timeout-min").refuse(format!("more than timeout-max, {}", TextDuration(max)));
        }
        return Some(ProbeTimeout::Auto { min, max });
    }
    let given = [("timeout-min", check.timeout_min.is_some()), ("timeout-max", check.timeout_max.is_some())];
    let fitting = refuse_given(scope, &given, |_| false, "needs timeout: auto");
    let span = check.timeout.and_then(|timeout| match timeout {
        file::Timeout::Fixed(span) => Some(span),
        file::Timeout::Auto => None,
    });
    let fixed = value::span(&mut scope.at("timeout"), span, usual, bounds).map(ProbeTimeout::Fixed);
    fitting.and(fixed)
}

/// Returns the port; 0 for types without one.
fn port(scope: &mut Scope<'_>, kind: ProbeType, port: Option<i64>) -> Option<u16> {
    match (kind, port) {
        (ProbeType::Icmp, None) => Some(0),
        (ProbeType::Icmp, Some(_)) => scope.refuse("an icmp check has no port"),
        (_, Some(port)) => value::port(scope, port),
        (_, None) => scope.refuse(format!("required for type {}", spelled(kind))),
    }
}

fn probe(
    scope: &mut Scope<'_>,
    kind: ProbeType,
    port: Option<u16>,
    params: &Params,
    shared: &mut SharedParts<'_, '_>,
) -> Option<Probe> {
    let fitting = only_fitting(scope, kind, params);
    let probe = match kind {
        ProbeType::Icmp => Some(Probe::Icmp),
        ProbeType::Tcp => tcp(scope, port, params, shared),
        ProbeType::Http => http(scope, port, params, shared, false),
        ProbeType::Https => http(scope, port, params, shared, true),
    };
    fitting.and(probe)
}

fn tcp(
    scope: &mut Scope<'_>,
    port: Option<u16>,
    params: &Params,
    shared: &mut SharedParts<'_, '_>,
) -> Option<Probe> {
    let tls = if params.tls == Some(true) {
        tls(scope, params, shared).map(Some)
    } else {
        without_tls(scope, params).map(|()| None)
    };
    let mode = mode(&mut scope.at("mode"), params);
    Some(Probe::Tcp { port: port?, mode: mode?, tls: tls? })
}

fn mode(scope: &mut Scope<'_>, params: &Params) -> Option<ConnectMode> {
    match params.mode {
        None | Some(file::Mode::Full) => Some(ConnectMode::Full),
        Some(file::Mode::HalfOpen) if params.tls == Some(true) => {
            scope.refuse("a handshake needs a connection: half-open excludes tls: true")
        }
        Some(file::Mode::HalfOpen) => Some(ConnectMode::HalfOpen),
    }
}

fn http(
    scope: &mut Scope<'_>,
    port: Option<u16>,
    params: &Params,
    shared: &mut SharedParts<'_, '_>,
    has_tls: bool,
) -> Option<Probe> {
    let path = params.path.as_deref().unwrap_or("/");
    let path = value::path(&mut scope.at("path"), path).map(|()| path.to_owned());
    let host = value::optional(params.host.as_deref(), |host| {
        value::host(&mut scope.at("host"), host).map(|()| host.to_owned())
    });
    let codes = match &params.response_code {
        Some(list) => value::codes(&mut scope.at("response-code"), list),
        None => Some(vec![(200, 200)]),
    };
    let body = value::optional(params.response_regexp.as_deref(), |pattern| {
        is_regexp(&mut scope.at("response-regexp"), pattern, &mut shared.regexps).map(|()| pattern.to_owned())
    });
    let keep_alive = keep_alive(scope, params);
    let tls = if has_tls { tls(scope, params, shared).map(Some) } else { Some(None) };
    Some(Probe::Http {
        port: port?,
        path: path?,
        host: host?,
        codes: codes?,
        body: body?,
        keep_alive: keep_alive?,
        tls: tls?,
    })
}

fn keep_alive(scope: &mut Scope<'_>, params: &Params) -> Option<Option<NonZeroU32>> {
    let mut scope = scope.at("keep-alive-requests");
    if params.keep_alive == Some(true) {
        return value::integer(
            &mut scope,
            params.keep_alive_requests,
            DEFAULT_KEEP_ALIVE_REQUESTS,
            KEEP_ALIVE_REQUESTS,
        )
        .map(NonZeroU32::new);
    }
    match params.keep_alive_requests {
        None => Some(None),
        Some(_) => scope.refuse("needs keep-alive: true"),
    }
}

fn is_regexp(scope: &mut Scope<'_>, pattern: &str, regexps: &mut RegexpSet) -> Option<()> {
    match regexps.compile(pattern) {
        Ok(_) => Some(()),
        Err(why) if pattern.len() > MAX_REGEXP => scope.refuse(why),
        Err(why) => scope.refuse(format!("{pattern:?}: {why}")),
    }
}

fn tls(scope: &mut Scope<'_>, params: &Params, shared: &mut SharedParts<'_, '_>) -> Option<Tls> {
    let server_name = value::optional(params.server_name.as_deref(), |name| {
        value::server_name(&mut scope.at("server-name"), name).map(|()| name.to_owned())
    });
    let insecure = params.insecure_skip_verify == Some(true);
    let verify = match &params.ca_file {
        None if insecure => Some(Verify::Nothing),
        None => Some(Verify::System),
        Some(_) if insecure => scope.at("ca-file").refuse("excluded by insecure-skip-verify"),
        Some(path) => shared.bundles.load(&mut scope.at("ca-file"), path).map(Verify::Bundle),
    };
    Some(Tls { server_name: server_name?, verify: verify? })
}

/// Reports TLS parameters without TLS.
fn without_tls(scope: &mut Scope<'_>, params: &Params) -> Option<()> {
    let asked = [
        ("server-name", params.server_name.is_some()),
        ("insecure-skip-verify", params.insecure_skip_verify.is_some()),
        ("ca-file", params.ca_file.is_some()),
    ];
    refuse_given(scope, &asked, |_| false, "needs tls: true")
}

/// Reports parameters that the type does not support.
fn only_fitting(scope: &mut Scope<'_>, kind: ProbeType, params: &Params) -> Option<()> {
    let fitting: &[&str] = match kind {
        ProbeType::Icmp => &[],
        ProbeType::Tcp => &["mode", "tls", "server-name", "insecure-skip-verify", "ca-file"],
        ProbeType::Http => {
            &["path", "host", "response-code", "response-regexp", "keep-alive", "keep-alive-requests"]
        }
        ProbeType::Https => &[
            "path",
            "host",
            "response-code",
            "response-regexp",
            "keep-alive",
            "keep-alive-requests",
            "server-name",
            "insecure-skip-verify",
            "ca-file",
        ],
    };
    let given = [
        ("path", params.path.is_some()),
        ("host", params.host.is_some()),
        ("response-code", params.response_code.is_some()),
        ("response-regexp", params.response_regexp.is_some()),
        ("keep-alive", params.keep_alive.is_some()),
        ("keep-alive-requests", params.keep_alive_requests.is_some()),
        ("mode", params.mode.is_some()),
        ("tls", params.tls.is_some()),
        ("server-name", params.server_name.is_some()),
        ("insecure-skip-verify", params.insecure_skip_verify.is_some()),
        ("ca-file", params.ca_file.is_some()),
    ];
    let known = if fitting.is_empty() { "none".to_owned() } else { fitting.join(", ") };
    let message = format!("not for type {}, whose params are: {known}", spelled(kind));
    refuse_given(scope, &given, |name| fitting.contains(&name), &message)
}

fn refuse_given(
    scope: &mut Scope<'_>,
    given: &[(&str, bool)],
    fits: impl Fn(&str) -> bool,
    message: &str,
) -> Option<()> {
    let mut result = Some(());
    for (name, is_given) in given {
        if *is_given && !fits(name) {
            result = scope.at(name).refuse(message);
        }
    }
    result
}

fn spelled(kind: ProbeType) -> &'static str {
    match kind {
        ProbeType::Icmp => "icmp",
        ProbeType::Tcp => "tcp",
        ProbeType::Http => "http",
        ProbeType::Https => "https",
    }
}
