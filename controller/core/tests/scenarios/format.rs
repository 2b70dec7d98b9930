//! Parsing and formatting of transcripts.

use std::time::Duration;

use maglev_core::config::{Healthcheck, Probe};
use maglev_core::event::{Audit, Kind, LocalFaultsChange, MassFailureResult};
use maglev_core::overrides::Override;
use maglev_core::time::WallTime;
use maglev_ipc::ProbeTimeout;

pub fn healthcheck() -> Healthcheck {
    Healthcheck {
        probe: Probe::Icmp,
        interval: Duration::from_secs(2),
        fast_interval: Duration::from_millis(500),
        down_interval: Duration::from_secs(10),
        timeout: ProbeTimeout::Fixed(Duration::from_secs(1)),
        rise: 2,
        fall: 3,
        source4: None,
        source6: None,
    }
}

pub fn seconds(text: &str) -> Duration {
    Duration::from_secs_f64(text.strip_suffix('s').unwrap().parse().unwrap())
}

pub fn event_text(kind: &Kind) -> String {
    let there = |connected: bool| if connected { "connected" } else { "lost" };
    match kind {
        Kind::Backend { name, transition, .. } => {
            format!("backend {name} {} -> {} ({})", transition.from, transition.to, transition.cause)
        }
        Kind::Frontend { name, from, to, active_pool } => {
            let pool = active_pool.as_ref().map_or("none", |pool| pool);
            format!("frontend {name} {from} -> {to}, pool {pool}")
        }
        Kind::Prober { connected } => format!("prober {}", there(*connected)),
        Kind::MassFailure(MassFailureResult::Suspected { failing, total, hold }) => {
            format!("mass failure? {failing} of {total} fail at once; held for {hold:?}")
        }
        Kind::MassFailure(MassFailureResult::Dismissed) => "mass failure dismissed".into(),
        Kind::MassFailure(MassFailureResult::Confirmed) => "mass failure confirmed".into(),
        Kind::LocalFaults(LocalFaultsChange::Unobserved { name, fault }) => {
            format!("{name} unobserved ({fault})")
        }
        Kind::LocalFaults(LocalFaultsChange::Hidden { name, fault }) => format!("{name} hidden ({fault})"),
        Kind::LocalFaults(LocalFaultsChange::Cleared) => "local faults cleared".into(),
        Kind::CheckRejected { name, reason } => format!("prober rejects {name}: {reason}"),
        Kind::Vpp { connected } => format!("vpp {}", there(*connected)),
        Kind::AddressConflict { vip, conflicting: true } => format!("address conflict {vip}"),
        Kind::AddressConflict { vip, conflicting: false } => format!("no address conflict {vip}"),
        Kind::Drift { vip, reverted } => {
            let what = vip.map_or("conf".into(), |vip| vip.to_string());
            format!("drift {what}{}", if *reverted { "" } else { ", left alone" })
        }
        Kind::LbConf { error: None } => "conf sent".into(),
        Kind::LbConf { error: Some(error) } => format!("conf rejected: {error}"),
        Kind::Synced { vip, counts } => format!(
            "synced {vip} vip +{} -{} as +{} -{} ~{}",
            counts.vip_added,
            counts.vip_removed,
            counts.as_added,
            counts.as_removed,
            counts.as_weight_updated
        ),
        Kind::StepFailed { vip, step, error } => format!("failed {vip}: {step}: {error}"),
        Kind::Reloaded => "reloaded".into(),
        Kind::Operator(audit) => audit_text(audit),
    }
}

fn audit_text(audit: &Audit) -> String {
    let Audit { actor, action, subject, from, to, .. } = audit;
    let meta = meta_text(&audit.reason, audit.expires);
    format!("{actor}: {} {subject}: {from} -> {to}{meta}", action.as_str())
}

/// Formats an override.
pub fn override_text(listed: &Override, dangling: bool) -> String {
    let Override { backend, slot, kind, meta } = listed;
    let of = slot.as_ref().map_or(String::new(), |(frontend, pool)| format!("{frontend} {pool} "));
    let dangling = if dangling { ", dangling" } else { "" };
    let (who, meta) = (&meta.who, meta_text(&meta.reason, meta.expires));
    format!("{of}{backend} {kind:?} by {who}{meta}{dangling}")
}

fn meta_text(reason: &str, expires: Option<WallTime>) -> String {
    let reason = if reason.is_empty() { String::new() } else { format!(", {reason}") };
    let until = |at: WallTime| format!(", until {}s", at.0 / 1_000_000_000);
    format!("{reason}{}", expires.map_or(String::new(), until))
}
