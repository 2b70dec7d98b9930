//! Fixtures shared by suites: `maglevd` between servers and VPP, a prober with its controller, and a small disk.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use maglev_proto::v1::BackendState;
use maglev_vpp::message::Vip;
use maglev_vppsim::VppSimulator;

use super::controller::TestController;
use super::dataplane::Vpp;
use super::host::Host;
use super::maglevd::{Maglevd, MaglevdSetup};
use super::process::Process;
use super::servers::Servers;
use super::test_dir::TestDir;
use super::topology::Lab;
use super::vpp_observer::{VppObserver, Weights, host};

/// VIP of frontend `web`.
pub const VIP: &str = "203.0.113.80";
/// Backends of frontend `web`, in the order of the servers.
pub const BACKENDS: [&str; 3] = ["a", "b", "c"];

/// A prober, three servers and VPP: the surroundings of `maglevd`.
pub struct WebFixture {
    /// The prober.
    pub prober: Process,
    /// The servers.
    pub servers: Servers,
    /// Files and sockets.
    pub dir: TestDir,
    /// VPP.
    pub vpp: Vpp,
}

impl WebFixture {
    /// Starts everything but `maglevd`, with the simulated VPP or the real one in `VPP_BIN`.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it has side effects")]
    pub fn new() -> Self {
        Self::with_vpp(Vpp::start().unwrap(), None)
    }

    /// Starts everything but `maglevd`, with the simulated VPP. Places the prober and the servers on `host`.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn simulated(host: Option<&Host>) -> Self {
        Self::with_vpp(Vpp::simulated().unwrap(), host)
    }

    fn with_vpp(vpp: Vpp, host: Option<&Host>) -> Self {
        let dir = TestDir::new();
        let servers = host.map_or_else(|| Servers::new(3), |host| host.inside(|| Servers::new(3)));
        Self { prober: dir.prober(host, &[]), servers, dir, vpp }
    }

    /// Returns a configuration with one healthcheck and the backends `a`, `b` and `c`. Frontend `web` prefers `a` and `b`
    /// (2 : 1) to `c`.
    #[must_use]
    pub fn config(&self) -> WebConfig {
        let [a, b, c] = [0, 1, 2].map(|server| self.servers.address(server));
        WebConfig {
            lb: "sync-interval: 1h, startup-max-delay: 1h".to_owned(),
            check: "interval: 50ms, timeout: 20s, rise: 2, fall: 3".to_owned(),
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

    /// Prepares `maglevd` with VPP.
    #[must_use]
    pub fn setup(&self, config: impl Display) -> MaglevdSetup<'_> {
        MaglevdSetup::new(&self.dir, &config.to_string()).vpp(&self.vpp)
    }

    /// Starts `maglevd` and waits until every backend is up and in VPP.
    #[must_use]
    pub fn settled(&self) -> Maglevd {
        let mut maglevd = self.setup(self.config()).start();
        maglevd.until_up(&BACKENDS);
        self.observer().until([(VIP, self.weights(20, 10, 0))]);
        maglevd
    }

    /// Starts `maglevd` with metrics and waits until `b` is down. Returns the address of the metrics.
    #[must_use]
    pub fn settled_with_failure(&self) -> (Maglevd, SocketAddr) {
        let metrics = self.metrics();
        let mut maglevd = self.setup(self.config()).flag("--metrics-addr", metrics).start();
        maglevd.until_up(&BACKENDS);
        self.servers.http[1].answer(503);
        maglevd.until_backend("b", BackendState::Down);
        self.observer().until([(VIP, self.weights(20, 0, 0))]);
        (maglevd, metrics)
    }

    /// Returns an address for metrics.
    #[must_use]
    pub fn metrics(&self) -> SocketAddr {
        SocketAddr::new(self.servers.address(199), self.servers.port())
    }

    /// Returns the simulator, or prints a skip line for tests that need it.
    #[must_use]
    pub fn sim_or_skip(&self, test: &str) -> Option<&VppSimulator> {
        if self.vpp.sim().is_none() {
            println!("SKIP {test}: needs the simulator");
        }
        self.vpp.sim()
    }

    /// Returns an observer of VPP.
    #[must_use]
    pub fn observer(&self) -> VppObserver<'_> {
        VppObserver::new(&self.vpp)
    }

    /// Returns weights of the three servers.
    #[must_use]
    pub fn weights(&self, a: u8, b: u8, c: u8) -> Weights {
        [(self.servers.address(0), a), (self.servers.address(1), b), (self.servers.address(2), c)].into()
    }
}

/// Returns the key of frontend `web`'s VIP in VPP.
#[must_use]
pub fn web_vip() -> Vip {
    Vip { prefix: host(VIP), protocol: 6, port: 80 }
}

/// A configuration in parts.
#[derive(Clone)]
pub struct WebConfig {
    /// Further keys of `vpp.lb`.
    pub lb: String,
    /// Further keys of the healthcheck.
    pub check: String,
    /// Lines of `backends`.
    pub backends: Vec<String>,
    /// Lines of `frontends`.
    pub frontends: Vec<String>,
    /// Port of the servers.
    pub port: u16,
}

impl Display for WebConfig {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { lb, check, port, .. } = self;
        let (backends, frontends) = (self.backends.join("\n"), self.frontends.join("\n"));
        write!(
            f,
            "maglev:
  vpp: {{ lb: {{ ipv4-src-address: 192.0.2.1, {lb} }} }}
  healthchecks:
    site: {{ type: http, port: {port}, {check} }}
  backends:
{backends}
  frontends:
{frontends}
"
        )
    }
}

/// Returns a line of `backends`.
#[must_use]
pub fn backend(name: &str, address: IpAddr) -> String {
    format!("    {name}: {{ address: {address}, healthcheck: site }}")
}

/// Returns lines of `frontends`.
#[must_use]
pub fn frontend(name: &str, vip: &str, pools: &str) -> String {
    format!(
        "    {name}:\n      address: {vip}\n      protocol: tcp\n      port: 80\n      pools: [\n        {pools} ]"
    )
}

/// A lab with an unprivileged prober, and a controller of that prober.
pub struct ProberFixture {
    /// The controller.
    pub controller: TestController,
    /// The prober.
    pub prober: Process,
    /// Files and sockets.
    pub dir: TestDir,
    /// The network.
    pub lab: Lab,
}

impl ProberFixture {
    /// Builds the lab and starts the prober. Needs root.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it has side effects")]
    pub fn new() -> Self {
        Self::with_wrapped_prober(&[])
    }

    /// Same as [`Self::new`], with the prober started through `wrapper`.
    #[must_use]
    pub fn with_wrapped_prober(wrapper: &[&str]) -> Self {
        let (lab, dir) = (Lab::new(), TestDir::new());
        let prober = dir.unprivileged_prober(&lab.prober, wrapper);
        let controller = TestController::connect(&dir.path("prober.sock"));
        Self { controller, prober, dir, lab }
    }
}

/// A 64 kB file system that can be filled or remounted read-only. Unmounted on drop.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts the file system at a new directory `path`. Needs root.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn mount(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&path));
        Self(path)
    }

    /// Returns the path of `name` on it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Remounts it with an option, `ro` or `rw`.
    pub fn remount(&self, option: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(&self.0));
    }

    /// Fills the file system and returns the files written.
    ///
    /// # Panics
    /// If a write fails for another reason than a full disk.
    #[must_use]
    pub fn fill(&self) -> Vec<PathBuf> {
        let mut ballast = Vec::new();
        loop {
            ballast.push(self.path(&format!("ballast{}", ballast.len())));
            if let Err(error) = fs::write(&ballast[ballast.len() - 1], [0; 4096]) {
                assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
                return ballast;
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

/// Runs a command, which must succeed.
///
/// # Panics
/// If it fails.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
