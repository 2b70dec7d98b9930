//! Families of the current state.

use std::time::Duration;

use maglev_core::failover::FrontendState;
use maglev_core::health::Health;
use maglev_core::time::WallTime;
use maglev_core::view::{Hindrances, ProberView, View, VppView};
use maglev_ipc::LatenessHistogram;

use super::text::{FamilyType, TextEncoder, labels};

/// Writes the families that follow from a view.
pub fn render(view: &View, text: &mut TextEncoder) {
    backends(view, text);
    certificates(view, text);
    frontends(view, text);
    conditions(view, text);
    pools(view, text);
    weights(view, text);
    prober(&view.prober, text);
    vpp(&view.vpp, view.at.wall, text);
}

fn backends(view: &View, text: &mut TextEncoder) {
    let mut family = text.family(
        "maglev_backend_state",
        FamilyType::Gauge,
        "Whether a backend is in a state: 1 for the one it is in.",
    );
    for backend in &view.backends {
        let labels = labels(&[
            ("backend", &backend.name),
            ("address", &backend.address.to_string()),
            ("healthcheck", backend.healthcheck.as_deref().unwrap_or_default()),
        ]);
        family.one_hot(&labels, Health::ALL.iter().map(|state| (state.as_str(), *state == backend.health)));
    }
    let mut family = text.family(
        "maglev_backend_health",
        FamilyType::Gauge,
        "A backend's rise/fall counter, from 0 to rise + fall - 1.",
    );
    for backend in &view.backends {
        family.sample(&[("backend", &backend.name)], backend.counter);
    }
    let stale = view.backends.iter().filter(|backend| backend.stale).count();
    text.gauge("maglev_stale_backends", "Backends whose state may be out of date.", stale);
    let mut family =
        text.family("maglev_backend_enabled", FamilyType::Gauge, "Whether a backend is not disabled.");
    for backend in &view.backends {
        family.sample(&[("backend", &backend.name)], u8::from(backend.enabled));
    }
}

fn certificates(view: &View, text: &mut TextEncoder) {
    let mut family = text.family(
        "maglev_backend_certificate_expiry_timestamp_seconds",
        FamilyType::Gauge,
        "Until when the certificate is valid that a backend has shown last, since the Unix epoch.",
    );
    for backend in &view.backends {
        if let Some(not_after) = backend.not_after {
            family.sample(
                &[("backend", &*backend.name), ("address", &*backend.address.to_string())],
                not_after,
            );
        }
    }
}

fn frontends(view: &View, text: &mut TextEncoder) {
    let mut family = text.family(
        "maglev_frontend_state",
        FamilyType::Gauge,
        "Whether a frontend is in a state: 1 for the one it is in.",
    );
    for frontend in &view.frontends {
        let vip = view.config.frontends.get(&frontend.name).map(|configured| configured.vip);
        let labels = labels(&[
            ("frontend", &frontend.name),
            ("address", &vip.map(|vip| vip.prefix()).unwrap_or_default()),
            ("protocol", &vip.map(|vip| vip.protocol_name()).unwrap_or_default()),
            ("port", &vip.map(|vip| vip.port.to_string()).unwrap_or_default()),
        ]);
        let states = FrontendState::ALL.iter();
        family.one_hot(&labels, states.map(|state| (state.as_str(), *state == frontend.state)));
    }
    let mut family = text.family(
        "maglev_frontend_distorted",
        FamilyType::Gauge,
        "Whether the weights of a frontend are beyond its table in VPP, which distorts the shares.",
    );
    for frontend in &view.frontends {
        family.sample(&[("frontend", &frontend.name)], u8::from(frontend.distorted));
    }
}

fn conditions(view: &View, text: &mut TextEncoder) {
    let mut family = text.family(
        "maglev_frontend_condition",
        FamilyType::Gauge,
        "Whether something keeps a frontend from being served as its backends' health asks for.",
    );
    for frontend in &view.frontends {
        let Hindrances { blocked, failing, shadowed } = frontend.hindrances;
        let conditions = [
            ("held", !frontend.released),
            ("blocked", blocked),
            ("failing", failing),
            ("shadowed", shadowed),
        ];
        for (condition, is_so) in conditions {
            family.sample(&[("frontend", &*frontend.name), ("condition", condition)], u8::from(is_so));
        }
    }
}

fn pools(view: &View, text: &mut TextEncoder) {
    let mut family = text.family(
        "maglev_frontend_pool_active",
        FamilyType::Gauge,
        "Whether a pool is the one that serves its frontend; priority 0 is the first choice.",
    );
    for frontend in &view.frontends {
        for (priority, pool) in frontend.pools.iter().enumerate() {
            let labels =
                [("frontend", &*frontend.name), ("pool", &*pool.name), ("priority", &*priority.to_string())];
            family.sample(&labels, u8::from(frontend.active_pool == Some(priority)));
        }
    }
}

fn weights(view: &View, text: &mut TextEncoder) {
    let members = || {
        let pools = view.frontends.iter().flat_map(|f| f.pools.iter().map(move |pool| (&f.name, pool)));
        pools.flat_map(|(frontend, pool)| {
            pool.backends.iter().map(move |member| (frontend, &pool.name, member))
        })
    };
    let mut family = text.family(
        "maglev_frontend_pool_backend_weight",
        FamilyType::Gauge,
        "A backend's weight, as configured or as set by an operator.",
    );
    for (frontend, pool, member) in members() {
        let labels = [("frontend", &**frontend), ("pool", &**pool), ("backend", &*member.name)];
        family.sample(&labels, member.weight);
    }
    let mut family = text.family(
        "maglev_frontend_pool_backend_effective_weight",
        FamilyType::Gauge,
        "A backend's weight, as it follows from health and failover.",
    );
    for (frontend, pool, member) in members() {
        let labels = [("frontend", &**frontend), ("pool", &**pool), ("backend", &*member.name)];
        family.sample(&labels, member.effective);
    }
}

fn prober(prober: &ProberView, text: &mut TextEncoder) {
    text.gauge("maglev_prober_connected", "Whether the prober is connected.", u8::from(prober.connected));
    text.gauge(
        "maglev_verdicts_waiting",
        "Whether verdicts wait, as all that was up fails at once.",
        u8::from(prober.blind),
    );
    text.gauge("maglev_prober_refused_checks", "Checks that the prober refuses.", prober.refused.len());
    let mut family = text.family(
        "maglev_prober_dropped_total",
        FamilyType::Counter,
        "What the prober has dropped or put off.",
    );
    let stats = &prober.stats;
    let reasons = [
        ("outcomes", stats.outcomes_dropped),
        ("rate", stats.delayed_by_rate),
        ("stall", stats.delayed_by_stall),
        ("duplicate", stats.duplicates),
        ("stray", stats.unmatched),
        ("spoofed", stats.spoofed),
        ("malformed", stats.malformed),
        ("overflow", stats.lost_to_overflow),
    ];
    for (reason, count) in reasons {
        family.sample(&[("reason", reason)], count);
    }
    let mut family = text.family(
        "maglev_prober_connections_total",
        FamilyType::Counter,
        "Connections that took the place of something else.",
    );
    let kinds = [
        ("retried", stats.connections_retried),
        ("resumed", stats.tls_resumptions),
        ("fallback", stats.half_open_fallbacks),
    ];
    for (kind, count) in kinds {
        family.sample(&[("kind", kind)], count);
    }
    let lateness = &stats.lateness;
    let bounds = LatenessHistogram::BOUNDS.map(|bound| Duration::from_nanos(bound).as_secs_f64().to_string());
    let sum = Duration::from_nanos(lateness.sum_ns).as_secs_f64();
    text.family(
        "maglev_probe_lateness_seconds",
        FamilyType::Histogram,
        "How long after they were due probes started.",
    )
    .histogram("", &bounds.each_ref().map(String::as_str), &lateness.counts, sum);
}

/// Writes VPP's state. While it is away, only the connection is known; without VPP, nothing is written.
fn vpp(vpp: &VppView, now: WallTime, text: &mut TextEncoder) {
    if !vpp.enabled {
        return;
    }
    text.gauge("maglev_vpp_connected", "Whether VPP is connected.", u8::from(vpp.info.is_some()));
    let Some(info) = &vpp.info else { return };
    if let Some(boot) = info.boot {
        text.gauge("maglev_vpp_uptime_seconds", "How long VPP has been running.", seconds(boot, now));
    }
    text.gauge("maglev_vpp_connected_seconds", "How long VPP has been connected.", seconds(vpp.since, now));
    let mut family =
        text.family("maglev_vpp_info", FamilyType::Gauge, "The VPP that is connected; always 1.");
    let labels =
        [("version", &*info.version), ("build_date", &*info.build_date), ("pid", &*info.pid.to_string())];
    family.sample(&labels, 1_u8);
}

fn seconds(from: WallTime, to: WallTime) -> f64 {
    Duration::from_nanos(to.0.saturating_sub(from.0)).as_secs_f64()
}
