//! Faults of the network and of servers: the real prober and `maglevd`, servers on another host, a faulty link, and VPP.
//!
//! Lines `RECOVERY scenario: time` report the time from the end of a fault to full recovery.

#![cfg(test)]

mod firewall;
mod forged_packets;
mod late_replies;
mod loss;
mod neighbours;
mod odd_servers;
mod routes;
mod uplink;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use maglev_lab::dataplane::Vpp;
use maglev_lab::fixtures::ProberFixture;
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::metrics::Scrape;
use maglev_lab::packets::until;
use maglev_lab::process::Process;
use maglev_lab::servers;
use maglev_lab::test_dir::TestDir;
use maglev_lab::topology::{Lab, V4, V6};
use maglev_lab::vpp_observer::{VppObserver, Weights};

/// VIPs of the two frontends, for IPv4 and for IPv6 servers.
const VIPS: [&str; 2] = ["203.0.113.80", "203.0.113.81"];

/// A backend: name, address and healthcheck.
type Backend = (String, IpAddr, &'static str);

/// The complete running system.
struct FaultFixture {
    maglevd: Maglevd,
    metrics: SocketAddr,
    prober: Process,
    config: String,
    backends: Vec<Backend>,
    /// Writes to VPP up to the settled state.
    written: Vec<String>,
    dir: TestDir,
    vpp: Vpp,
    lab: Lab,
}

impl FaultFixture {
    /// Starts the system with these `healthchecks` and `backends`. A `mass_failure_threshold` of 100 is the default.
    fn new(lab: Lab, mass_failure_threshold: u8, healthchecks: &str, backends: Vec<Backend>) -> Self {
        Self::with_wrapped_prober(&[], lab, mass_failure_threshold, healthchecks, backends)
    }

    /// Same, with the prober started through `wrapper`.
    fn with_wrapped_prober(
        wrapper: &[&str],
        lab: Lab,
        mass_failure_threshold: u8,
        healthchecks: &str,
        backends: Vec<Backend>,
    ) -> Self {
        let (dir, vpp) = (TestDir::new(), Vpp::start().unwrap());
        let prober = dir.wrapped_prober(Some(&lab.prober), wrapper, &[]);
        let config = config(mass_failure_threshold, healthchecks, &backends);
        let metrics = SocketAddr::new(servers::loopback_address(), 9091);
        let maglevd = MaglevdSetup::new(&dir, &config).vpp(&vpp).flag("--metrics-addr", metrics).start();
        Self { maglevd, metrics, prober, config, backends, written: Vec::new(), dir, vpp, lab }
    }

    /// Waits until every backend is up and in VPP.
    fn settle(&mut self) {
        let names: Vec<_> = self.backends.iter().map(|(name, ..)| name.as_str()).collect();
        self.maglevd.until_up(&names);
        self.until_weights(|_| 20);
        self.written = self.observer().writes();
    }

    fn observer(&self) -> VppObserver<'_> {
        VppObserver::new(&self.vpp)
    }

    /// Waits until VPP has these weights.
    fn until_weights(&self, weight: impl Fn(&str) -> u8) {
        let of = |is_v4: bool| -> Weights {
            let those = self.backends.iter().filter(|(_, address, _)| address.is_ipv4() == is_v4);
            those.map(|(name, address, _)| (*address, weight(name))).collect()
        };
        let vips = VIPS.into_iter().zip([of(true), of(false)]);
        let vips: BTreeMap<_, _> = vips.filter(|(_, weights)| !weights.is_empty()).collect();
        self.observer().until_all(&vips);
    }

    /// Asserts that no backend except `moved` has changed since the settled state. VPP must have received no write if `moved`
    /// is empty.
    fn assert_unchanged_except(&self, moved: &[&str]) {
        for (name, ..) in self.backends.iter().filter(|(name, ..)| !moved.contains(&name.as_str())) {
            let backend = self.maglevd.backend(name);
            assert_eq!(backend.transitions.len(), 1, "{backend:#?}");
        }
        if moved.is_empty() {
            assert_eq!(self.observer().writes(), self.written);
        }
    }

    /// Returns the number of probes with one of `codes`, for one backend or all.
    fn probes(&self, backend: Option<&str>, codes: &[&str]) -> f64 {
        let scrape = Scrape::fetch(self.metrics);
        let of = |key: &str| {
            key.starts_with("maglev_probe_total{")
                && backend.is_none_or(|name| key.contains(&format!("backend=\"{name}\"")))
                && codes.iter().any(|code| key.contains(&format!("code=\"{code}\"")))
        };
        scrape.samples.iter().filter(|(key, _)| of(key)).map(|(_, value)| value).sum()
    }

    /// Waits for `more` probes with one of `codes`.
    fn until_probes(&self, backend: Option<&str>, codes: &[&str], more: f64) {
        let wanted = self.probes(backend, codes) + more;
        let count = || self.probes(backend, codes);
        until(
            || count() >= wanted,
            || format!("{} probes of {backend:?} came to {codes:?}, not {wanted}", count()),
        );
    }

    /// Waits for `more` probes of each backend with its code.
    fn until_each_probed<'a>(&self, wanted: impl Iterator<Item = (&'a str, &'a str)>, more: f64) {
        let wanted: Vec<_> =
            wanted.map(|(name, code)| (name, code, self.probes(Some(name), &[code]) + more)).collect();
        for (name, code, count) in wanted {
            let now = || self.probes(Some(name), &[code]);
            until(|| now() >= count, || format!("{} probes of {name} came to {code}, not {count}", now()));
        }
    }

    /// Returns the value of a metric with these labels.
    fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        Scrape::fetch(self.metrics).value(name, labels)
    }

    /// Waits until a metric is at least `value`.
    fn until_metric(&self, name: &str, labels: &[&str], value: f64) {
        let now = || self.metric(name, labels);
        let all = || Scrape::fetch(self.metrics).samples.into_iter().filter(|(key, _)| key.starts_with(name));
        until(|| now() >= value, || format!("not {labels:?} {value}: {:?}", all().collect::<Vec<_>>()));
    }

    /// Returns the number of stale backends.
    fn stale_backends(&self) -> f64 {
        let samples = Scrape::fetch(self.metrics).samples;
        samples
            .iter()
            .filter(|(key, _)| key.starts_with("maglev_backend_stale{"))
            .map(|(_, value)| value)
            .sum()
    }

    /// Returns the newest outcome of a backend, such as `L4CON connection refused`.
    fn last_outcome(&self, backend: &str) -> String {
        let verdict = self.maglevd.backend(backend).last.unwrap().verdict.unwrap();
        let code = verdict.code().as_str_name().trim_start_matches("CODE_");
        format!("{code} {}", verdict.detail).trim_end().to_owned()
    }

    /// Waits until the newest outcome is `words`. A busy host may report a timeout as `LOCAL`.
    fn until_outcome(&self, backend: &str, words: &str) {
        until(
            || self.last_outcome(backend).starts_with(words),
            || format!("{backend}: {}", self.last_outcome(backend)),
        );
    }

    /// Reloads, so that `maglevd` has processed all earlier outcomes.
    fn flush_outcomes(&mut self) {
        self.maglevd.reload(&self.dir, &self.config);
    }
}

fn config(mass_failure_threshold: u8, healthchecks: &str, backends: &[Backend]) -> String {
    let line = |(name, address, check): &Backend| {
        format!("    {name}: {{ address: '{address}', healthcheck: {check} }}\n")
    };
    let lines: String = backends.iter().map(line).collect();
    let frontend = |(vip, is_v4): (&str, bool)| {
        let members = backends.iter().filter(|(_, address, _)| address.is_ipv4() == is_v4);
        let members: Vec<_> = members.map(|(name, ..)| format!("{name}: {{}}")).collect();
        let pools = format!("[ {{ name: only, backends: {{ {} }} }} ]", members.join(", "));
        let empty = members.is_empty();
        let name = if is_v4 { "four" } else { "six" };
        if empty { String::new() } else { format!("    {name}: {{ address: {vip}, pools: {pools} }}\n") }
    };
    let frontends: String = VIPS.into_iter().zip([true, false]).map(frontend).collect();
    format!(
        "maglev:
  healthchecker: {{ mass-failure-threshold: {mass_failure_threshold} }}
  vpp: {{ lb: {{ ipv4-src-address: 192.0.2.1, ipv6-src-address: '2001:db8::1', sync-interval: 1h, startup-max-delay: 1h }} }}
  healthchecks:
{healthchecks}  backends:
{lines}  frontends:
{frontends}"
    )
}

/// Adds further addresses to the server host. To the prober each one is another server.
fn add_servers(lab: &Lab, count: u8) -> Vec<IpAddr> {
    lab.server.ip("route add local 10.88.0.0/16 dev lo");
    lab.server.ip("-6 route add local fd88::/64 dev lo");
    lab.prober.ip(&format!("route add 10.88.0.0/16 via {}", V4.server));
    lab.prober.ip(&format!("-6 route add fd88::/64 via {}", V6.server));
    let v4 = (1..=count).map(|n| IpAddr::from(Ipv4Addr::new(10, 88, 0, n)));
    let v6 = (1..=count).map(|n| IpAddr::from(Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, n.into())));
    v4.chain(v6).collect()
}

/// Returns backends `b0`, `b1` and so on with the same healthcheck.
fn uniform_backends(servers: &[IpAddr], healthcheck: &'static str) -> Vec<Backend> {
    let backend = |(n, server): (usize, &IpAddr)| (format!("b{n}"), *server, healthcheck);
    servers.iter().enumerate().map(backend).collect()
}

/// Prints the time from the end of a fault until `wait_until_well` returns.
fn recovery<T>(scenario: &str, wait_until_well: impl FnOnce() -> T) -> T {
    let end_of_fault = Instant::now();
    let result = wait_until_well();
    println!("RECOVERY {scenario}: {:?}", end_of_fault.elapsed());
    result
}
