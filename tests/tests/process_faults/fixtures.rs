//! What every ordeal begins with, and what is told and asked in all of them.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Debug;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use maglev_lab::PATIENCE;
use maglev_lab::dataplane::Vpp;
use maglev_lab::farm::Farm;
use maglev_lab::host::Host;
use maglev_lab::maglevd::{Maglevd, Setup};
use maglev_lab::metrics::Scrape;
use maglev_lab::place::Place;
use maglev_lab::process::Process;
use maglev_lab::vips::{Observer, Weights};
use maglev_proto::v1::BackendState;
use maglev_vppsim::{STATS_SEGMENT, Sim};
use nix::unistd::Pid;

/// The VIP of frontend `web`.
pub const VIP: &str = "203.0.113.80";
/// The backends of frontend `web`, in the order of the servers of the farm.
pub const BACKENDS: [&str; 3] = ["a", "b", "c"];

/// A prober, three servers, and the simulated VPP.
pub struct Stage {
    pub prober: Process,
    pub farm: Farm,
    pub place: Place,
    pub vpp: Vpp,
}

impl Stage {
    pub fn new() -> Self {
        Self::on(None)
    }

    /// The prober is on `host`, and so are the servers.
    pub fn on(host: Option<&Host>) -> Self {
        let place = Place::new();
        let farm = host.map_or_else(|| Farm::new(3), |host| host.inside(|| Farm::new(3)));
        Self { prober: place.prober(host, &[]), farm, place, vpp: Vpp::simulated().unwrap() }
    }

    /// Frontend `web` prefers `a` and `b` (2 : 1) to `c`. VPP is compared with that every second, so that whatever is
    /// wrong there would be written.
    pub fn config(&self) -> String {
        self.config_with("interval: 50ms, timeout: 20s, rise: 2, fall: 3")
    }

    /// The same, checked like that.
    pub fn config_with(&self, check: &str) -> String {
        let [a, b, c] = [0, 1, 2].map(|server| self.farm.address(server));
        let port = self.farm.port();
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

    /// `maglevd` on this stage, with metrics at [`Self::metrics`].
    pub fn setup(&self, config: &str) -> Setup<'_> {
        Setup::new(&self.place, config).vpp(&self.vpp).flag("--metrics-addr", self.metrics())
    }

    /// `maglevd` with the plain configuration.
    pub fn start(&self) -> Maglevd {
        self.setup(&self.config()).start()
    }

    /// The same, settled.
    pub fn settled(&self) -> Maglevd {
        let mut maglevd = self.start();
        self.settle(&mut maglevd);
        maglevd
    }

    /// Waits until every backend is up, VPP knows it, and its counters are read: all is open then that stays open.
    pub fn settle(&self, maglevd: &mut Maglevd) {
        maglevd.until_up(&BACKENDS);
        self.until_weights(10, 5, 0);
        let counted = |open: &Vec<String>| open.iter().any(|what| what.contains(STATS_SEGMENT));
        until("VPP's counters to be read", || descriptors(maglevd.process.pid()), counted);
    }

    /// Where the metrics are.
    pub fn metrics(&self) -> SocketAddr {
        SocketAddr::new(self.farm.address(199), self.farm.port())
    }

    pub fn scrape(&self) -> Scrape {
        Scrape::of(self.metrics())
    }

    /// How many probes of the backend that has had the fewest of them came to no verdict.
    pub fn blind_probes(&self) -> f64 {
        let scrape = self.scrape();
        let of =
            |name| scrape.find("maglev_probe_total", &[&format!("backend=\"{name}\""), "code=\"LOCAL\""]);
        BACKENDS.map(|name| of(name).unwrap_or_default()).into_iter().fold(f64::INFINITY, f64::min)
    }

    pub fn sim(&self) -> &Sim {
        self.vpp.sim().unwrap()
    }

    /// Waits until VPP has these weights for the three servers, and nothing else.
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
        [(self.farm.address(0), a), (self.farm.address(1), b), (self.farm.address(2), c)].into()
    }

    /// The changes that were asked of VPP so far.
    pub fn writes(&self) -> Vec<String> {
        Observer::of(&self.vpp).writes()
    }

    /// Says that nothing was written since `written` was all of it, and that the daemons would have: a server that
    /// fails is taken out by a single write.
    pub fn nothing_was_written_since(&self, written: &[String], maglevd: &mut Maglevd) {
        assert_eq!(self.writes(), written);
        self.farm.sites[0].answer(503);
        maglevd.until_backend("a", BackendState::Down);
        // What `nothing_went_down` looks for.
        maglevd.process.line(0, DOWN);
        self.until_weights(0, 5, 0);
        assert_eq!(self.writes().len(), written.len() + 1, "{:#?}", self.writes());
    }
}

/// Waits until something is so.
///
/// # Panics
/// It never is.
pub fn until<T: Debug>(what: &str, look: impl Fn() -> T, is_so: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if is_so(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited for {what}, not {seen:?}");
        // Nobody tells of this.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the log says of a backend that was called down.
const DOWN: &str = "to=down";

/// Fails if `maglevd` has ever called anything down.
pub fn nothing_went_down(maglevd: &Process) {
    let down: Vec<_> = maglevd.lines(0).into_iter().filter(|line| line.contains(DOWN)).collect();
    assert!(down.is_empty(), "{down:#?}");
}

/// What a process has open, by what it is.
pub fn descriptors(pid: Pid) -> Vec<String> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    // What is closed before it is looked at is not open.
    let links = all.filter_map(|one| fs::read_link(one.unwrap().path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

/// Waits until a process has no more open than so many.
pub fn until_no_more_is_open(process: &Process, than: usize) {
    until("nothing to leak", || descriptors(process.pid()), |now| now.len() <= than);
}

/// The names in a folder.
pub fn names(folder: &std::path::Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What the process has in memory, in bytes.
pub fn memory(process: &Process) -> u64 {
    process.status("VmRSS").trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// How often something is repeated: `usual`, or what the environment says of `name`.
pub fn times(name: &str, usual: u32) -> u32 {
    env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Sets a running process a limit, in the words of prlimit(1): `--nofile=1:`.
pub fn limit(process: &Process, words: &str) {
    // As its own user, as root may lack the capability to limit others.
    let id = |key| process.status(key).split_whitespace().next().unwrap().to_owned();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id("Uid"), "--regid", &id("Gid"), "--clear-groups"]);
    run(command.args(["prlimit", "--pid", &process.pid().to_string(), words]));
}

/// Runs a command, which is to succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// How long it took from the end of a fault until everything was right.
pub struct Recovery(Vec<Duration>);

impl Recovery {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// What `recover` waits for is right again.
    pub fn time<T>(&mut self, recover: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = recover();
        self.0.push(began.elapsed());
        result
    }

    /// Prints it, for `docs/reliability.md`. Nothing depends on it.
    pub fn tell(mut self, fault: &str) {
        self.0.sort_unstable();
        let (median, longest) = (self.0[self.0.len() / 2], self.0[self.0.len() - 1]);
        println!("RECOVERY {fault}: median {median:.1?}, longest {longest:.1?} of {}", self.0.len());
    }
}
