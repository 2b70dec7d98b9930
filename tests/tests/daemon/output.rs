//! Output for operators: `/metrics`, and `maglevc` as text and as JSON.

use maglev_lab::maglevd::Maglevd;
use maglev_lab::metrics::Scrape;
use serde_json::Value;

use crate::{VIP, WebFixture};

#[test]
fn metrics_reflect_state() {
    let fixture = WebFixture::new();
    let (_maglevd, metrics) = fixture.settled_with_failure();
    let scrape = Scrape::fetch(metrics);
    for (name, labels, value) in [
        ("maglev_prober_connected", &[][..], 1.0),
        ("maglev_vpp_connected", &[], 1.0),
        ("maglev_backend_state", &["backend=\"a\"", "state=\"up\""], 1.0),
        ("maglev_backend_state", &["backend=\"a\"", "state=\"down\""], 0.0),
        ("maglev_backend_state", &["backend=\"b\"", "state=\"down\""], 1.0),
        ("maglev_backend_health", &["backend=\"a\""], 4.0),
        ("maglev_backend_enabled", &["backend=\"a\""], 1.0),
        ("maglev_backend_transitions_total", &["backend=\"b\"", "from=\"up\"", "to=\"down\""], 1.0),
        ("maglev_frontend_state", &["frontend=\"web\"", "state=\"up\""], 1.0),
        ("maglev_frontend_pool_backend_weight", &["backend=\"b\"", "pool=\"first\""], 50.0),
        ("maglev_frontend_pool_backend_effective_weight", &["backend=\"a\""], 100.0),
        ("maglev_frontend_pool_backend_effective_weight", &["backend=\"b\""], 0.0),
        ("maglev_vpp_lbsync_total", &["vip_added"], 1.0),
        ("maglev_vpp_lbsync_total", &["as_added"], 3.0),
    ] {
        assert_eq!(scrape.value(name, labels), value, "{name} {labels:?}");
    }
    assert!(scrape.value("maglev_probe_total", &["backend=\"b\"", "code=\"L7STS\""]) >= 3.0);
    assert!(scrape.value("maglev_probe_duration_seconds_count", &["backend=\"a\""]) >= 1.0);
    for family in [
        "maglev_vpp_info",
        "maglev_vpp_api_total",
        "maglev_build_info",
        "maglev_config_reload_total",
        "process_open_fds",
    ] {
        assert!(scrape.families.contains(family), "{family} in {:#?}", scrape.families);
    }
}

/// Runs `maglevc` and returns its output.
fn text(maglevd: &Maglevd, words: &[&str]) -> String {
    let output = maglevd.maglevc(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stderr, b"", "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn maglevc_shows_state_as_text() {
    let fixture = WebFixture::new();
    let maglevd = fixture.settled();
    for (command, expected) in [
        ("show version", &["maglevd", "maglevc"][..]),
        ("show frontends", &["web", VIP, "up"]),
        ("show frontends web", &["first", "last", "weight", "effective", "100", "50"]),
        ("show backends", &["a", "b", "c", "up", "site"]),
        ("show backends a", &["unknown", "up", "L7OK"]),
        ("sh ba a", &["unknown", "up", "L7OK"]),
        ("show healthchecks", &["site", "http"]),
        ("show healthchecks site", &["50ms", "20s"]),
        ("show vpp info", &["26.10"]),
        ("show vpp lb state", &[VIP, "10", "5"]),
        ("watch events num 3", &["prober is connected", "backend a is up", "L7OK"]),
        ("help", &["show", "watch"]),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let shown = text(&maglevd, &words);
        for word in expected {
            assert!(shown.contains(word), "{command}: {word} in\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'), "{command}: colour in a pipe");
    }
}

#[test]
fn maglevc_shows_state_as_json() {
    let fixture = WebFixture::new();
    let maglevd = fixture.settled();
    let json = |command: &str| -> Value {
        let words: Vec<&str> = ["--output", "json"].into_iter().chain(command.split(' ')).collect();
        serde_json::from_str(&text(&maglevd, &words)).unwrap()
    };
    for command in
        ["show version", "show frontends", "show healthchecks", "show healthchecks site", "show vpp info"]
    {
        assert!(json(command).is_object() || json(command).is_array(), "{command}");
    }
    let backend = json("show backends a").to_string();
    assert!(backend.contains("\"up\"") && backend.contains("L7OK"), "{backend}");
    let frontend = json("show frontends web").to_string();
    assert!(frontend.contains("\"first\"") && frontend.contains("\"effective_weight\":100"), "{frontend}");
    let state = json("show vpp lb state").to_string();
    assert!(state.contains(VIP) && state.contains("\"weight\":20"), "{state}");
    for event in text(&maglevd, &["--output", "json", "watch", "events", "num", "3"]).lines() {
        assert!(serde_json::from_str::<Value>(event).unwrap().is_object(), "{event}");
    }
}

#[test]
fn maglevc_prints_server_errors_verbatim() {
    let fixture = WebFixture::new();
    let maglevd = fixture.settled();
    for (command, complaint) in [
        ("show backends nobody", "nobody"),
        ("show frontends nothing", "nothing"),
        ("show nonsense", "unknown word `nonsense`"),
    ] {
        let output = maglevd.maglevc(&command.split(' ').collect::<Vec<_>>());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
        assert!(text.contains(complaint), "{text}");
    }
}
