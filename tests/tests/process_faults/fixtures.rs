//! Common setup and helpers of these tests.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Debug;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use maglev_lab::PATIENCE;
use maglev_lab::dataplane::Vpp;
use maglev_lab::host::Host;
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::metrics::Scrape;
use maglev_lab::process::Process;
use maglev_lab::servers::Servers;
use maglev_lab::test_dir::TestDir;
use maglev_lab::vpp_observer::{VppObserver, Weights};
use maglev_proto::v1::BackendState;
use maglev_vppsim::{STATS_SEGMENT, Sim};
use nix::unistd::Pid;

/// VIP of frontend `web`.
pub const VIP: &str = "203.0.113.80";
/// Backends of frontend `web`, in the order of the servers.
pub const BACKENDS: [&str; 3] = ["a", "b", "c"];

/// A prober, three servers and the simulated VPP.
pub struct Stage {
    pub prober: Process,
    pub servers: Servers,
    pub dir: TestDir,
    pub vpp: Vpp,
}

impl Stage {
    pub fn new() -> Self {
        Self::on(None)
    }

    /// Places the prober and the servers on `host`.
    pub fn on(host: Option<&Host>) -> Self {
        let dir = TestDir::new();
        let servers = host.map_or_else(|| Servers::new(3), |host| host.inside(|| Servers::new(3)));
        Self { prober: dir.prober(host, &[]), servers, dir, vpp: Vpp::simulated().unwrap() }
    }

    /// Frontend `web` prefers `a` and `b` (2 : 1) to `c`. `maglevd` verifies VPP every second, so any difference there would
    /// cause a write.
    pub fn config(&self) -> String {
        self.config_with("interval: 50ms, timeout: 20s, rise: 2, fall: 3")
    }

    /// Same with other check parameters.
    pub fn config_with(&self, check: &str) -> String {
        let [a, b, c] = [0, 1, 2].map(|server| self.servers.address(server));
        let port = self.servers.port();
        format!(
            "maglev:
  vpp: {{ lb: {{ ipv4-src-address: 192.0.2.1, sync-interval: 1s, startup-max-delay: 1h }} }}
  healthchecks:
    site: {{ type: http, port: {port}, {check} }}
  backends:
    a: {{ address: {a}, healthcheck: site }}
    b: {{ address: {b}, healthcheck: site }}
    c: {{ address: {c}, healthcheck: site }}
  frontends:
    web:
      address: {VIP}
      protocol: tcp
      port: 80
      pools:
        - {{ name: first, backends: {{ a: {{ weight: 100 }}, b: {{ weight: 50 }} }} }}
        - {{ name: last, backends: {{ c: {{ weight: 10 }} }} }}
"
        )
    }

    /// Prepares `maglevd` with metrics at [`Self::metrics`].
    pub fn setup(&self, config: &str) -> MaglevdSetup<'_> {
        MaglevdSetup::new(&self.dir, config).vpp(&self.vpp).flag("--metrics-addr", self.metrics())
    }

    /// Starts `maglevd` with the plain configuration.
    pub fn start(&self) -> Maglevd {
        self.setup(&self.config()).start()
    }

    /// Starts `maglevd` and waits until it is settled.
    pub fn settled(&self) -> Maglevd {
        let mut maglevd = self.start();
        self.settle(&mut maglevd);
        maglevd
    }

    /// Waits until every backend is up and in VPP and the counters are read. All long-lived open_descriptors are open then.
    pub fn settle(&self, maglevd: &mut Maglevd) {
        maglevd.until_up(&BACKENDS);
        self.until_weights(10, 5, 0);
        let counted = |open: &Vec<String>| open.iter().any(|what| what.contains(STATS_SEGMENT));
        until("VPP's counters to be read", || open_descriptors(maglevd.process.pid()), counted);
    }

    /// Address of the metrics.
    pub fn metrics(&self) -> SocketAddr {
        SocketAddr::new(self.servers.address(199), self.servers.port())
    }

    pub fn scrape(&self) -> Scrape {
        Scrape::fetch(self.metrics())
    }

    /// Returns the number of `LOCAL` outcomes of the backend that has the fewest.
    pub fn local_outcomes(&self) -> f64 {
        let scrape = self.scrape();
        let of =
            |name| scrape.find("maglev_probe_total", &[&format!("backend=\"{name}\""), "code=\"LOCAL\""]);
        BACKENDS.map(|name| of(name).unwrap_or_default()).into_iter().fold(f64::INFINITY, f64::min)
    }

    pub fn sim(&self) -> &Sim {
        self.vpp.sim().unwrap()
    }

    /// Waits until a VIP has exactly these weights for the three servers.
    pub fn until_weights(&self, a: u8, b: u8, c: u8) {
        let weights = self.weights(a, b, c);
        let has = |vips: Vec<maglev_vppsim::VipView>| {
            vips.iter().any(|vip| weights == vip.weights().into_iter().collect::<Weights>())
        };
        assert!(
            self.sim().wait_for(PATIENCE, |vpp| has(vpp.vips())),
            "not {weights:?}, but {:#?}",
            self.sim().vips()
        );
    }

    pub fn weights(&self, a: u8, b: u8, c: u8) -> Weights {
        [(self.servers.address(0), a), (self.servers.address(1), b), (self.servers.address(2), c)].into()
    }

    /// Returns the changes requested of VPP so far.
    pub fn writes(&self) -> Vec<String> {
        VppObserver::new(&self.vpp).writes()
    }

    /// Asserts no writes since `written`. Then a server fails, to prove that the daemons are able to write: one write drains
    /// it.
    pub fn assert_no_writes_since(&self, written: &[String], maglevd: &mut Maglevd) {
        assert_eq!(self.writes(), written);
        self.servers.http[0].answer(503);
        maglevd.until_backend("a", BackendState::Down);
        // [`assert_nothing_went_down`] relies on this log line.
        maglevd.process.line(0, DOWN);
        self.until_weights(0, 5, 0);
        assert_eq!(self.writes().len(), written.len() + 1, "{:#?}", self.writes());
    }
}

/// Waits until `is_so` accepts the observed value.
///
/// If that does not happen in time.
pub fn until<T: Debug>(what: &str, look: impl Fn() -> T, is_so: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if is_so(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}; last value: {seen:?}");
        // No event reports this, so it is polled.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Log text of a backend that goes down.
const DOWN: &str = "to=down";

/// Fails if `maglevd` has ever logged a backend as down.
pub fn assert_nothing_went_down(maglevd: &Process) {
    let down: Vec<_> = maglevd.lines(0).into_iter().filter(|line| line.contains(DOWN)).collect();
    assert!(down.is_empty(), "{down:#?}");
}

/// Returns the targets of a process's open open_descriptors.
pub fn open_descriptors(pid: Pid) -> Vec<String> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    // A descriptor may be closed before its link is read.
    let links = all.filter_map(|one| fs::read_link(one.unwrap().path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

/// Waits until a process has at most that number of open_descriptors open.
pub fn until_at_most_open(process: &Process, than: usize) {
    until("descriptors to be closed", || open_descriptors(process.pid()), |now| now.len() <= than);
}

/// Returns the names in a directory.
pub fn names(folder: &std::path::Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Returns the resident memory in bytes.
pub fn memory(process: &Process) -> u64 {
    process.status("VmRSS").trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Returns the number of repetitions: `usual`, or the environment variable `name`.
pub fn repetitions(name: &str, usual: u32) -> u32 {
    env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Sets a limit of a running process in prlimit(1) syntax: `--nofile=1:`.
pub fn limit(process: &Process, words: &str) {
    // Run as the process's user, because root may lack CAP_SYS_RESOURCE.
    let id = |key| process.status(key).split_whitespace().next().unwrap().to_owned();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id("Uid"), "--regid", &id("Gid"), "--clear-groups"]);
    run(command.args(["prlimit", "--pid", &process.pid().to_string(), words]));
}

/// Runs a command, which must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Times from the end of a fault to full recovery.
pub struct Recovery(Vec<Duration>);

impl Recovery {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Measures the time until `recover` returns.
    pub fn time<T>(&mut self, recover: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = recover();
        self.0.push(began.elapsed());
        result
    }

    /// Prints the repetitions for `docs/reliability.md`. No test depends on them.
    pub fn print(mut self, fault: &str) {
        self.0.sort_unstable();
        let (median, longest) = (self.0[self.0.len() / 2], self.0[self.0.len() - 1]);
        println!("RECOVERY {fault}: median {median:.1?}, longest {longest:.1?} of {}", self.0.len());
    }
}
