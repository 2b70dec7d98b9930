//! Conversion of the core's and the prober's types to the API's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use maglev_core::config::{Config, Healthcheck, Probe, Tls, Verify};
use maglev_core::dataplane::{self, ActualState, ActualVip, VipKey};
use maglev_core::event::{Event, Kind, LocalFaultsChange, MassFailureResult};
use maglev_core::health::{self, TransitionCause};
use maglev_core::overrides::{Override, OverrideKind};
use maglev_core::state::ExplanationLine;
use maglev_core::time::WallTime;
use maglev_core::view::{
    BackendView, FrontendView, MemberView, PoolView, ProberView, View, VppInfo, VppView,
};
use maglev_ipc as ipc;
use maglev_proto::v1::watch_events_response::Event as ApiEvent;
use maglev_proto::v1::{self, WatchEventsResponse, transition};
use maglev_proto::{Duration as ProtoDuration, Timestamp};

use super::names::{
    action, audit_action, backend_state, code, encap, frontend_state, log_level, override_kind, probe_type,
};
use crate::log::LogRecord;

/// Reasons for which the prober rejects checks, by backend.
pub type Rejections<'a> = BTreeMap<&'a str, &'a str>;

/// Collects the rejected checks by backend.
pub fn rejections(prober: &ProberView) -> Rejections<'_> {
    prober.rejected_checks.iter().map(|(name, reason)| (&**name, reason.as_str())).collect()
}

/// Converts an override.
pub fn over(listed: &Override, config: &Config) -> v1::Override {
    let (frontend, pool) =
        listed.slot.as_ref().map(|(f, p)| (f.to_string(), p.to_string())).unwrap_or_default();
    let weight = match listed.kind {
        OverrideKind::Weight(weight) => Some(weight.into()),
        OverrideKind::Disabled | OverrideKind::Enabled | OverrideKind::Paused => None,
    };
    v1::Override {
        kind: override_kind(listed.kind).into(),
        backend: listed.backend.to_string(),
        frontend,
        pool,
        weight,
        actor: listed.meta.who.clone(),
        at: Some(timestamp(listed.meta.at)),
        reason: listed.meta.reason.clone(),
        expires: listed.meta.expires.map(timestamp),
        dangling: listed.is_dangling(config),
    }
}

/// Converts a backend, without its transitions.
pub fn backend(view: &BackendView, rejections: &Rejections<'_>, all: &View) -> v1::Backend {
    v1::Backend {
        name: view.name.to_string(),
        address: view.address.to_string(),
        healthcheck: view.healthcheck.as_deref().unwrap_or_default().into(),
        r#type: probe_type(view.kind).into(),
        enabled: view.enabled,
        state: backend_state(view.health).into(),
        since: Some(timestamp(view.since)),
        counter: view.counter,
        rise: view.rise,
        fall: view.fall,
        stale: view.stale,
        rejection: rejections.get(&*view.name).copied().unwrap_or_default().into(),
        last: view.last.as_ref().map(outcome),
        transitions: Vec::new(),
        overrides: all.overrides.of_backend(&view.name).map(|o| over(&o, &all.config)).collect(),
        derived_timeout: derived_timeout(view, &all.config),
        certificate_expires: view.not_after.map(|expiry| second(expiry.leaf)),
        certificate_chain_expires: view.not_after.map(|expiry| second(expiry.chain)),
    }
}

fn derived_timeout(view: &BackendView, config: &Config) -> Option<v1::DerivedTimeout> {
    let check = config.healthchecks.get(view.healthcheck.as_ref()?)?;
    let (min, max) = (timeout_min(check)?, check.timeout.longest());
    let now = view.last.as_ref().and_then(|last| last.timeout).unwrap_or(max);
    Some(v1::DerivedTimeout { now: Some(duration(now)), min: Some(duration(min)), max: Some(duration(max)) })
}

fn outcome(last: &health::LastOutcome) -> v1::Outcome {
    v1::Outcome {
        at: Some(timestamp(last.at)),
        duration: Some(duration(last.duration)),
        verdict: Some(verdict(last.code, &last.detail)),
    }
}

/// Converts a backend's transition.
pub fn transition(transition: &health::Transition) -> v1::Transition {
    let cause = match &transition.cause {
        TransitionCause::Outcome { code, detail } => transition::Cause::Verdict(verdict(*code, detail)),
        TransitionCause::Operator(wish) => transition::Cause::Action(action(*wish).into()),
        TransitionCause::Config => transition::Cause::Config(v1::ConfigChange {}),
    };
    v1::Transition {
        from: backend_state(transition.from).into(),
        to: backend_state(transition.to).into(),
        at: Some(timestamp(transition.at)),
        cause: Some(cause),
    }
}

fn verdict(verdict: ipc::OutcomeCode, detail: &ipc::OutcomeDetail) -> v1::Verdict {
    v1::Verdict { code: code(verdict).into(), detail: detail.to_string() }
}

/// Converts a frontend.
pub fn frontend(view: &FrontendView, config: &Config) -> v1::Frontend {
    let configured = config.frontends.get(&view.name);
    let active = view.active_pool.and_then(|index| view.pools.get(index));
    v1::Frontend {
        name: view.name.to_string(),
        description: configured.map(|frontend| frontend.description.clone()).unwrap_or_default(),
        vip: configured.map(|frontend| vip(&frontend.vip)),
        state: frontend_state(view.state).into(),
        since: Some(timestamp(view.since)),
        active_pool: active.map(|pool| pool.name.to_string()).unwrap_or_default(),
        startup_done: view.startup_done,
        src_ip_sticky: configured.is_some_and(|frontend| frontend.src_ip_sticky),
        flush_on_down: configured.is_some_and(|frontend| frontend.flush_on_down),
        encap: configured.map(|frontend| encap(frontend.encap)).unwrap_or_default().into(),
        table_length: view.table_length,
        weights_exceed_table: view.weights_exceed_table,
        warnings: view.warnings.clone(),
        pools: view.pools.iter().map(pool).collect(),
    }
}

fn pool(view: &PoolView) -> v1::Pool {
    v1::Pool { name: view.name.to_string(), backends: view.backends.iter().map(pool_backend).collect() }
}

fn pool_backend(view: &MemberView) -> v1::PoolBackend {
    v1::PoolBackend {
        name: view.name.to_string(),
        address: view.address.to_string(),
        state: backend_state(view.health).into(),
        weight: view.weight.into(),
        configured_weight: view.configured.into(),
        overridden: view.overridden,
        rounded_weight: view.rounded.into(),
        effective_weight: view.effective.into(),
        vpp_weight: view.in_vpp.map(u32::from),
        vpp_buckets: view.buckets,
    }
}

/// Converts a healthcheck.
pub fn healthcheck(name: &str, check: &Healthcheck) -> v1::Healthcheck {
    let (port, tcp, http, tls) = match &check.probe {
        Probe::Icmp => (0, None, None, None),
        Probe::Tcp { port, mode, tls } => {
            (*port, Some(v1::TcpParams { mode: tcp_mode(*mode).into() }), None, tls.as_ref())
        }
        Probe::Http { port, path, host, codes, body, keep_alive, tls } => {
            let response_codes = codes
                .iter()
                .map(|(first, last)| v1::CodeRange { first: (*first).into(), last: (*last).into() });
            let http = v1::HttpParams {
                path: path.clone(),
                host: host.clone().unwrap_or_default(),
                response_codes: response_codes.collect(),
                response_regexp: body.clone().unwrap_or_default(),
                keep_alive_requests: keep_alive.map(NonZeroU32::get),
            };
            (*port, None, Some(http), tls.as_ref())
        }
    };
    v1::Healthcheck {
        name: name.into(),
        r#type: probe_type(check.kind()).into(),
        interval: Some(duration(check.interval)),
        fast_interval: Some(duration(check.fast_interval)),
        down_interval: Some(duration(check.down_interval)),
        timeout: Some(duration(check.timeout.longest())),
        timeout_min: timeout_min(check).map(duration),
        rise: check.rise,
        fall: check.fall,
        probe_ipv4_src: check.source4.map(|source| source.to_string()).unwrap_or_default(),
        probe_ipv6_src: check.source6.map(|source| source.to_string()).unwrap_or_default(),
        port: port.into(),
        tcp,
        http,
        tls: tls.map(tls_params),
    }
}

fn tcp_mode(mode: ipc::ConnectMode) -> v1::TcpMode {
    match mode {
        ipc::ConnectMode::Full => v1::TcpMode::Full,
        ipc::ConnectMode::HalfOpen => v1::TcpMode::HalfOpen,
    }
}

/// Returns the lower bound of a derived timeout.
fn timeout_min(check: &Healthcheck) -> Option<Duration> {
    match check.timeout {
        ipc::ProbeTimeout::Auto { min, .. } => Some(min),
        ipc::ProbeTimeout::Fixed(_) => None,
    }
}

fn tls_params(tls: &Tls) -> v1::TlsParams {
    let verify = match &tls.verify {
        Verify::Nothing => v1::TlsVerify::Nothing,
        Verify::System => v1::TlsVerify::System,
        Verify::Bundle(_) => v1::TlsVerify::CaFile,
    };
    v1::TlsParams { server_name: tls.server_name.clone().unwrap_or_default(), verify: verify.into() }
}

/// Converts the connected VPP.
pub fn vpp_info(info: &VppInfo, since: WallTime) -> v1::GetVppInfoResponse {
    v1::GetVppInfoResponse {
        version: info.version.clone(),
        build_date: info.build_date.clone(),
        pid: info.pid,
        boot_time: info.boot.map(timestamp),
        connected_since: Some(timestamp(since)),
    }
}

/// Converts the last observed state of VPP.
pub fn lb_state(actual: &ActualState, view: &View) -> v1::GetLbStateResponse {
    let owners: BTreeMap<VipKey, &FrontendView> = view
        .frontends
        .iter()
        .filter_map(|frontend| Some((view.config.frontends.get(&frontend.name)?.vip, frontend)))
        .collect();
    let failures: BTreeMap<VipKey, &str> =
        view.vpp.failing.iter().map(|(key, why)| (*key, why.as_str())).collect();
    let vips = actual.vips.iter().map(|(key, found)| {
        let owner = owners.get(key).copied();
        let other = owner.filter(|frontend| frontend.other_table);
        let desired = other.and_then(|frontend| view.config.frontends.get(&frontend.name));
        v1::LbVip {
            desired_table_length: desired.map(|frontend| frontend.created_table_length()),
            failure: failures.get(key).copied().unwrap_or_default().into(),
            ..lb_vip(key, found, owner)
        }
    });
    v1::GetLbStateResponse { conf: actual.conf.as_ref().map(lb_conf), vips: vips.collect() }
}

fn lb_conf(conf: &dataplane::LbConf) -> v1::LbConf {
    // The plugin writes `none` as an address of all ones.
    let ipv4 = (conf.ipv4_src.to_bits() != u32::MAX).then(|| conf.ipv4_src.to_string());
    let ipv6 = (conf.ipv6_src.to_bits() != u128::MAX).then(|| conf.ipv6_src.to_string());
    v1::LbConf {
        ipv4_src_address: ipv4.unwrap_or_default(),
        ipv6_src_address: ipv6.unwrap_or_default(),
        sticky_buckets_per_core: conf.sticky_buckets_per_core,
        flow_timeout: Some(duration(Duration::from_secs(conf.flow_timeout.into()))),
    }
}

fn lb_vip(key: &VipKey, found: &ActualVip, owner: Option<&FrontendView>) -> v1::LbVip {
    let members = owner.into_iter().flat_map(|frontend| &frontend.pools).flat_map(|pool| &pool.backends);
    let names: BTreeMap<IpAddr, &str> = members.map(|member| (member.address, &*member.name)).collect();
    let servers = found.servers.iter().map(|(address, server)| v1::LbServer {
        address: address.to_string(),
        backend: names.get(address).copied().unwrap_or_default().into(),
        weight: server.weight.into(),
        buckets: server.buckets,
    });
    v1::LbVip {
        vip: Some(vip(key)),
        frontend: owner.map(|frontend| frontend.name.to_string()).unwrap_or_default(),
        encap: encap(found.encap).into(),
        table_length: found.table_length,
        src_ip_sticky: found.src_ip_sticky,
        servers: servers.collect(),
        ..v1::LbVip::default()
    }
}

pub fn vip(key: &VipKey) -> v1::Vip {
    v1::Vip { prefix: key.prefix(), protocol: key.protocol_name(), port: key.port.into() }
}

/// Converts an event.
pub fn event(event: &Event) -> WatchEventsResponse {
    let payload = match &event.kind {
        Kind::Backend { name, address, transition: moved } => ApiEvent::Backend(v1::BackendEvent {
            name: name.to_string(),
            address: address.to_string(),
            transition: Some(transition(moved)),
        }),
        Kind::Frontend { name, from, to, active_pool } => ApiEvent::Frontend(v1::FrontendEvent {
            name: name.to_string(),
            from: frontend_state(*from).into(),
            to: frontend_state(*to).into(),
            active_pool: active_pool.as_deref().unwrap_or_default().into(),
        }),
        Kind::Prober { connected } => ApiEvent::Prober(v1::ProberEvent { connected: *connected }),
        Kind::MassFailure(stage) => ApiEvent::MassFailure(mass_failure(stage)),
        Kind::LocalFaults(change) => ApiEvent::LocalFaults(local_faults(change)),
        Kind::CheckRejected { name, reason } => {
            ApiEvent::CheckRejected(v1::CheckRejectedEvent { name: name.to_string(), reason: reason.clone() })
        }
        Kind::Vpp { connected } => ApiEvent::Vpp(v1::VppEvent { connected: *connected }),
        Kind::Synced { vip: key, counts } => ApiEvent::Sync(v1::SyncEvent {
            vip: Some(vip(key)),
            vip_added: counts.vip_added,
            vip_removed: counts.vip_removed,
            as_added: counts.as_added,
            as_removed: counts.as_removed,
            as_weight_updated: counts.as_weight_updated,
        }),
        Kind::StepFailed { vip: key, step, error } => ApiEvent::SyncFailure(v1::SyncFailureEvent {
            vip: Some(vip(key)),
            step: step.to_string(),
            error: error.clone(),
        }),
        Kind::Drift { vip: key, reverted } => {
            ApiEvent::Drift(v1::DriftEvent { vip: key.as_ref().map(vip), reverted: Some(*reverted) })
        }
        Kind::AddressConflict { vip: key, conflicting } => {
            ApiEvent::AddressConflict(v1::AddressConflictEvent {
                vip: Some(vip(key)),
                conflicting: *conflicting,
            })
        }
        Kind::LbConf { error } => {
            ApiEvent::LbConf(v1::LbConfEvent { error: error.clone().unwrap_or_default() })
        }
        Kind::Reloaded => ApiEvent::Reload(v1::ReloadEvent {}),
        Kind::Operator(audit) => ApiEvent::Operator(v1::OperatorEvent {
            actor: audit.actor.clone(),
            action: audit_action(audit.action).into(),
            subject: audit.subject.clone(),
            from: audit.from.clone(),
            to: audit.to.clone(),
            reason: audit.reason.clone(),
            expires: audit.expires.map(timestamp),
        }),
    };
    WatchEventsResponse { at: Some(timestamp(event.at)), replay: false, event: Some(payload) }
}

fn mass_failure(stage: &MassFailureResult) -> v1::MassFailureEvent {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let plain =
        |result: v1::MassFailureResult| v1::MassFailureEvent { result: result.into(), ..Default::default() };
    match stage {
        MassFailureResult::Suspected { failing, total, hold } => v1::MassFailureEvent {
            failing: number(*failing),
            total: number(*total),
            hold: Some(duration(*hold)),
            ..plain(v1::MassFailureResult::Suspected)
        },
        MassFailureResult::Dismissed => plain(v1::MassFailureResult::Dismissed),
        MassFailureResult::Confirmed => plain(v1::MassFailureResult::Confirmed),
    }
}

fn local_faults(change: &LocalFaultsChange) -> v1::LocalFaultsEvent {
    match change {
        LocalFaultsChange::Unobserved { name, fault } | LocalFaultsChange::Hidden { name, fault } => {
            let hidden = matches!(change, LocalFaultsChange::Hidden { .. });
            v1::LocalFaultsEvent { active: true, name: name.to_string(), fault: fault.to_string(), hidden }
        }
        LocalFaultsChange::Cleared => v1::LocalFaultsEvent::default(),
    }
}

/// Returns a backend's current state as a replayed event.
pub fn backend_now(view: &BackendView) -> WatchEventsResponse {
    let state = backend_state(view.health).into();
    let newest = view.transitions.first().map(transition);
    let still = || v1::Transition { from: state, to: state, at: Some(timestamp(view.since)), cause: None };
    let payload = ApiEvent::Backend(v1::BackendEvent {
        name: view.name.to_string(),
        address: view.address.to_string(),
        transition: Some(newest.unwrap_or_else(still)),
    });
    now(view.since, payload)
}

/// Returns a frontend's current state as a replayed event.
pub fn frontend_now(view: &FrontendView) -> WatchEventsResponse {
    let state = frontend_state(view.state).into();
    let active = view.active_pool.and_then(|index| view.pools.get(index));
    let payload = ApiEvent::Frontend(v1::FrontendEvent {
        name: view.name.to_string(),
        from: state,
        to: state,
        active_pool: active.map(|pool| pool.name.to_string()).unwrap_or_default(),
    });
    now(view.since, payload)
}

/// Returns the prober's current state as a replayed event.
pub fn prober_now(view: &ProberView) -> WatchEventsResponse {
    now(view.since, ApiEvent::Prober(v1::ProberEvent { connected: view.connected }))
}

/// Returns VPP's current state as a replayed event.
pub fn vpp_now(view: &VppView) -> WatchEventsResponse {
    now(view.since, ApiEvent::Vpp(v1::VppEvent { connected: view.info.is_some() }))
}

fn now(since: WallTime, payload: ApiEvent) -> WatchEventsResponse {
    WatchEventsResponse { at: Some(timestamp(since)), replay: true, event: Some(payload) }
}

/// Converts one line of an explanation.
pub fn reason(reason: ExplanationLine) -> v1::Reason {
    v1::Reason { topic: reason.topic.as_str().into(), text: reason.text }
}

/// Converts a log record.
pub fn record(record: &LogRecord) -> WatchEventsResponse {
    let fields =
        record.fields.iter().map(|(name, value)| v1::LogField { name: (*name).into(), value: value.clone() });
    let payload = ApiEvent::Log(v1::LogEvent {
        level: log_level(record.level).into(),
        target: record.target.into(),
        message: record.message.clone(),
        fields: fields.collect(),
    });
    WatchEventsResponse { at: Some(record.at.into()), replay: false, event: Some(payload) }
}

/// Returns the event that `count` events were dropped.
pub fn dropped(count: u64) -> WatchEventsResponse {
    let payload = ApiEvent::Dropped(v1::DroppedEvent { count });
    WatchEventsResponse { at: Some(SystemTime::now().into()), replay: false, event: Some(payload) }
}

fn timestamp(wall: WallTime) -> Timestamp {
    (SystemTime::UNIX_EPOCH + Duration::from_nanos(wall.0)).into()
}

fn second(since_epoch: u64) -> Timestamp {
    Timestamp { seconds: since_epoch.try_into().unwrap_or(i64::MAX), nanos: 0 }
}

fn duration(duration: Duration) -> ProtoDuration {
    // The bound is 292 billion years.
    duration.try_into().unwrap_or_default()
}
