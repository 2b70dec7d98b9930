//! A machine with the package on it.

use std::net::{IpAddr, SocketAddr};

use maglev_lab::container::machine::Machine;
use maglev_lab::container::rootfs::DebianSpec;
use maglev_lab::dataplane::Vpp;
use maglev_lab::http_server::HttpServer;
use maglev_lab::maglevd::Maglevd;
use maglev_lab::packets::until;
use maglev_lab::vpp_observer::VppObserver;
use maglev_proto::v1::BackendState;

pub const CONTROLLER: &str = "vpp-maglevd.service";
pub const PROBER: &str = "vpp-maglevd-prober.service";
/// Path of the configuration.
pub const FILE: &str = "/etc/vpp-maglev/maglev.yaml";
/// Path of the API socket.
pub const SOCKET: &str = "/run/vpp-maglev/maglevd.sock";

/// Network namespace of the servers.
pub const SERVERS: &str = "servers";
/// Addresses of the servers.
pub const ADDRESSES: [&str; 2] = ["10.99.0.11", "10.99.0.12"];
const VIP: &str = "203.0.113.80";

/// Two servers in separate pools, one of which is also pinged, over IPv4 and IPv6.
pub const CONFIG: &str = "maglev:
  vpp: { lb: { ipv4-src-address: 192.0.2.1, sync-interval: 1h, startup-max-delay: 1h } }
  healthchecks:
    page: { type: http, port: 80, interval: 100ms, timeout: 20s, rise: 2, fall: 2 }
    ping: { type: icmp, interval: 100ms, timeout: 20s, rise: 2, fall: 2 }
  backends:
    a: { address: 10.99.0.11, healthcheck: page }
    b: { address: 10.99.0.12, healthcheck: page }
    alive4: { address: 10.99.0.11, healthcheck: ping }
    alive6: { address: 'fd99::11', healthcheck: ping }
  frontends:
    web:
      address: 203.0.113.80
      pools: [ { name: first, backends: { a: } }, { name: last, backends: { b: } } ]
";
pub const BACKENDS: [&str; 4] = ["a", "b", "alive4", "alive6"];

const NETWORK: &str = "ip netns add servers
ip link add servers type veth peer name eth0 netns servers
ip address add 10.99.0.1/24 dev servers
ip address add fd99::1/64 dev servers nodad
ip link set servers up
ip -n servers address add 10.99.0.11/24 dev eth0
ip -n servers address add 10.99.0.12/24 dev eth0
ip -n servers address add fd99::11/64 dev eth0 nodad
ip -n servers link set lo up
ip -n servers link set eth0 up";

/// Returns a Debian release that the package supports.
pub const fn debian(suite: &str) -> DebianSpec<'_> {
    let packages = &["systemd", "systemd-sysv", "dbus", "iproute2", "procps", "ca-certificates"];
    DebianSpec { name: suite, suite, packages }
}

/// A machine with two servers in a network namespace, and VPP. The package file is there, but not installed.
pub struct PackageFixture {
    pub machine: Machine,
    pub http: [HttpServer; 2],
    pub vpp: Vpp,
    pub package: String,
}

impl PackageFixture {
    pub fn new(suite: &str) -> Self {
        let vpp = Vpp::start().unwrap();
        let machine = Machine::boot_with_vpp(&vpp, debian(suite));
        machine.sh(NETWORK);
        let serve = |address: &str| SocketAddr::new(address.parse().unwrap(), 80);
        let http =
            machine.inside_netns(SERVERS, || ADDRESSES.map(|address| HttpServer::start(serve(address))));
        let package = machine.put_package();
        Self { machine, http, vpp, package }
    }

    /// Installs the package and writes a configuration.
    pub fn installed(suite: &str) -> Self {
        let fixture = Self::new(suite);
        fixture.machine.install(&fixture.package);
        fixture.machine.write(FILE, CONFIG);
        fixture
    }

    /// Enables and starts the services, and waits until every backend is up and VPP is in sync.
    pub fn running(suite: &str) -> Self {
        let fixture = Self::installed(suite);
        fixture.machine.run("systemctl enable --now vpp-maglevd");
        fixture.settled();
        fixture
    }

    /// Waits until every backend is up and VPP is in sync. Returns a client of `maglevd`.
    pub fn settled(&self) -> Maglevd {
        let mut maglevd = self.maglevd();
        maglevd.until_up(&BACKENDS);
        until(|| is_in_control(&maglevd), || format!("{:#?}", maglevd.frontend("web")));
        self.until_weights([20, 0]);
        maglevd
    }

    /// Returns a client that follows `maglevd`'s journal from now on.
    pub fn maglevd(&self) -> Maglevd {
        Maglevd::attach(self.machine.journal(CONTROLLER), self.machine.path(SOCKET))
    }

    pub fn observer(&self) -> VppObserver<'_> {
        VppObserver::new(&self.vpp)
    }

    /// Waits until VPP has these weights for the two servers.
    pub fn until_weights(&self, weights: [u8; 2]) {
        let addresses = ADDRESSES.map(|address| address.parse::<IpAddr>().unwrap());
        self.observer().until([(VIP, addresses.into_iter().zip(weights).collect())]);
    }

    /// Clears the recorded writes to VPP.
    pub fn forget_writes(&self) {
        if let Some(sim) = self.vpp.sim() {
            sim.clear_calls();
        }
    }

    /// Waits until a service runs with a process id other than `before`.
    pub fn until_restarted(&self, service: &str, before: u32) {
        let show = format!("systemctl show --property SubState --property MainPID {service}");
        let runs = || {
            let now = self.machine.run(&show);
            let pid = now.lines().find_map(|line| line.strip_prefix("MainPID=")?.parse::<u32>().ok());
            now.contains("SubState=running") && pid.is_some_and(|pid| pid != before)
        };
        until(runs, || self.machine.sh(&format!("systemctl status --no-pager {service} || true")));
    }
}

/// True if `maglevd` has fresh outcomes for every backend, and no frontend is in its start-up hold.
fn is_in_control(maglevd: &Maglevd) -> bool {
    let backend = |name: &&str| maglevd.backend(name);
    let known = BACKENDS.iter().map(backend).all(|it| it.state() == BackendState::Up && !it.stale);
    known && maglevd.frontend("web").startup_done
}
