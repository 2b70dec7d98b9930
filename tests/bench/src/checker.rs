//! Checkers: ours, those of others, and programs in C that do the least that there is to be done.

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

/// How long a checker may take to end when asked to.
const PATIENCE: Duration = Duration::from_secs(5);
/// How the programs in C group their starts, in µs. It is the prober's grain.
const TICK: u32 = 4000;

/// Whose program it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// `maglevd` and `maglevd-prober`.
    Ours,
    /// HAProxy, with one thread.
    Haproxy,
    /// keepalived's checkers.
    Keepalived,
    /// The program in C.
    Floor,
}

impl Who {
    /// A name for tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "vpp-maglev",
            Self::Haproxy => "HAProxy",
            Self::Keepalived => "keepalived",
            Self::Floor => "C floor",
        }
    }

    /// How much longer than the interval the time between two probes of a backend is meant to be, in parts of it: ours
    /// are spread at random.
    #[must_use]
    pub const fn jitter(self) -> f64 {
        if matches!(self, Self::Ours) { 0.1 } else { 0.0 }
    }
}

/// Where everything for checkers is: programs in C, files, sockets.
pub struct Kit {
    /// A folder of our own.
    pub folder: PathBuf,
    /// VPP's sockets, API and stats.
    pub vpp: (PathBuf, PathBuf),
    /// What cannot be had here, and why.
    missing: BTreeMap<&'static str, String>,
}

impl Kit {
    /// Compiles the programs in C, and looks for the others.
    #[must_use]
    pub fn new(folder: &Path, vpp: (PathBuf, PathBuf)) -> Self {
        let mut kit = Self { folder: folder.to_owned(), vpp, missing: BTreeMap::new() };
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
        let text = self.folder.join(name).with_extension("c");
        std::fs::write(&text, source)?;
        let compiled = Command::new("cc")
            .arg("-O2")
            .arg(&text)
            .arg("-o")
            .arg(self.folder.join(name))
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
        let path = self.folder.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Starts a checker.
    ///
    /// # Errors
    /// It cannot be had here, or does not take the configuration.
    pub fn start(&self, who: Who, check: &Check) -> anyhow::Result<Checker> {
        match who {
            Who::Ours => self.ours(check),
            Who::Haproxy => self.haproxy(check),
            Who::Keepalived => self.keepalived(check),
            Who::Floor => self.floor(check),
        }
    }

    fn ours(&self, check: &Check) -> anyhow::Result<Checker> {
        let file = self.file("maglev.yaml", &config::ours(check))?;
        let maglevd = program("maglevd")?;
        let checked = Command::new(&maglevd)
            .current_dir(&self.folder)
            .args(["--check", "--config", "maglev.yaml"])
            .output()?;
        ensure!(
            checked.status.success(),
            "maglevd refuses it: {}",
            String::from_utf8_lossy(&checked.stderr).trim()
        );
        let socket = self.folder.join("prober.sock");
        // Nothing else may be taken for the one that is about to listen there.
        _ = std::fs::remove_file(&socket);
        let mut prober = Command::new(program("maglevd-prober")?);
        prober.arg("--socket").arg(&socket);
        let prober = self.spawn("maglevd-prober", &mut prober)?;
        let mut controller = Command::new(maglevd);
        let paths = [
            ("--config", &file),
            ("--grpc-socket", &self.folder.join("maglevd.sock")),
            ("--prober", &socket),
            ("--state-dir", &self.folder.join("state")),
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
            command.arg(flag).arg(self.folder.join(pid));
        }
        command.env("LD_PRELOAD", self.folder.join("ipvs.so"));
        Ok(Checker { parts: vec![self.spawn("keepalived", &mut command)?] })
    }

    fn floor(&self, check: &Check) -> anyhow::Result<Checker> {
        let (name, mode) = config::floor(check)?;
        self.need(name)?;
        let mut command = Command::new(self.folder.join(name));
        let numbers = [check.backends, check.probe.port().into(), check.interval.as_millis() as u32, TICK];
        command.arg(mode).args(numbers.map(|number| number.to_string()));
        Ok(Checker { parts: vec![self.spawn("floor", &mut command)?] })
    }

    /// What a program writes goes to a file, which costs it the same as a journal or less.
    fn spawn(&self, name: &'static str, command: &mut Command) -> anyhow::Result<Part> {
        let log = self.log(name);
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        Ok(Part { name, began, child, log })
    }

    /// Where a program's output is.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension("log")
    }
}

/// A running checker. It ends when dropped.
pub struct Checker {
    /// Its programs.
    pub parts: Vec<Part>,
}

impl Checker {
    /// Fails if one of its programs has ended.
    ///
    /// # Errors
    /// One has; the error has its last words.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.parts.iter_mut().try_for_each(Part::check)
    }
}

/// A program of a checker, with all that it starts.
pub struct Part {
    /// The program.
    pub name: &'static str,
    /// When it was started.
    pub began: Instant,
    child: Child,
    log: PathBuf,
}

impl Part {
    /// Its processes.
    #[must_use]
    pub fn pids(&self) -> Vec<Pid> {
        tree(self.pid())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = said.lines().collect();
        bail!("{} has ended, {status}: {}", self.name, lines[lines.len().saturating_sub(5)..].join(" / "))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let all = self.pids();
        // Failures mean that it has ended already, here and below.
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
