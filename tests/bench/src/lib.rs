//! Benchmarks of vpp-maglev: against other checkers in turn, and of its own costs.
//!
//! Everything runs on one machine, on loopback, in temporary namespaces.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use checker::{Checker, CheckerKind, CheckerKit};
use config::Check;
use maglev_lab::dataplane::Vpp;
use report::Part;
use screen::ProgressScreen;
use server::BackendServer;

pub mod address;
pub mod arrivals;
pub mod checker;
pub mod config;
pub mod detection;
pub mod following;
pub mod hostile;
pub mod hostile_server;
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

/// Maximum number of backends.
pub const MAX_BACKENDS: u32 = 50_000;
/// Descriptor limit of a program. All connections of a checker may be open at both ends.
const DESCRIPTORS: u64 = 131_072;
/// Network settings of the namespace: many connections at once, and unprivileged pings.
const NETWORK: [(&str, &str); 4] = [
    ("core/somaxconn", "65535"),
    ("ipv4/tcp_max_syn_backlog", "65535"),
    ("ipv4/ping_group_range", "0 2147483647"),
    ("ipv4/icmp_ratelimit", "0"),
];

/// Options of a run.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Rounds per checker.
    pub rounds: u32,
    /// Length of each measurement, in seconds.
    pub window: f64,
    /// Numbers of backends.
    pub sizes: Vec<u32>,
    /// Number of backends that fail in each way.
    pub failures: u32,
    /// Types of probe; `None` for all.
    pub probes: Option<Vec<String>>,
}

impl BenchOptions {
    /// True for windows below a second, which only show that the harness works.
    #[must_use]
    pub fn is_trial(&self) -> bool {
        self.window < 1.0
    }
}

/// Common state of all measurements.
pub struct Bench {
    /// Options of the run.
    pub options: BenchOptions,
    /// Progress output.
    pub screen: ProgressScreen,
    /// Server of all backends.
    pub server: BackendServer,
    /// Starter of checkers.
    pub kit: CheckerKit,
    /// VPP that our checker programs.
    pub vpp: Vpp,
}

impl Bench {
    /// Prepares a run with `directory` for files.
    ///
    /// # Errors
    /// If the network namespace cannot be changed or a file cannot be written.
    pub fn new(directory: &Path, options: BenchOptions) -> anyhow::Result<Self> {
        prepare()?;
        let vpp = Vpp::simulated()?;
        let kit = CheckerKit::new(directory, (vpp.api_socket(), vpp.stats_socket()));
        let server = BackendServer::start(MAX_BACKENDS)?;
        Ok(Self { options, screen: ProgressScreen::new(Duration::ZERO), server, kit, vpp })
    }

    /// Starts a checker; ours with an empty VPP.
    ///
    /// # Errors
    /// If it is unavailable or rejects the configuration.
    pub fn start(&mut self, who: CheckerKind, check: &Check) -> anyhow::Result<Checker> {
        if who == CheckerKind::Ours {
            return self.start_ours(&config::ours(check));
        }
        self.kit.start(who, check)
    }

    /// Starts ours with that configuration and an empty VPP.
    ///
    /// # Errors
    /// If it is unavailable or rejects the configuration.
    pub fn start_ours(&mut self, text: &str) -> anyhow::Result<Checker> {
        self.vpp.kill();
        self.vpp.boot()?;
        self.kit.start_ours(text)
    }

    /// Returns a part with date and machine, without results.
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
    // Without a higher limit, large numbers of reused connections fail visibly.
    if setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

/// Returns processors, kernel, and the versions of the compared programs.
fn machine() -> Vec<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<_> =
        processors.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": ")).collect();
    let model = models.first().map_or("unknown", |(_, model)| model);
    // Local build suffixes carry no information.
    let kernel =
        first_line("uname", &["-sr"]).map(|kernel| kernel.split('-').next().unwrap_or_default().to_owned());
    let versions =
        [first_line("haproxy", &["-v"]), first_line("keepalived", &["-v"]), first_line("cc", &["--version"])];
    [Some(format!("{} × {model}", models.len())), kernel].into_iter().chain(versions).flatten().collect()
}

fn first_line(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    // keepalived prints its version to standard error.
    let output_text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&output_text).lines().next().map(str::to_owned)
}
