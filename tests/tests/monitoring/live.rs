//! Alert rules and dashboard queries, evaluated by Prometheus on a running system.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use maglev_lab::certificates::Authority;
use maglev_lab::dataplane::Vpp;
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::metrics::Scrape;
use maglev_lab::packets::until;
use maglev_lab::process::Process;
use maglev_lab::prometheus::Prometheus;
use maglev_lab::servers::Servers;
use maglev_lab::skip_without;
use maglev_lab::test_dir::TestDir;
use maglev_proto::v1::BackendState;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use crate::dashboard::{Query, load, queries, variables};
use crate::doc;

/// Panels that are empty in normal operation, and the fault that fills each.
const FAULTS: [(&str, &str); 5] = [
    ("Reloads of the configuration", "a reload"),
    ("Problems by frontend", "a frontend whose only backend cannot be probed, so that it is held"),
    ("Overrides and their age", "an operator changes a weight"),
    ("Failures by code", "two servers answer 503, and one check has a source address that is not here"),
    ("Link errors", "the prober is killed"),
];

/// Alerts firing by these faults and an expired certificate. Most alerts have a `for` longer than this test.
const EXPECTED_ALERTS: [&str; 7] = [
    "MaglevBackendDown",
    "MaglevCertificateExpiring",
    "MaglevFrontendStartupHold",
    "MaglevLocalFaults",
    "MaglevPoolFailedOver",
    "MaglevProberDown",
    "MaglevReloadFailed",
];

/// `maglevd` with its surroundings.
struct MonitoringFixture {
    maglevd: Maglevd,
    prober: Process,
    prometheus: Prometheus,
    metrics: SocketAddr,
    servers: Servers,
    dir: TestDir,
    _vpp: Vpp,
}

impl MonitoringFixture {
    /// Starts a healthy system, except for one expired certificate.
    fn new() -> Self {
        let (dir, servers, vpp) = (TestDir::new(), Servers::new(3), Vpp::start().unwrap());
        let prober = dir.prober(None, &[]);
        serve_tls(servers.address(3), servers.port());
        let [metrics, address] =
            [199, 198].map(|number| SocketAddr::new(servers.address(number), servers.port()));
        let setup = MaglevdSetup::new(&dir, &config(&servers, "")).vpp(&vpp).flag("--metrics-addr", metrics);
        let mut maglevd = setup.start();
        maglevd.until_up(&["a", "b", "c", "d", "e"]);
        let prometheus = Prometheus::start(&dir, address, metrics, Some(&doc("monitoring/alerts.yml")));
        Self { maglevd, prober, prometheus, metrics, servers, dir, _vpp: vpp }
    }

    fn maglevc(&self, command: &str) -> bool {
        self.maglevd.maglevc(&command.split(' ').collect::<Vec<_>>()).status.success()
    }

    /// Causes all of [`FAULTS`].
    fn cause_faults(&mut self) {
        for server in [0, 1] {
            self.servers.http[server].answer(503);
        }
        for name in ["a", "b"] {
            self.maglevd.until_backend(name, BackendState::Down);
        }
        assert!(self.maglevc("set frontend shop pool only backend e weight 50 for 1h"));
        self.maglevd.reload(&self.dir, &config(&self.servers, LATE));
        self.dir.write("maglev.yaml", "maglev: nothing");
        assert!(!self.maglevc("config reload"));
        // Two samples are needed for a rate above zero.
        let of_late = "rate(maglev_probe_total{backend=\"late\",code=\"LOCAL\"}[1m]) > 0";
        until(|| self.prometheus.value(of_late).is_some(), || self.prometheus.targets());
        self.prober.kill();
        self.maglevd.until_prober(false);
    }

    /// Waits until a dashboard query returns series that have all labels of its legend.
    fn until_query_has_data(&self, query: &Query) {
        let expr = match_all(&query.expr);
        until(|| !self.prometheus.query(&expr).is_empty(), || format!("{}: no data for {expr}", query.title));
        for series in self.prometheus.query(&expr) {
            for label in &query.legend {
                assert!(series["metric"][label].is_string(), "{}: no {label} in {series}", query.title);
            }
        }
    }
}

/// A backend that cannot be probed because its source address does not exist here, and its frontend.
const LATE: &str = "late";

/// Frontends `web` and `shop`, plus one named `late` unless that is empty.
fn config(servers: &Servers, late: &str) -> String {
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|server| servers.address(server));
    let port = servers.port();
    let common = "interval: 50ms, timeout: 20s, rise: 2, fall: 3";
    let (backend, frontend) = if late.is_empty() {
        (String::new(), String::new())
    } else {
        (
            format!("    {late}: {{ address: {}, healthcheck: elsewhere }}", servers.address(5)),
            format!(
                "    {late}: {{ address: 203.0.113.82, protocol: tcp, port: 80, pools: [ {{ name: only, backends: {{ {late}: {{}} }} }} ] }}"
            ),
        )
    };
    format!(
        "maglev:
  vpp: {{ lb: {{ ipv4-src-address: 192.0.2.1, sync-interval: 1s }} }}
  healthchecks:
    site: {{ type: http, port: {port}, {common} }}
    safe: {{ type: tcp, port: {port}, {common}, params: {{ tls: true, insecure-skip-verify: true, server-name: www.example.org }} }}
    elsewhere: {{ type: http, port: {port}, {common}, probe-ipv4-src: 198.51.100.1 }}
  backends:
    a: {{ address: {a}, healthcheck: site }}
    b: {{ address: {b}, healthcheck: site }}
    c: {{ address: {c}, healthcheck: site }}
    d: {{ address: {d}, healthcheck: safe }}
    e: {{ address: {e} }}
{backend}
  frontends:
    web:
      address: 203.0.113.80
      protocol: tcp
      port: 80
      pools: [ {{ name: first, backends: {{ a: {{}}, b: {{}} }} }}, {{ name: last, backends: {{ c: {{}} }} }} ]
    shop: {{ address: 203.0.113.81, protocol: tcp, port: 80, pools: [ {{ name: only, backends: {{ d: {{}}, e: {{}} }} }} ] }}
{frontend}
"
    )
}

/// Serves a certificate that expired in 2001. The thread ends with the test process.
fn serve_tls(address: IpAddr, port: u16) {
    let identity = Authority::new().expired("www.example.org");
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind((address, port)).unwrap();
    let shake_hands = move |mut stream: TcpStream| {
        let mut tls = ServerConnection::new(config.clone()).unwrap();
        // A probe may disconnect during the handshake.
        while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
    };
    thread::spawn(move || listener.incoming().flatten().for_each(shake_hands));
}

/// Returns a query with every variable set to match all.
fn match_all(query: &str) -> String {
    let names = ["job", "instance", "frontend", "backend"];
    let query = query.replace("$__rate_interval", "1m");
    names.iter().fold(query, |query, name| query.replace(&format!("${name}"), ".*"))
}

/// Returns the names of metrics in a query.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| ["maglev_", "process_", "grpc_"].iter().any(|prefix| word.starts_with(prefix)))
}

#[test]
fn dashboard_queries_return_data() {
    if skip_without("dashboard_queries_return_data", &["prometheus"]) {
        return;
    }
    let mut fixture = MonitoringFixture::new();
    let dashboard = load();
    let queries = queries(&dashboard);
    let needs_fault = |query: &&Query| FAULTS.iter().any(|(title, _)| *title == query.title);
    for (name, series, label) in variables(&dashboard) {
        let query = format!("count by ({label}) ({})", match_all(&series));
        until(|| !fixture.prometheus.query(&query).is_empty(), || format!("no values for variable {name}"));
    }
    for query in queries.iter().filter(|query| !needs_fault(query)) {
        fixture.until_query_has_data(query);
    }
    let faulty: Vec<&Query> = queries.iter().filter(needs_fault).collect();
    assert_eq!(faulty.len(), FAULTS.len());
    fixture.cause_faults();
    for query in faulty {
        fixture.until_query_has_data(query);
    }
}

#[test]
fn alert_rules_use_existing_metrics() {
    if skip_without("alert_rules_use_existing_metrics", &["prometheus"]) {
        return;
    }
    let mut fixture = MonitoringFixture::new();
    let expiry = "maglev_backend_certificate_chain_expiry_timestamp_seconds{backend=\"d\"}";
    until(|| fixture.prometheus.value(expiry) == Some(978_307_200.0), || fixture.prometheus.targets());
    fixture.cause_faults();

    let firing = || -> BTreeSet<String> {
        let alerts = fixture.prometheus.ask("alerts");
        let alerts = alerts["data"]["alerts"].as_array().unwrap();
        alerts.iter().map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    };
    until(|| EXPECTED_ALERTS.iter().all(|name| firing().contains(*name)), || format!("{:?}", firing()));
    let shown = Scrape::fetch(fixture.metrics).samples;
    let shown: BTreeSet<&str> = shown.keys().map(|key| key.split('{').next().unwrap()).collect();
    let rules = fixture.prometheus.ask("rules");
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > EXPECTED_ALERTS.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        for metric in metrics(rule["query"].as_str().unwrap()) {
            assert!(shown.contains(metric), "{metric} of {} is not shown", rule["name"]);
        }
    }
}
