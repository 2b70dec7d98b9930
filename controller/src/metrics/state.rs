//! Families of the current state.

use std::collections::BTreeSet;
use std::time::Duration;

use maglev_core::failover::FrontendState;
use maglev_core::health::Health;
use maglev_core::time::WallTime;
use maglev_core::view::{ProberView, View};
use maglev_ipc::{CertificateExpiry, LatenessHistogram};

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
    vpp(view, text);
}

fn backends(view: &View, text: &mut TextEncoder) {
    let mut family = text.family(
        "maglev_backend_state",
        FamilyType::Gauge,
        "1 for the state that a backend is in, 0 for the others.",
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
    let mut family = text.family(
        "maglev_backend_stale",
        FamilyType::Gauge,
        "1 if a backend's state may be out of date, else 0.",
    );
    for backend in &view.backends {
        family.sample(&[("backend", &backend.name)], u8::from(backend.stale));
    }
    let mut family = text.family(
        "maglev_backend_hidden",
        FamilyType::Gauge,
        "1 if a backend's probes have ended only in local faults for too long while others answer, else 0.",
    );
    for backend in &view.backends {
        family.sample(&[("backend", &backend.name)], u8::from(backend.hidden));
    }
    let mut family =
        text.family("maglev_backend_enabled", FamilyType::Gauge, "0 if a backend is disabled, else 1.");
    for backend in &view.backends {
        family.sample(&[("backend", &backend.name)], u8::from(backend.enabled));
    }
}

fn certificates(view: &View, text: &mut TextEncoder) {
    let mut sample = |name, help, of: fn(CertificateExpiry) -> u64| {
        let mut family = text.family(name, FamilyType::Gauge, help);
        for backend in &view.backends {
            if let Some(expiry) = backend.not_after {
                let labels = [("backend", &*backend.name), ("address", &*backend.address.to_string())];
                family.sample(&labels, of(expiry));
            }
        }
    };
    sample(
        "maglev_backend_certificate_expiry_timestamp_seconds",
        "Expiry of the certificate that a backend showed last, as a Unix timestamp.",
        |expiry| expiry.leaf,
    );
    sample(
        "maglev_backend_certificate_chain_expiry_timestamp_seconds",
        "Earliest expiry of that certificate and of the issuers' certificates that the backend sent with it and their \
         verification used, as a Unix timestamp.",
        |expiry| expiry.chain,
    );
}

fn frontends(view: &View, text: &mut TextEncoder) {
    let mut family = text.family(
        "maglev_frontend_state",
        FamilyType::Gauge,
        "1 for the state that a frontend is in, 0 for the others.",
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
        "maglev_frontend_weights_exceed_table",
        FamilyType::Gauge,
        "1 if a frontend's weights in VPP exceed its table length, which distorts the shares.",
    );
    for frontend in &view.frontends {
        family.sample(&[("frontend", &frontend.name)], u8::from(frontend.weights_exceed_table));
    }
    let mut family = text.family(
        "maglev_frontend_other_table",
        FamilyType::Gauge,
        "1 if a frontend's table in VPP has another length than one created now.",
    );
    for frontend in &view.frontends {
        family.sample(&[("frontend", &frontend.name)], u8::from(frontend.other_table));
    }
}

fn conditions(view: &View, text: &mut TextEncoder) {
    let mut family = text.family(
        "maglev_frontend_condition",
        FamilyType::Gauge,
        "1 while a condition keeps VPP from serving a frontend by its backends' health.",
    );
    for frontend in &view.frontends {
        let problems = frontend.problems;
        let conditions = [
            ("startup_hold", !frontend.startup_done),
            ("vip_conflict", problems.vip_conflict),
            ("sync_failed", problems.sync_failed),
            ("address_conflict", problems.address_conflict),
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
        "1 for the pool that serves a frontend; priority 0 is preferred.",
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
        "A backend's weight, as configured or set by an operator.",
    );
    for (frontend, pool, member) in members() {
        let labels = [("frontend", &**frontend), ("pool", &**pool), ("backend", &*member.name)];
        family.sample(&labels, member.weight);
    }
    let mut family = text.family(
        "maglev_frontend_pool_backend_effective_weight",
        FamilyType::Gauge,
        "A backend's weight after health and failover.",
    );
    for (frontend, pool, member) in members() {
        let labels = [("frontend", &**frontend), ("pool", &**pool), ("backend", &*member.name)];
        family.sample(&labels, member.effective);
    }
}

fn prober(prober: &ProberView, text: &mut TextEncoder) {
    text.gauge(
        "maglev_prober_connected",
        "1 if the prober is connected, else 0.",
        u8::from(prober.connected),
    );
    text.gauge(
        "maglev_mass_failure_pending",
        "1 while DOWN transitions are deferred, because all backends that were up failed at once.",
        u8::from(prober.mass_failure_pending),
    );
    text.gauge(
        "maglev_prober_rejected_checks",
        "Checks that the prober rejects.",
        prober.rejected_checks.len(),
    );
    let stats = &prober.stats;
    let mut counter =
        |name, help, count: u64| text.family(name, FamilyType::Counter, help).sample(&[], count);
    counter(
        "maglev_prober_outcomes_dropped_total",
        "Outcomes that the prober dropped because maglevd did not read them in time.",
        stats.outcomes_dropped,
    );
    counter(
        "maglev_prober_packets_lost_total",
        "Packets lost because a raw socket's receive buffer was full, replies among them.",
        stats.lost_to_overflow,
    );
    counter(
        "maglev_prober_retries_total",
        "Probes repeated on a new connection because the server had closed the kept one.",
        stats.connections_retried,
    );
    counter(
        "maglev_prober_tls_resumptions_total",
        "TLS handshakes shortened by resuming a session.",
        stats.tls_resumptions,
    );
    counter(
        "maglev_prober_half_open_fallbacks_total",
        "Half-open probes made through the kernel, for want of a raw socket.",
        stats.half_open_fallbacks,
    );
    let mut family = text.family(
        "maglev_prober_probes_delayed_total",
        FamilyType::Counter,
        "Probes delayed by the rate limit, or by a stall of the prober's host.",
    );
    for (reason, count) in [("rate", stats.delayed_by_rate), ("stall", stats.delayed_by_stall)] {
        family.sample(&[("reason", reason)], count);
    }
    let mut family = text.family(
        "maglev_prober_packets_rejected_total",
        FamilyType::Counter,
        "Received packets that are no valid reply to a probe.",
    );
    let reasons = [
        ("duplicate", stats.duplicates),
        ("stray", stats.unmatched),
        ("spoofed", stats.spoofed),
        ("malformed", stats.malformed),
    ];
    for (reason, count) in reasons {
        family.sample(&[("reason", reason)], count);
    }
    let lateness = &stats.lateness;
    let bounds = LatenessHistogram::BOUNDS.map(|bound| Duration::from_nanos(bound).as_secs_f64().to_string());
    let sum = Duration::from_nanos(lateness.sum_ns).as_secs_f64();
    text.family(
        "maglev_probe_lateness_seconds",
        FamilyType::Histogram,
        "Delay of the start of probes after their due time.",
    )
    .histogram("", &bounds.each_ref().map(String::as_str), &lateness.counts, sum);
}

/// Writes VPP's state. While it is away, only the connection is known; without VPP, nothing is written.
fn vpp(view: &View, text: &mut TextEncoder) {
    let (vpp, now) = (&view.vpp, view.at.wall);
    if !vpp.enabled {
        return;
    }
    text.gauge("maglev_vpp_connected", "1 if VPP is connected, else 0.", u8::from(vpp.info.is_some()));
    let Some(info) = &vpp.info else { return };
    if let Some(boot) = info.boot {
        text.gauge("maglev_vpp_uptime_seconds", "Time since VPP started.", seconds(boot, now));
    }
    text.gauge("maglev_vpp_connected_seconds", "Time since VPP connected.", seconds(vpp.since, now));
    let mut family =
        text.family("maglev_vpp_info", FamilyType::Gauge, "Version of the connected VPP; always 1.");
    let labels =
        [("version", &*info.version), ("build_date", &*info.build_date), ("pid", &*info.pid.to_string())];
    family.sample(&labels, 1_u8);
    if let Some(actual) = &vpp.actual {
        let ours: BTreeSet<_> = view.config.frontends.values().map(|frontend| frontend.vip).collect();
        let foreign = actual.vips.keys().filter(|vip| !ours.contains(vip)).count();
        text.gauge("maglev_vpp_foreign_vips", "VIPs in VPP that no frontend has.", foreign);
    }
}

fn seconds(from: WallTime, to: WallTime) -> f64 {
    Duration::from_nanos(to.0.saturating_sub(from.0)).as_secs_f64()
}
