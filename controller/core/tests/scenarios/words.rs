//! From the words of a transcript, and back.

use std::time::Duration;

use maglev_core::config::{Healthcheck, Probe};
use maglev_core::event::Kind;

pub fn healthcheck() -> Healthcheck {
    Healthcheck {
        probe: Probe::Icmp,
        interval: Duration::from_secs(2),
        fast_interval: Duration::from_millis(500),
        down_interval: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
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
        Kind::Refused { name, why } => format!("prober refuses {name}: {why}"),
        Kind::Vpp { connected } => format!("vpp {}", there(*connected)),
        Kind::Shadowed { vip, shadowed: true } => format!("shadowed {vip}"),
        Kind::Shadowed { vip, shadowed: false } => format!("no longer shadowed {vip}"),
        Kind::Drift { vip } => format!("drift {vip}"),
        Kind::ConfSent { error: None } => "conf sent".into(),
        Kind::ConfSent { error: Some(error) } => format!("conf refused: {error}"),
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
    }
}
