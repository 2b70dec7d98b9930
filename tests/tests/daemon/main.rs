//! `maglevd` and `maglevd-prober` as processes, with servers to probe, and the simulated VPP or the real one in `VPP_BIN`.

#![cfg(test)]

mod bad_input;
mod counters;
mod failover;
mod log;
mod maglevc;
mod operator;
mod output;
mod overrides;
mod privilege;
mod prober;
mod prometheus;
mod reload;
mod restart;
mod scale;
mod service_manager;
mod vpp;

use std::net::{IpAddr, SocketAddr};

use maglev_lab::dataplane::Vpp;
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::process::Process;
use maglev_lab::servers::Servers;
use maglev_lab::test_dir::TestDir;
use maglev_lab::vpp_observer::{VppObserver, Weights, host};
use maglev_proto::v1::BackendState;
use maglev_vpp::message::Vip;
use maglev_vppsim::Sim;

/// VIP of frontend `web`.
const VIP: &str = "203.0.113.80";
/// Backends of frontend `web`, in the order of the servers.
const BACKENDS: [&str; 3] = ["a", "b", "c"];

/// A prober, three servers and VPP: the surroundings of `maglevd`.
struct Stage {
    prober: Process,
    servers: Servers,
    dir: TestDir,
    vpp: Vpp,
}

impl Stage {
    fn new() -> Self {
        let dir = TestDir::new();
        Self { prober: dir.prober(None, &[]), servers: Servers::new(3), dir, vpp: Vpp::start().unwrap() }
    }

    /// One healthcheck and the backends `a`, `b` and `c`. Frontend `web` prefers `a` and `b` (2 : 1) to `c`.
    fn config(&self) -> Config {
        let [a, b, c] = [0, 1, 2].map(|server| self.servers.address(server));
        Config {
            lb: "sync-interval: 1h, startup-max-delay: 1h".to_owned(),
            backends: vec![backend("a", a), backend("b", b), backend("c", c)],
            frontends: vec![frontend(
                "web",
                VIP,
                "{ name: first, backends: { a: { weight: 100 }, b: { weight: 50 } } },
        { name: last, backends: { c: { weight: 10 } } }",
            )],
            port: self.servers.port(),
        }
    }

    fn setup(&self, config: &Config) -> MaglevdSetup<'_> {
        MaglevdSetup::new(&self.dir, &config.text()).vpp(&self.vpp)
    }

    /// Starts `maglevd` and waits until every backend is up and in VPP.
    fn settled(&self) -> Maglevd {
        let mut maglevd = self.setup(&self.config()).start();
        maglevd.until_up(&BACKENDS);
        self.observer().until([(VIP, self.weights(10, 5, 0))]);
        maglevd
    }

    /// Starts `maglevd` with metrics and waits until `b` is down. Returns the address of the metrics.
    fn settled_with_failure(&self) -> (Maglevd, SocketAddr) {
        let metrics = SocketAddr::new(self.servers.address(199), self.servers.port());
        let mut maglevd = self.setup(&self.config()).flag("--metrics-addr", metrics).start();
        maglevd.until_up(&BACKENDS);
        self.servers.http[1].answer(503);
        maglevd.until_backend("b", BackendState::Down);
        self.observer().until([(VIP, self.weights(10, 0, 0))]);
        (maglevd, metrics)
    }

    /// Returns the simulator, or prints a skip line for tests that need it.
    fn sim(&self, test: &str) -> Option<&Sim> {
        if self.vpp.sim().is_none() {
            println!("SKIP {test}: needs the simulator");
        }
        self.vpp.sim()
    }

    fn observer(&self) -> VppObserver<'_> {
        VppObserver::new(&self.vpp)
    }

    /// Weights of the three servers.
    fn weights(&self, a: u8, b: u8, c: u8) -> Weights {
        [(self.servers.address(0), a), (self.servers.address(1), b), (self.servers.address(2), c)].into()
    }
}

/// Key of frontend `web`'s VIP in VPP.
fn web() -> Vip {
    Vip { prefix: host(VIP), protocol: 6, port: 80 }
}

/// A configuration in parts.
#[derive(Clone)]
struct Config {
    lb: String,
    backends: Vec<String>,
    frontends: Vec<String>,
    port: u16,
}

impl Config {
    fn text(&self) -> String {
        let Self { lb, port, .. } = self;
        let (backends, frontends) = (self.backends.join("\n"), self.frontends.join("\n"));
        format!(
            "maglev:
  vpp: {{ lb: {{ ipv4-src-address: 192.0.2.1, {lb} }} }}
  healthchecks:
    site: {{ type: http, port: {port}, interval: 50ms, timeout: 20s, rise: 2, fall: 3 }}
  backends:
{backends}
  frontends:
{frontends}
"
        )
    }
}

fn backend(name: &str, address: IpAddr) -> String {
    format!("    {name}: {{ address: {address}, healthcheck: site }}")
}

fn frontend(name: &str, vip: &str, pools: &str) -> String {
    format!(
        "    {name}:\n      address: {vip}\n      protocol: tcp\n      port: 80\n      pools: [\n        {pools} ]"
    )
}
