//! The machine for terminal sessions: a booted Debian with VPP and the servers of a configuration.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use maglev_proto::v1::BackendState;

use super::page;
use super::servers::{DocumentedServers, read};
use super::terminal::CommandOutput;
use maglev_lab::container::machine::Machine;
use maglev_lab::container::rootfs::DebianSpec;
use maglev_lab::dataplane::Vpp;
use maglev_lab::maglevd::Maglevd;
use maglev_lab::packets::until;
use maglev_lab::process::Process;
use maglev_lab::programs::program;

/// Configuration of the pages.
pub const CONFIG: &str = "docs/examples/web.yaml";
/// Path of the configuration on the machine.
pub const FILE: &str = "/etc/vpp-maglev/maglev.yaml";
/// Path of the API socket.
const SOCKET: &str = "/run/vpp-maglev/maglevd.sock";
const CONTROLLER: &str = "vpp-maglevd.service";

/// Packages that operators are expected to have, beyond those the package needs.
const PACKAGES: [&str; 8] =
    ["systemd", "systemd-sysv", "dbus", "iproute2", "procps", "ca-certificates", "curl", "jq"];

/// File with the process id of the running command.
const PID: &str = "/run/terminal.pid";
/// Interval of output checks.
const PAUSE: Duration = Duration::from_millis(100);

/// A machine with its surroundings.
pub struct DocumentedHost {
    servers: DocumentedServers,
    machine: Machine,
    vpp: Vpp,
    config: String,
}

impl DocumentedHost {
    /// Boots a machine without the package.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn bare(config: &str) -> Self {
        let vpp = Vpp::start().unwrap();
        let machine = Machine::boot_with_vpp(
            &vpp,
            DebianSpec { name: "terminal", suite: "bookworm", packages: &PACKAGES },
        );
        let servers = DocumentedServers::start(&machine, config);
        Self { servers, machine, vpp, config: config.to_owned() }
    }

    /// Boots a machine with the programs of this build and the packaged units, and waits until everything is up.
    #[must_use]
    pub fn running(config: &str) -> Self {
        let host = Self::bare(config);
        install(&host.machine);
        host.machine.write(FILE, config);
        host.machine.run("systemctl enable --now vpp-maglevd");
        host.settle();
        host
    }

    /// Returns the machine.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Waits until every backend is up and VPP is in sync.
    pub fn settle(&self) {
        let config = read(&self.config);
        let mut maglevd = self.maglevd();
        maglevd.until_vpp(true);
        let names: BTreeSet<_> = config.backends.keys().map(ToString::to_string).collect();
        maglevd.until_up(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for frontend in config.frontends.keys() {
            let released = || maglevd.frontend(frontend).startup_done;
            until(released, || format!("{:#?}", maglevd.frontend(frontend)));
        }
    }

    /// Performs the event that a comment on a page requests, and waits until it is processed.
    ///
    /// # Panics
    /// If the comment is not understood.
    pub fn scene(&mut self, scene: &str) {
        let (who, what) = scene.split_once(' ').unwrap_or((scene, ""));
        let Self { servers, machine, .. } = self;
        let health = match (who, what) {
            ("VPP", "dies") => return self.lose_vpp(),
            ("VPP", "returns") => return self.restore_vpp(),
            (name, "stops") => {
                servers.stop(name);
                BackendState::Down
            }
            (name, "fails") => {
                servers.fail(machine, name);
                BackendState::Down
            }
            (name, "recovers") => {
                servers.recover(machine, name);
                BackendState::Up
            }
            _ => panic!("`{scene}` means nothing on this stage: see docs/contributing.md"),
        };
        if self.is_maglevd_running() {
            self.maglevd().until_backend(who, health);
        }
    }

    /// True if `maglevd` is running.
    fn is_maglevd_running(&self) -> bool {
        self.machine.path(SOCKET).exists()
    }

    fn lose_vpp(&mut self) {
        self.vpp.kill();
        if self.is_maglevd_running() {
            self.maglevd().until_vpp(false);
        }
    }

    fn restore_vpp(&mut self) {
        self.vpp.boot().unwrap();
        self.machine.share_sockets(&self.vpp);
        if self.is_maglevd_running() {
            self.maglevd().until_vpp(true);
        }
    }

    /// Returns a client that follows `maglevd` from now on.
    #[must_use]
    pub fn maglevd(&self) -> Maglevd {
        Maglevd::attach(self.machine.journal(CONTROLLER), self.machine.path(SOCKET))
    }

    /// Runs a script as root and returns its combined output.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn run(&self, script: &str) -> CommandOutput {
        let output = self.shell(&format!("exec 2>&1\ncd\n{script}\n")).output().unwrap();
        let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        CommandOutput { lines, succeeded: output.status.success() }
    }

    /// Runs a command, and sends Ctrl-C after enough output or time.
    #[must_use]
    pub fn interrupt(
        &self,
        command: &str,
        enough: impl Fn(&CommandOutput) -> bool,
        patience: Duration,
    ) -> CommandOutput {
        let script = format!("exec >&2\ncd\necho $$ >{PID}\nexec {command}\n");
        let mut process = Process::spawn(command, &mut self.shell(&script));
        let deadline = Instant::now() + patience;
        let printed = |process: &Process| CommandOutput { lines: process.lines(0), succeeded: true };
        while !enough(&printed(&process)) && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
        // The process may have exited already.
        _ = self.machine.command("sh").args(["-c", &format!("kill -INT $(cat {PID})")]).output();
        process.end();
        printed(&process)
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = self.machine.command("bash");
        command.args(["-c", script]);
        command
    }
}

/// Installs the programs of this build on a machine, as the package does.
fn install(machine: &Machine) {
    let programs = program("maglevd").unwrap();
    let made = Command::new("make")
        .args(["--silent", "install", "PREFIX=/usr", "UNITDIR=/lib/systemd/system"])
        .arg(format!("PROGRAMS={}", programs.parent().unwrap_or(Path::new(".")).display()))
        .arg(format!("DESTDIR={}", machine.path("").display()))
        .current_dir(page::path(""))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    machine.run("systemd-sysusers");
    machine.run("systemd-tmpfiles --create");
    machine.run("usermod --append --groups vpp maglevd");
    machine.run("systemctl daemon-reload");
}
