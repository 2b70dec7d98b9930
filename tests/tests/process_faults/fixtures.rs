//! Common setup and helpers of these tests.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Debug;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::time::{Duration, Instant};

use maglev_lab::PATIENCE;
pub use maglev_lab::fixtures::BACKENDS;
use maglev_lab::fixtures::{WebConfig, WebFixture, run};
use maglev_lab::host::Host;
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::metrics::Scrape;
use maglev_lab::process::Process;
use maglev_lab::vpp_observer::Weights;
use maglev_proto::v1::BackendState;
use maglev_vppsim::{STATS_SEGMENT, VppInspection, VppSimulator};
use nix::unistd::Pid;

/// A [`WebFixture`] with the simulated VPP, a configuration that verifies VPP every second, and metrics.
pub struct ProcessFixture(WebFixture);

impl Deref for ProcessFixture {
    type Target = WebFixture;

    fn deref(&self) -> &WebFixture {
        &self.0
    }
}

impl DerefMut for ProcessFixture {
    fn deref_mut(&mut self) -> &mut WebFixture {
        &mut self.0
    }
}

impl ProcessFixture {
    pub fn new() -> Self {
        Self::on(None)
    }

    /// Places the prober and the servers on `host`.
    pub fn on(host: Option<&Host>) -> Self {
        Self(WebFixture::simulated(host))
    }

    /// Returns a configuration in which `maglevd` verifies VPP every second, so any difference there would cause a write.
    pub fn config(&self) -> String {
        self.verifying_config().to_string()
    }

    /// Same with other check parameters.
    pub fn config_with(&self, check: &str) -> String {
        WebConfig { check: check.to_owned(), ..self.verifying_config() }.to_string()
    }

    fn verifying_config(&self) -> WebConfig {
        WebConfig { lb: "sync-interval: 1s, startup-max-delay: 1h".to_owned(), ..self.0.config() }
    }

    /// Prepares `maglevd` with metrics at [`WebFixture::metrics`].
    pub fn setup(&self, config: &str) -> MaglevdSetup<'_> {
        self.0.setup(config).flag("--metrics-addr", self.metrics())
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

    /// Waits until every backend is up and in VPP and the counters are read. All long-lived descriptors are open then.
    pub fn settle(&self, maglevd: &mut Maglevd) {
        maglevd.until_up(&BACKENDS);
        self.until_weights(20, 10, 0);
        let counted = |open: &Vec<String>| open.iter().any(|what| what.contains(STATS_SEGMENT));
        until("VPP's counters to be read", || open_descriptors(maglevd.process.pid()), counted);
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

    pub fn sim(&self) -> &VppSimulator {
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

    /// Returns the changes requested of VPP so far.
    pub fn writes(&self) -> Vec<String> {
        self.observer().writes()
    }

    /// Asserts no writes since `written`. Then a server fails, to prove that the daemons are able to write: one write drains
    /// it.
    pub fn assert_no_writes_since(&self, written: &[String], maglevd: &mut Maglevd) {
        assert_eq!(self.writes(), written);
        self.servers.http[0].answer(503);
        maglevd.until_backend("a", BackendState::Down);
        // [`assert_nothing_went_down`] relies on this log line.
        maglevd.process.line(0, DOWN);
        self.until_weights(0, 10, 0);
        assert_eq!(self.writes().len(), written.len() + 1, "{:#?}", self.writes());
    }
}

/// Returns the number of servers with weight in the simulated VPP.
pub fn raised(vpp: &VppInspection<'_>) -> usize {
    let vips = vpp.vips();
    vips.iter().flat_map(|vip| &vip.servers).filter(|server| server.weight > 0).count()
}

/// Waits until `is_so` accepts the observed value.
///
/// # Panics
/// On timeout.
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
pub fn names(directory: &std::path::Path) -> BTreeSet<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
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
