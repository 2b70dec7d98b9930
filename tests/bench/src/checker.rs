//! Checkers: vpp-maglev, others, and C programs that do the necessary minimum.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::config::{self, Check};
use super::usage::tree;
use maglev_lab::programs::program;

/// Timeout for a checker to exit.
const PATIENCE: Duration = Duration::from_secs(5);
/// Interval at which the C programs start probes, in µs; equal to the prober's timer granularity.
const TICK: u32 = 4000;

/// A kind of checker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CheckerKind {
    /// `maglevd` and `maglevd-prober`.
    Ours,
    /// HAProxy with one thread.
    Haproxy,
    /// keepalived's checkers.
    Keepalived,
    /// Minimal C program, the lower bound.
    Floor,
}

impl CheckerKind {
    /// Returns the name for tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "vpp-maglev",
            Self::Haproxy => "HAProxy",
            Self::Keepalived => "keepalived",
            Self::Floor => "C floor",
        }
    }

    /// Returns the intended maximum excess of the probe interval, as a fraction: our probes have random jitter.
    #[must_use]
    pub const fn jitter(self) -> f64 {
        if matches!(self, Self::Ours) { 0.1 } else { 0.0 }
    }
}

/// Everything needed to start checkers: C programs, files, sockets.
pub struct CheckerKit {
    /// Working directory.
    pub directory: PathBuf,
    /// VPP's sockets: API and stats.
    pub vpp: (PathBuf, PathBuf),
    /// Unavailable checkers and the reason.
    missing: BTreeMap<&'static str, String>,
}

impl CheckerKit {
    /// Compiles the C programs and looks for the others.
    #[must_use]
    pub fn new(directory: &Path, vpp: (PathBuf, PathBuf)) -> Self {
        let mut kit = Self { directory: directory.to_owned(), vpp, missing: BTreeMap::new() };
        let sources: [(&str, &str, &[&str]); 3] = [
            ("floor", include_str!("../c/floor.c"), &[]),
            ("raw", include_str!("../c/raw.c"), &["-fno-strict-aliasing"]),
            ("ipvs.so", include_str!("../c/ipvs.c"), &["-shared", "-fPIC", "-ldl"]),
        ];
        for (name, source, flags) in sources {
            if let Err(error) = kit.compile(name, source, flags) {
                kit.missing.insert(name, format!("{error:#}"));
            }
        }
        for rival in ["haproxy", "keepalived"] {
            if let Err(error) = Command::new(rival).arg("-v").output() {
                kit.missing.insert(rival, format!("{rival} cannot be run: {error}"));
            }
        }
        kit
    }

    fn compile(&self, name: &str, source: &str, flags: &[&str]) -> anyhow::Result<()> {
        let text = self.directory.join(name).with_extension("c");
        std::fs::write(&text, source)?;
        let compiled = Command::new("cc")
            .arg("-O2")
            .arg(&text)
            .arg("-o")
            .arg(self.directory.join(name))
            .args(flags)
            .output();
        let compiled = compiled.context("cc cannot be run")?;
        ensure!(compiled.status.success(), "{name}.c: {}", String::from_utf8_lossy(&compiled.stderr));
        Ok(())
    }

    fn need(&self, name: &str) -> anyhow::Result<()> {
        match self.missing.get(name) {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        }
    }

    fn file(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Starts a checker.
    ///
    /// # Errors
    /// If it is unavailable or rejects the configuration.
    pub fn start(&self, who: CheckerKind, check: &Check) -> anyhow::Result<Checker> {
        match who {
            CheckerKind::Ours => self.start_ours(&config::ours(check)),
            CheckerKind::Haproxy => self.haproxy(check),
            CheckerKind::Keepalived => self.keepalived(check),
            CheckerKind::Floor => self.floor(check),
        }
    }

    /// Starts ours with that configuration.
    ///
    /// # Errors
    /// If a program is unavailable or rejects the configuration.
    pub fn start_ours(&self, text: &str) -> anyhow::Result<Checker> {
        let file = self.file("maglev.yaml", text)?;
        let maglevd = program("maglevd")?;
        let checked = Command::new(&maglevd)
            .current_dir(&self.directory)
            .args(["--check", "--config", "maglev.yaml"])
            .output()?;
        ensure!(
            checked.status.success(),
            "maglevd refuses it: {}",
            String::from_utf8_lossy(&checked.stderr).trim()
        );
        let socket = self.directory.join("prober.sock");
        // A stale socket would be mistaken for the new one.
        _ = std::fs::remove_file(&socket);
        let mut prober = Command::new(program("maglevd-prober")?);
        prober.args(["--targets", "127.0.0.0/8", "--max-rate", "100000", "--socket"]).arg(&socket);
        let prober = self.spawn("maglevd-prober", &mut prober)?;
        let mut controller = Command::new(maglevd);
        let paths = [
            ("--config", &file),
            ("--grpc-socket", &self.directory.join("maglevd.sock")),
            ("--prober", &socket),
            ("--state-dir", &self.directory.join("state")),
            ("--vpp-api-addr", &self.vpp.0),
            ("--vpp-stats-addr", &self.vpp.1),
        ];
        for (flag, path) in paths {
            controller.arg(flag).arg(path);
        }
        controller.args(["--grpc-addr", "", "--metrics-addr", "127.0.0.1:9091"]);
        let controller = self.spawn("maglevd", &mut controller)?;
        Ok(Checker { parts: vec![prober, controller] })
    }

    fn haproxy(&self, check: &Check) -> anyhow::Result<Checker> {
        self.need("haproxy")?;
        let file = self.file("haproxy.cfg", &config::haproxy(check)?)?;
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(file);
        Ok(Checker { parts: vec![self.spawn("haproxy", &mut command)?] })
    }

    fn keepalived(&self, check: &Check) -> anyhow::Result<Checker> {
        self.need("keepalived")?;
        self.need("ipvs.so")?;
        let file = self.file("keepalived.conf", &config::keepalived(check)?)?;
        let mut command = Command::new("keepalived");
        command
            .args(["--dont-fork", "--check", "--no-syslog", "--log-console", "--log-detail", "-f"])
            .arg(file);
        for (flag, pid) in [("-p", "keepalived.pid"), ("-c", "checkers.pid"), ("-r", "vrrp.pid")] {
            command.arg(flag).arg(self.directory.join(pid));
        }
        command.env("LD_PRELOAD", self.directory.join("ipvs.so"));
        Ok(Checker { parts: vec![self.spawn("keepalived", &mut command)?] })
    }

    fn floor(&self, check: &Check) -> anyhow::Result<Checker> {
        let (name, mode) = config::floor(check)?;
        self.need(name)?;
        let mut command = Command::new(self.directory.join(name));
        let numbers = [check.backends, check.probe.port().into(), check.interval.as_millis() as u32, TICK];
        command.arg(mode).args(numbers.map(|number| number.to_string()));
        Ok(Checker { parts: vec![self.spawn("floor", &mut command)?] })
    }

    /// Starts a program with its output in a file, which costs at most as much as the journal.
    fn spawn(&self, name: &'static str, command: &mut Command) -> anyhow::Result<Program> {
        let log = self.log(name);
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        Ok(Program { name, began, child, log })
    }

    /// Returns the path of a program's output.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join(name).with_extension("log")
    }
}

/// A running checker. Ended on drop.
pub struct Checker {
    /// Programs of the checker.
    pub parts: Vec<Program>,
}

impl Checker {
    /// Fails if one of its programs has exited.
    ///
    /// # Errors
    /// If one has exited, with the end of its output.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.parts.iter_mut().try_for_each(Program::check)
    }
}

/// A program of a checker with its child processes.
pub struct Program {
    /// Name of the program.
    pub name: &'static str,
    /// Start time.
    pub began: Instant,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Returns its processes.
    #[must_use]
    pub fn pids(&self) -> Vec<Pid> {
        tree(self.pid())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let output = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = output.lines().collect();
        bail!("{} has exited, {status}: {}", self.name, lines[lines.len().saturating_sub(5)..].join(" / "))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let all = self.pids();
        // Here and below, errors mean that the process has exited.
        _ = kill(self.pid(), Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        for pid in all {
            _ = kill(pid, Signal::SIGKILL);
        }
        _ = self.child.wait();
    }
}
