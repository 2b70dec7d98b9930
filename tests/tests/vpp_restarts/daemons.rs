//! Restarts of the daemons move no flow.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::packets::flow::{Flow, Flows, MaglevTable};
use maglev_lab::packets::router::{Router, TrafficCapture};
use maglev_lab::process::Process;
use maglev_lab::servers::Servers;
use maglev_lab::test_dir::TestDir;
use maglev_lab::vpp_observer::Weights;
use nix::sys::signal::Signal;

use crate::until_in_control;

/// Number of restarts of each daemon, and of both together.
const TIMES: usize = 20;
const TABLE: u32 = 4096;

/// Number of flows that exist before the first restart and continue.
const OLD: u32 = 1004;
/// Packets per second of existing flows and of new flows.
const RATES: [u32; 2] = [2000, 1000];

fn vip() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 80], 80))
}

fn old_flows() -> Flows {
    Flows { to: vip(), port: 1024, ports: 4 }
}

fn new_flows() -> Flows {
    Flows { to: vip(), port: 2000, ports: 60_000 }
}

/// The daemons and their servers.
struct Daemons<'a> {
    router: &'a Router,
    prober: Process,
    maglevd: Maglevd,
    servers: Servers,
    dir: TestDir,
}

impl<'a> Daemons<'a> {
    fn start(router: &'a Router) -> Self {
        let (dir, servers) = (TestDir::new(), Servers::new(4));
        let prober = dir.prober(None, &[]);
        let maglevd = MaglevdSetup::new(&dir, &config(&servers)).vpp(&router.vpp).start();
        Self { router, prober, maglevd, servers, dir }
    }

    fn weights(&self, weights: [u8; 4]) -> Weights {
        (0..).zip(weights).map(|(server, weight)| (self.servers.address(server), weight)).collect()
    }

    /// Returns when a new `maglevd` is in control.
    fn restart_maglevd(&mut self, with_sigkill: bool) {
        end_process(&mut self.maglevd.process, with_sigkill);
        self.maglevd = MaglevdSetup::new(&self.dir, &config(&self.servers)).vpp(&self.router.vpp).start();
        until_in_control(&self.maglevd);
    }

    /// Returns when `maglevd` has outcomes of every server from a new prober.
    fn restart_prober(&mut self, with_sigkill: bool) {
        let position = self.maglevd.process.line_count();
        end_process(&mut self.prober, with_sigkill);
        self.prober = self.dir.prober(None, &[]);
        self.maglevd.process.line(position, "prober connected");
        until_in_control(&self.maglevd);
    }

    fn restart_both(&mut self, with_sigkill: bool) {
        end_process(&mut self.prober, with_sigkill);
        end_process(&mut self.maglevd.process, with_sigkill);
        self.prober = self.dir.prober(None, &[]);
        self.maglevd = MaglevdSetup::new(&self.dir, &config(&self.servers)).vpp(&self.router.vpp).start();
        until_in_control(&self.maglevd);
    }
}

/// Ends a daemon as `kill -9` does, or as systemd does.
fn end_process(daemon: &mut Process, with_sigkill: bool) {
    if with_sigkill {
        daemon.kill();
    } else {
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success());
    }
}

/// The last server keeps its flows when it goes down.
fn config(servers: &Servers) -> String {
    let [a, b, c, d] = [0, 1, 2, 3].map(|server| servers.address(server));
    format!(
        "maglev:
  vpp: {{ lb: {{ ipv4-src-address: 192.0.2.1, flow-timeout: 120s, sync-interval: 1s }} }}
  healthchecks:
    site: {{ type: http, port: {}, interval: 200ms, rise: 2, fall: 3 }}
  backends:
    a: {{ address: {a}, healthcheck: site }}
    b: {{ address: {b}, healthcheck: site }}
    c: {{ address: {c}, healthcheck: site }}
    d: {{ address: {d}, healthcheck: site }}
  frontends:
    web:
      address: 203.0.113.80
      protocol: udp
      port: 80
      flush-on-down: false
      pools:
        - {{ name: all, backends: {{ a: {{ weight: 100 }}, b: {{ weight: 50 }}, c: {{ weight: 25 }}, d: {{ weight: 25 }} }} }}
",
        servers.port()
    )
}

#[test]
fn restarts_move_no_flow() {
    let Some(router) = Router::start("restarts_move_no_flow") else { return };
    let mut daemons = Daemons::start(&router);
    router.until(vip(), &daemons.weights([20, 10, 5, 5]));
    let began: BTreeMap<Flow, IpAddr> =
        router.send(&old_flows(), OLD).iter().map(|packet| (packet.flow, packet.server)).collect();
    daemons.servers.http[3].answer(503);
    let weights = daemons.weights([20, 10, 5, 0]);
    router.until(vip(), &weights);
    until_in_control(&daemons.maglevd);

    let before = router.servers(vip());
    router.record();
    let traffic = TrafficCapture::begin(&router);
    traffic.flow(&old_flows(), RATES[0]);
    traffic.flow(&new_flows(), RATES[1]);
    restart(&mut daemons, "maglevd", Daemons::restart_maglevd);
    restart(&mut daemons, "maglevd-prober", Daemons::restart_prober);
    restart(&mut daemons, "both", Daemons::restart_both);
    let (sent, packets) = traffic.end();

    assert_eq!(router.recorded(), [""; 0]);
    assert_eq!(router.servers(vip()), before);
    let table = MaglevTable::new(weights, TABLE);
    for packet in &packets {
        let server = began.get(&packet.flow).copied().or_else(|| table.server(&packet.flow));
        assert_eq!(Some(packet.server), server, "{}", packet.flow);
    }
    assert_eq!(packets.len() as u64, sent, "{}", router.cli("show lb vips verbose"));
    let drained = packets.iter().filter(|packet| packet.server == daemons.servers.address(3)).count();
    assert!(drained > 0);
    // This write proves that others would have been recorded.
    daemons.servers.http[0].answer(503);
    router.until(vip(), &daemons.weights([0, 10, 5, 0]));
    assert_eq!(router.recorded(), ["lb_as_set_weight"]);
    println!("{sent} packets, {drained} of draining flows: each went to the server of its flow");
}

/// Restarts the daemons repeatedly, every other time by `kill -9`, and prints the times until control is regained.
fn restart<'a>(daemons: &mut Daemons<'a>, what: &str, restart: fn(&mut Daemons<'a>, bool)) {
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|time| {
            let began = Instant::now();
            restart(daemons, time % 2 == 1);
            began.elapsed()
        })
        .collect();
    times.sort();
    println!("{what}: in control after {:?} (median), {:?} (longest)", times[TIMES / 2], times[TIMES - 1]);
}
