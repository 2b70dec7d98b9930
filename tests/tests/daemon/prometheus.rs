//! Prometheus compatibility: its linter, an OpenMetrics parser, and the server itself.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use maglev_lab::metrics::get;
use maglev_lab::packets::until;
use maglev_lab::prometheus::Prometheus;
use maglev_lab::skip_without;

use crate::WebFixture;

const OPEN_METRICS: &str = "Accept: application/openmetrics-text; version=1.0.0\r\n";

/// Debian's Python, which has Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

/// Exits with an error on invalid OpenMetrics, and prints the names of the families.
const PARSER: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as families
for family in families(sys.stdin.read()):
    print(family.name)
";

/// Runs `then` with a `maglevd` that has seen a backend fail, and the address of its metrics.
fn settled_with_failure<T>(then: impl FnOnce(&WebFixture, SocketAddr) -> T) -> T {
    let fixture = WebFixture::new();
    let (_maglevd, metrics) = fixture.settled_with_failure();
    then(&fixture, metrics)
}

fn fed(command: &mut Command, text: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn promtool_lints_metrics_cleanly() {
    if skip_without("promtool_lints_metrics_cleanly", &["promtool"]) {
        return;
    }
    let text = settled_with_failure(|_, metrics| get(metrics, "/metrics", ""));
    let output = fed(Command::new("promtool").args(["check", "metrics"]), &text);
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && printed.is_empty(), "{printed}");
}

#[test]
fn python_parser_accepts_openmetrics() {
    let imports = Command::new(PYTHON).args(["-c", "import prometheus_client.openmetrics.parser"]).output();
    if !imports.is_ok_and(|output| output.status.success()) {
        println!("SKIP python_parser_accepts_openmetrics: needs python3-prometheus-client");
        return;
    }
    let text = settled_with_failure(|_, metrics| get(metrics, "/metrics", OPEN_METRICS));
    let output = fed(Command::new(PYTHON).args(["-c", PARSER]), &text);
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    for name in
        ["maglev_backend_state", "maglev_backend_transitions", "grpc_server_handled", "process_cpu_seconds"]
    {
        assert!(names.lines().any(|found| found == name), "{name} in\n{names}");
    }
}

#[test]
fn prometheus_scrapes_maglevd() {
    if skip_without("prometheus_scrapes_maglevd", &["prometheus"]) {
        return;
    }
    settled_with_failure(|fixture, metrics| {
        let address = SocketAddr::new(fixture.servers.address(198), fixture.servers.port());
        let prometheus = Prometheus::start(&fixture.dir, address, metrics, None);
        until(|| prometheus.value("up") == Some(1.0), || prometheus.targets());
        for (query, value) in [
            ("maglev_backend_state{backend=\"a\",state=\"up\"}", 1.0),
            ("maglev_backend_state{backend=\"b\",state=\"down\"}", 1.0),
            ("maglev_backend_transitions_total{backend=\"b\",from=\"up\",to=\"down\"}", 1.0),
            ("maglev_prober_connected", 1.0),
            ("maglev_vpp_connected", 1.0),
            ("grpc_server_started_total{grpc_method=\"WatchEvents\"}", 1.0),
            ("grpc_server_handled_total{grpc_method=\"WatchEvents\",grpc_code=\"OK\"}", 0.0),
            ("count(maglev_probe_lateness_seconds_bucket)", 10.0),
            ("maglev_build_info", 1.0),
        ] {
            assert_eq!(prometheus.value(query), Some(value), "{query}");
        }
        // Only OpenMetrics carries units.
        let metadata = prometheus.ask("metadata?metric=maglev_probe_lateness_seconds");
        let lateness = &metadata["data"]["maglev_probe_lateness_seconds"][0];
        assert_eq!(
            (&lateness["type"], &lateness["unit"]),
            (&"histogram".into(), &"seconds".into()),
            "{metadata}"
        );
    });
}
