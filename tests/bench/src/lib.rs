//! Measures vpp-maglev: beside other checkers in turn, and by itself.
//!
//! Everything runs on one machine, on loopback, in namespaces of its own, which vanish with it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use checker::{Checker, Kit, Who};
use config::Check;
use maglev_lab::dataplane::Vpp;
use report::Part;
use screen::Screen;
use server::Server;

pub mod address;
pub mod arrivals;
pub mod checker;
pub mod config;
pub mod detection;
pub mod following;
pub mod log;
pub mod own;
pub mod page;
pub mod plot;
pub mod probes;
pub mod report;
pub mod screen;
pub mod server;
pub mod tap;
pub mod usage;

/// How many backends there can be.
pub const MAX_BACKENDS: u32 = 50_000;
/// Descriptors that a program may have. All connections of a checker may be open at both ends.
const DESCRIPTORS: u64 = 131_072;
/// What the network of this namespace is to allow: many connections at once, and pings of anybody.
const NETWORK: [(&str, &str); 4] = [
    ("core/somaxconn", "65535"),
    ("ipv4/tcp_max_syn_backlog", "65535"),
    ("ipv4/ping_group_range", "0 2147483647"),
    ("ipv4/icmp_ratelimit", "0"),
];

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many turns each checker has.
    pub rounds: u32,
    /// How long it is looked at, in seconds.
    pub window: f64,
    /// Numbers of backends.
    pub sizes: Vec<u32>,
    /// How many backends fail in each way.
    pub failures: u32,
    /// Kinds of probes, if not all are wanted.
    pub probes: Option<Vec<String>>,
}

impl Options {
    /// Whoever looks for less than a second wants to see that it runs, and not what comes of it.
    #[must_use]
    pub fn is_trial(&self) -> bool {
        self.window < 1.0
    }
}

/// What all measurements share.
pub struct Bench {
    /// What is to be measured.
    pub options: Options,
    /// What is said meanwhile.
    pub screen: Screen,
    /// Serves all backends.
    pub server: Server,
    /// Starts checkers.
    pub kit: Kit,
    /// What ours programs.
    pub vpp: Vpp,
}

impl Bench {
    /// Makes everything ready, with `folder` for files.
    ///
    /// # Errors
    /// This is no network namespace that may be changed, or there is no room.
    pub fn new(folder: &Path, options: Options) -> anyhow::Result<Self> {
        prepare()?;
        let vpp = Vpp::simulated()?;
        let kit = Kit::new(folder, (vpp.api_socket(), vpp.stats_socket()));
        let server = Server::start(MAX_BACKENDS)?;
        Ok(Self { options, screen: Screen::new(Duration::ZERO), server, kit, vpp })
    }

    /// Starts a checker; ours with an empty VPP.
    ///
    /// # Errors
    /// It cannot be had here, or does not take the configuration.
    pub fn start(&mut self, who: Who, check: &Check) -> anyhow::Result<Checker> {
        if who == Who::Ours {
            self.vpp.kill();
            self.vpp.boot()?;
        }
        self.kit.start(who, check)
    }

    /// Where and when something is measured, without what was found.
    #[must_use]
    pub fn part(&self) -> Part {
        Part {
            date: first_line("date", &["-u", "+%Y-%m-%d"]).unwrap_or_default(),
            machine: machine(),
            ..Part::default()
        }
    }
}

fn prepare() -> anyhow::Result<()> {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    ensure!(up.success(), "loopback does not come up");
    for (key, value) in NETWORK {
        fs::write(Path::new("/proc/sys/net").join(key), value)?;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Where it may not be raised, large numbers of kept connections show it.
    if setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

/// The processors, the kernel, and the versions of what is compared.
fn machine() -> Vec<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<_> =
        processors.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": ")).collect();
    let model = models.first().map_or("unknown", |(_, model)| model);
    // How it was built for this machine says nothing to others.
    let kernel =
        first_line("uname", &["-sr"]).map(|kernel| kernel.split('-').next().unwrap_or_default().to_owned());
    let versions =
        [first_line("haproxy", &["-v"]), first_line("keepalived", &["-v"]), first_line("cc", &["--version"])];
    [Some(format!("{} × {model}", models.len())), kernel].into_iter().chain(versions).flatten().collect()
}

fn first_line(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    // keepalived says it where others complain.
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).lines().next().map(str::to_owned)
}
