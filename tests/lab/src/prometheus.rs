//! A Prometheus server as a process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::metrics::get;
use super::process::Process;
use super::test_dir::TestDir;

/// A Prometheus that scrapes one target every second, as job `maglev`. Ended on drop.
pub struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// Starts a server on `address` that scrapes `target`, with an optional rules file.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn start(dir: &TestDir, address: SocketAddr, target: SocketAddr, rules: Option<&Path>) -> Self {
        let rules: Vec<_> = rules.into_iter().map(Path::display).collect();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: {rules:?}
scrape_configs:
  - job_name: maglev
    static_configs: [{{ targets: ['{target}'] }}]
"
        );
        let config = dir.write("prometheus.yml", config);
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path("prometheus").display()))
            .arg(format!("--web.listen-address={address}"));
        let process = Process::spawn("prometheus", &mut command);
        process.line(0, "Server is ready to receive web requests");
        Self { address, _process: process }
    }

    /// Returns the API's answer to a request.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn ask(&self, question: &str) -> Value {
        serde_json::from_str(&get(self.address, &format!("/api/v1/{question}"), "")).unwrap()
    }

    /// Returns the series of a query.
    ///
    /// # Panics
    /// If the query is invalid or returns another type.
    #[must_use]
    pub fn query(&self, query: &str) -> Vec<Value> {
        let mut answer = self.ask(&format!("query?query={}", escaped(query)));
        let Value::Array(series) = answer["data"]["result"].take() else { panic!("{query}: {answer}") };
        series
    }

    /// Returns the value of the first series of a query.
    #[must_use]
    pub fn value(&self, query: &str) -> Option<f64> {
        self.query(query).first()?["value"][1].as_str()?.parse().ok()
    }

    /// Returns the state of its targets.
    #[must_use]
    pub fn targets(&self) -> String {
        self.ask("targets").to_string()
    }
}

fn escaped(query: &str) -> String {
    query.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
