use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use maglev_core::event::{Audit, AuditAction};
use maglev_core::overrides::{Override, OverrideKind, OverrideMeta, Overrides};
use maglev_core::time::MonoTime;
use maglev_core::view::FrontendView;
use maglev_ipc::OutcomeCode;

use super::*;
use crate::fixture;

mod cost;
mod endpoint;

/// Returns the lines of `text` that begin with `name`.
fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(name)).collect()
}

fn rendered(view: &View) -> String {
    Metrics::new().unwrap().render(view, Some(&fixture::counters()), ExpositionFormat::Text)
}

#[test]
fn states_are_one_hot() {
    let text = rendered(&fixture::view());
    let nginx0 = "maglev_backend_state{backend=\"nginx0\",address=\"2001:db8:1::10\",healthcheck=\"nginx\"";
    assert_eq!(
        lines(&text, nginx0),
        ["unknown\"} 0", "up\"} 1", "down\"} 0", "paused\"} 0", "disabled\"} 0", "removed\"} 0"]
            .map(|state| format!("{nginx0},state=\"{state}"))
    );
    let web = "maglev_frontend_state{frontend=\"web\",address=\"192.0.2.80\",protocol=\"tcp\",port=\"80\"";
    assert_eq!(
        lines(&text, web),
        ["unknown\"} 0", "up\"} 1", "down\"} 0"].map(|state| format!("{web},state=\"{state}"))
    );
}

#[test]
fn gauges_match_the_view() {
    let text = rendered(&fixture::view());
    for line in [
        "maglev_backend_health{backend=\"nginx0\"} 4",
        "maglev_backend_enabled{backend=\"sorry\"} 1",
        "maglev_backend_stale{backend=\"nginx0\"} 0",
        "maglev_backend_hidden{backend=\"nginx0\"} 0",
        "maglev_frontend_pool_backend_weight{frontend=\"web\",pool=\"fallback\",backend=\"sorry\"} 10",
        "maglev_frontend_pool_backend_effective_weight{frontend=\"web\",pool=\"fallback\",backend=\"sorry\"} 0",
        "maglev_backend_certificate_expiry_timestamp_seconds{backend=\"nginx0\",address=\"2001:db8:1::10\"} 1796212800",
        "maglev_backend_certificate_chain_expiry_timestamp_seconds{backend=\"nginx0\",address=\"2001:db8:1::10\"} 1796126400",
        "maglev_frontend_pool_active{frontend=\"web\",pool=\"primary\",priority=\"0\"} 1",
        "maglev_frontend_pool_active{frontend=\"web\",pool=\"fallback\",priority=\"1\"} 0",
        "maglev_prober_connected 1",
        "maglev_prober_packets_rejected_total{reason=\"stray\"} 7",
        "maglev_prober_probes_delayed_total{reason=\"stall\"} 3",
        "maglev_prober_retries_total 0",
        "maglev_prober_tls_resumptions_total 40",
        "maglev_prober_half_open_fallbacks_total 0",
        "maglev_vpp_connected 1",
        "maglev_vpp_uptime_seconds 630",
        "maglev_vpp_connected_seconds 628",
        "maglev_vpp_info{version=\"26.10-release\",build_date=\"2026-10-28T12:00:00\",pid=\"4711\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn frontend_conditions_have_series() {
    let conditions = |change: fn(&mut FrontendView)| -> Vec<bool> {
        let mut view = fixture::view();
        change(&mut view.frontends[0]);
        let text = rendered(&view);
        let found = lines(&text, "maglev_frontend_condition{frontend=\"web\"");
        found
            .iter()
            .zip(["startup_hold", "vip_conflict", "sync_failed", "address_conflict"])
            .map(|(line, name)| {
                assert!(line.contains(&format!("condition=\"{name}\"")), "{line}");
                line.ends_with(" 1")
            })
            .collect()
    };
    assert_eq!(conditions(|_| {}), [false; 4]);
    assert_eq!(conditions(|web| web.startup_done = false), [true, false, false, false]);
    assert_eq!(conditions(|web| web.problems.vip_conflict = true), [false, true, false, false]);
    assert_eq!(conditions(|web| web.problems.sync_failed = true), [false, false, true, false]);
    assert_eq!(conditions(|web| web.problems.address_conflict = true), [false, false, false, true]);
}

#[test]
fn drift_and_reload_counters_start_at_zero() {
    let metrics = Metrics::new().unwrap();
    let values = |metrics: &Metrics| {
        let text = metrics.render(&fixture::view(), None, ExpositionFormat::Text);
        let value = |name| lines(&text, name).last().unwrap().rsplit(' ').next().unwrap().to_owned();
        (value("maglev_drift_total "), value("maglev_config_reload_failing "))
    };
    assert_eq!(values(&metrics), ("0".into(), "0".into()));
    let vip = Some(fixture::config().frontends["web"].vip);
    for (vip, reverted) in [(vip, true), (vip, false), (None, true)] {
        metrics.count_event(&Event { at: fixture::wall(0), kind: Kind::Drift { vip, reverted } });
    }
    metrics.record_reload(false, Now::default());
    assert_eq!(values(&metrics), ("2".into(), "1".into()));
    metrics.record_reload(true, Now::default());
    assert_eq!(values(&metrics), ("2".into(), "0".into()));
}

#[test]
fn absent_vpp_has_no_metrics() {
    let mut view = fixture::view();
    view.vpp.info = None;
    let text = |view: &View| Metrics::new().unwrap().render(view, None, ExpositionFormat::Text);
    assert_eq!(lines(&text(&view), "maglev_vpp_"), ["maglev_vpp_connected 0"]);
    view.vpp.enabled = false;
    assert!(lines(&text(&view), "maglev_vpp_").is_empty());
}

#[test]
fn traffic_has_vip_prefix_and_backend_series() {
    let text = rendered(&fixture::view());
    let tcp = "maglev_vpp_vip_packets_total{prefix=\"192.0.2.80\",protocol=\"tcp\",port=\"80\"";
    assert_eq!(
        lines(&text, "maglev_vpp_vip_packets_total"),
        ["existing_flow\"} 9", "first\"} 1", "untracked\"} 3", "no_server\"} 4"]
            .map(|kind| format!("{tcp},kind=\"{kind}"))
    );
    assert_eq!(
        lines(&text, "maglev_vpp_vip_weight"),
        [("80", 3), ("443", 0)].map(|(port, weight)| format!(
            "maglev_vpp_vip_weight{{prefix=\"192.0.2.80\",protocol=\"tcp\",port=\"{port}\"}} {weight}"
        ))
    );
    assert_eq!(lines(&text, "maglev_vpp_stray"), ["maglev_vpp_stray_packets_total 5"]);
    // The prefix has two VIPs and one route.
    assert_eq!(
        lines(&text, "maglev_vpp_vip_route_"),
        [
            "maglev_vpp_vip_route_packets_total{prefix=\"192.0.2.80\"} 18",
            "maglev_vpp_vip_route_bytes_total{prefix=\"192.0.2.80\"} 1800",
        ]
    );
    assert_eq!(
        lines(&text, "maglev_vpp_backend_"),
        [
            "maglev_vpp_backend_packets_total{backend=\"nginx0\",address=\"2001:db8:1::10\"} 15",
            "maglev_vpp_backend_bytes_total{backend=\"nginx0\",address=\"2001:db8:1::10\"} 1860",
        ]
    );
}

#[test]
fn outcomes_have_code_and_duration_series() {
    let mut view = fixture::view();
    let nginx0 = &mut view.backends[0].probes;
    nginx0.record(OutcomeCode::L7Ok, Duration::from_millis(1));
    nginx0.record(OutcomeCode::L7Ok, Duration::from_millis(30));
    nginx0.record(OutcomeCode::L4Tout, Duration::from_secs(3));
    nginx0.record(OutcomeCode::Local, Duration::ZERO);
    view.backends[1].probes.record(OutcomeCode::Static, Duration::ZERO);
    let text = rendered(&view);
    assert_eq!(
        lines(&text, "maglev_probe_total"),
        [
            "maglev_probe_total{backend=\"nginx0\",type=\"https\",result=\"failure\",code=\"L4TOUT\"} 1",
            "maglev_probe_total{backend=\"nginx0\",type=\"https\",result=\"success\",code=\"L7OK\"} 2",
            "maglev_probe_total{backend=\"nginx0\",type=\"https\",result=\"error\",code=\"LOCAL\"} 1",
            "maglev_probe_total{backend=\"sorry\",type=\"static\",result=\"success\",code=\"STATIC\"} 1",
        ]
    );
    let histogram = lines(&text, "maglev_probe_duration_seconds");
    let values: Vec<&str> = histogram.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(
        values,
        ["1", "1", "1", "1", "1", "2", "2", "2", "2", "2", "2", "3", "3.031", "3"],
        "{histogram:#?}"
    );
}

#[test]
fn down_transitions_start_at_zero() {
    let metrics = Metrics::new().unwrap();
    metrics.sync_to_config(&fixture::view().config);
    for count in 0..3 {
        assert_eq!(
            lines(
                &metrics.render(&fixture::view(), None, ExpositionFormat::Text),
                "maglev_backend_transitions_total"
            ),
            [format!(
                "maglev_backend_transitions_total{{backend=\"nginx0\",from=\"up\",to=\"down\"}} {count}"
            )]
        );
        metrics.count_event(&fixture::nginx0_down());
    }
}

#[test]
fn removed_items_lose_their_counters() {
    let metrics = Metrics::new().unwrap();
    metrics.count_event(&fixture::nginx0_down());
    let view = fixture::view();
    let mut config = (*view.config).clone();
    config.backends.remove("nginx0");
    metrics.sync_to_config(&config);
    assert!(!metrics.render(&view, None, ExpositionFormat::Text).contains("_total{backend=\"nginx0\""));
}

#[test]
fn actions_are_counted() {
    let metrics = Metrics::new().unwrap();
    let counts = StepCounts { as_added: 3, ..StepCounts::default() };
    metrics.count_sync(SyncScope::Vip, &counts, Duration::from_micros(700));
    metrics.count_vpp_message("lb_add_del_as", MessageDirection::Sent, true);
    metrics.count_vpp_message("lb_add_del_as_reply", MessageDirection::Received, false);
    metrics.observe_vpp_call("lb_add_del_as", Duration::from_micros(50));
    metrics.record_reload(true, Now { mono: MonoTime(0), wall: fixture::wall(0) });
    metrics.record_reload(false, Now::default());
    metrics.count_link_error("prober", "malformed");
    let text = metrics.render(&fixture::view(), None, ExpositionFormat::Text);
    assert_eq!(
        lines(&text, "maglev_vpp_lbsync_total"),
        ["maglev_vpp_lbsync_total{kind=\"as_added\",scope=\"vip\"} 3"]
    );
    for line in [
        "maglev_vpp_api_total{direction=\"send\",msg=\"lb_add_del_as\",result=\"success\"} 1",
        "maglev_vpp_api_total{direction=\"recv\",msg=\"lb_add_del_as_reply\",result=\"failure\"} 1",
        "maglev_vpp_api_duration_seconds_count{msg=\"lb_add_del_as\"} 1",
        "maglev_config_reload_total{result=\"failure\"} 1",
        "maglev_config_last_reload_success_timestamp_seconds 1795348800",
        "maglev_link_errors_total{peer=\"prober\",reason=\"malformed\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn families_are_unique_and_labels_escaped() {
    let mut view = fixture::view();
    view.vpp.info.as_mut().unwrap().version = "a\"b\\c\nd".into();
    let text = rendered(&view);
    assert!(text.contains("version=\"a\\\"b\\\\c\\nd\""));
    let mut seen = HashSet::new();
    assert!(lines(&text, "# TYPE").into_iter().all(|line| seen.insert(line)));
}

#[test]
fn lateness_histogram_comes_from_prober() {
    let mut view = fixture::view();
    for late in [0, 3_000_000, 2_000_000_000] {
        view.prober.stats.lateness.record(late);
    }
    let text = rendered(&view);
    let lines = lines(&text, "maglev_probe_lateness_seconds");
    assert_eq!(lines[0], "maglev_probe_lateness_seconds_bucket{le=\"0.001\"} 1");
    assert_eq!(lines[2], "maglev_probe_lateness_seconds_bucket{le=\"0.005\"} 2");
    assert_eq!(
        lines[8..],
        [
            "maglev_probe_lateness_seconds_bucket{le=\"1\"} 2",
            "maglev_probe_lateness_seconds_bucket{le=\"+Inf\"} 3",
            "maglev_probe_lateness_seconds_sum 2.003",
            "maglev_probe_lateness_seconds_count 3",
        ]
    );
    // A compromised prober can send any counts.
    view.prober.stats.lateness.counts = [u64::MAX; 10];
    assert!(rendered(&view).contains("maglev_probe_lateness_seconds_count 18446744073709551615\n"));
}

/// Renders all families, each event having happened once.
fn everything(format: ExpositionFormat) -> String {
    let metrics = Metrics::new().unwrap();
    metrics.enable_call_metrics(&crate::grpc::descriptors(true)).unwrap();
    metrics.count_event(&fixture::nginx0_down());
    let (from, to) = (FrontendState::Up, FrontendState::Down);
    let kind = Kind::Frontend { name: "web".into(), from, to, active_pool: None };
    metrics.count_event(&Event { at: fixture::wall(1), kind });
    metrics.count_vpp_message("show_version", MessageDirection::Sent, true);
    metrics.observe_vpp_call("show_version", Duration::from_micros(50));
    metrics.count_sync(
        SyncScope::All,
        &StepCounts { vip_added: 1, ..StepCounts::default() },
        Duration::from_micros(700),
    );
    metrics.count_link_error("vpp", "lost");
    metrics.record_load(Now::default());
    metrics.count_refusals("ReloadConfig", 1);
    let mut view = View { overrides: disabled_and_weighed(), ..fixture::view() };
    view.backends[0].probes.record(OutcomeCode::L7Ok, Duration::from_millis(1));
    metrics.render(&view, Some(&fixture::counters()), format)
}

/// Returns the families of a scrape, each with its type and labels.
fn families(text: &str) -> BTreeMap<&str, (&str, BTreeSet<&str>)> {
    let mut families = BTreeMap::new();
    let mut family = "";
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            family = name;
            assert!(families.insert(name, (kind, BTreeSet::new())).is_none(), "{name} comes twice");
        } else if let Some((name, labels)) = line.split_once('{') {
            assert!(name.starts_with(family), "{name} in {family}");
            let labels = labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0));
            let labels = labels.filter(|label| *label != "le");
            families.get_mut(family).unwrap().1.extend(labels);
        }
    }
    families
}

#[test]
fn open_metrics_has_the_same_families() {
    let (text, open) = (everything(ExpositionFormat::Text), everything(ExpositionFormat::OpenMetrics));
    let (text, open_families) = (families(&text), families(&open));
    for (name, (kind, labels)) in &text {
        assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        let name = if *kind == "counter" { name.strip_suffix("_total").unwrap() } else { name };
        assert_eq!(open_families.get(name), Some(&(*kind, labels.clone())), "{name}");
    }
    assert_eq!(text.len(), open_families.len());
    assert!(open.ends_with("\n# EOF\n"));
    for line in [
        "# TYPE maglev_vpp_backend_bytes counter",
        "# UNIT maglev_vpp_backend_bytes bytes",
        "maglev_vpp_backend_bytes_total{backend=\"nginx0\",address=\"2001:db8:1::10\"} 1860",
        "# UNIT maglev_probe_lateness_seconds seconds",
        "maglev_probe_lateness_seconds_bucket{le=\"1.0\"} 0",
        "maglev_config_reload_total{result=\"failure\"} 0",
    ] {
        assert!(open.lines().any(|found| found == line), "{line} is not in\n{open}");
    }
}

/// Returns one override of each shape.
fn disabled_and_weighed() -> Arc<Overrides> {
    let mut overrides = Overrides::default();
    let slot = Some(("web".into(), "primary".into()));
    for (slot, kind, expires) in
        [(None, OverrideKind::Disabled, None), (slot, OverrideKind::Weight(7), Some(fixture::wall(60)))]
    {
        let meta = Arc::new(OverrideMeta { at: fixture::wall(0), expires, ..OverrideMeta::default() });
        overrides.insert(Override { backend: "nginx0".into(), slot, kind, meta });
    }
    Arc::new(overrides)
}

#[test]
fn overrides_are_counted_and_dated() {
    let text = rendered(&View { overrides: disabled_and_weighed(), ..fixture::view() });
    let counts = ["disabled\"} 1", "enabled\"} 0", "paused\"} 0", "weight\"} 1"];
    assert_eq!(
        lines(&text, "maglev_overrides{"),
        counts.map(|count| format!("maglev_overrides{{kind=\"{count}"))
    );
    assert_eq!(
        lines(&text, "maglev_override_timestamp_seconds"),
        [
            "maglev_override_timestamp_seconds{kind=\"disabled\",backend=\"nginx0\",frontend=\"\",pool=\"\"} 1795348800",
            "maglev_override_timestamp_seconds{kind=\"weight\",backend=\"nginx0\",frontend=\"web\",pool=\"primary\"} 1795348800",
        ]
    );
    // An override without expiry has no sample.
    assert_eq!(
        lines(&text, "maglev_override_expiry_timestamp_seconds"),
        [
            "maglev_override_expiry_timestamp_seconds{kind=\"weight\",backend=\"nginx0\",frontend=\"web\",pool=\"primary\"} 1795348860"
        ]
    );
}

#[test]
fn operator_actions_start_at_zero() {
    let metrics = Metrics::new().unwrap();
    let text = |metrics: &Metrics| metrics.render(&fixture::view(), None, ExpositionFormat::Text);
    assert_eq!(lines(&text(&metrics), "maglev_operator_actions_total").len(), AuditAction::ALL.len());
    let audit = Audit::of("alice".into(), AuditAction::SetWeight);
    metrics.count_event(&Event { at: fixture::wall(0), kind: Kind::Operator(audit) });
    metrics.record_save(false);
    metrics.record_ownership_save(false);
    let after = text(&metrics);
    for line in [
        "maglev_operator_actions_total{action=\"set_weight\"} 1",
        "maglev_operator_actions_total{action=\"reload\"} 0",
        "maglev_overrides_save_total{result=\"failure\"} 1",
        "maglev_overrides_save_total{result=\"success\"} 0",
        "maglev_overrides_unsaved 1",
        "maglev_owned_vips_unsaved 1",
    ] {
        assert!(after.lines().any(|found| found == line), "{line} is not in\n{after}");
    }
    metrics.record_save(true);
    assert_eq!(lines(&text(&metrics), "maglev_overrides_unsaved"), ["maglev_overrides_unsaved 0"]);
}
