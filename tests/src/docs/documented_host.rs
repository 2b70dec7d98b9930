//! A machine on which terminals are played: a booted Debian beside VPP, with the servers of a configuration.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use maglev_proto::v1::BackendState;

use super::page;
use super::servers::{Servers, read};
use super::terminal::Printed;
use maglev_lab::container::machine::Machine;
use maglev_lab::container::rootfs::Debian;
use maglev_lab::dataplane::Vpp;
use maglev_lab::maglevd::Maglevd;
use maglev_lab::packets::until;
use maglev_lab::process::Process;
use maglev_lab::programs::program;

/// The configuration that pages are about.
pub const CONFIG: &str = "docs/examples/web.yaml";
/// Where the configuration is.
pub const FILE: &str = "/etc/vpp-maglev/maglev.yaml";
/// Where the API is.
const SOCKET: &str = "/run/vpp-maglev/maglevd.sock";
const CONTROLLER: &str = "vpp-maglevd.service";

/// Beside what the package needs, what an operator is expected to have.
const PACKAGES: [&str; 8] =
    ["systemd", "systemd-sysv", "dbus", "iproute2", "procps", "ca-certificates", "curl", "jq"];

/// Where a command writes down which process it is.
const PID: &str = "/run/terminal.pid";
/// Between two looks at what it has printed.
const PAUSE: Duration = Duration::from_millis(100);

/// A machine, and what is around it.
pub struct Stage {
    servers: Servers,
    machine: Machine,
    vpp: Vpp,
    config: String,
}

impl Stage {
    /// With nothing of ours on it.
    ///
    /// # Panics
    /// It cannot be set.
    #[must_use]
    pub fn bare(config: &str) -> Self {
        let vpp = Vpp::start().unwrap();
        let machine =
            Machine::beside(&vpp, Debian { name: "terminal", suite: "bookworm", packages: &PACKAGES });
        let servers = Servers::start(&machine, config);
        Self { servers, machine, vpp, config: config.to_owned() }
    }

    /// With the programs of this build, in the units that the package brings, and everything up.
    #[must_use]
    pub fn set(config: &str) -> Self {
        let stage = Self::bare(config);
        install(&stage.machine);
        stage.machine.write(FILE, config);
        stage.machine.run("systemctl enable --now vpp-maglevd");
        stage.settle();
        stage
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Waits until every backend is up, and VPP is followed.
    pub fn settle(&self) {
        let config = read(&self.config);
        let mut maglevd = self.maglevd();
        maglevd.until_vpp(true);
        let names: BTreeSet<_> = config.backends.keys().map(ToString::to_string).collect();
        maglevd.until_up(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for frontend in config.frontends.keys() {
            let released = || maglevd.frontend(frontend).released;
            until(released, || format!("{:#?}", maglevd.frontend(frontend)));
        }
    }

    /// Does what a comment on a page says, and waits until it is known.
    ///
    /// # Panics
    /// It says nothing that is understood.
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
        if self.knows() {
            self.maglevd().until_backend(who, health);
        }
    }

    /// Whether there is somebody to know of what happens.
    fn knows(&self) -> bool {
        self.machine.path(SOCKET).exists()
    }

    fn lose_vpp(&mut self) {
        self.vpp.kill();
        if self.knows() {
            self.maglevd().until_vpp(false);
        }
    }

    fn restore_vpp(&mut self) {
        self.vpp.boot().unwrap();
        self.machine.lend(&self.vpp);
        if self.knows() {
            self.maglevd().until_vpp(true);
        }
    }

    /// What watches `maglevd` from now on.
    #[must_use]
    pub fn maglevd(&self) -> Maglevd {
        Maglevd::watch(self.machine.journal(CONTROLLER), self.machine.path(SOCKET))
    }

    /// Runs a script as root, and returns what it prints, on either output.
    ///
    /// # Panics
    /// It cannot be run.
    #[must_use]
    pub fn run(&self, script: &str) -> Printed {
        let output = self.shell(&format!("exec 2>&1\ncd\n{script}\n")).output().unwrap();
        let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        Printed { lines, succeeded: output.status.success() }
    }

    /// Runs a command, and types Ctrl-C when it has printed enough, or has had long enough.
    #[must_use]
    pub fn interrupt(&self, command: &str, enough: impl Fn(&Printed) -> bool, patience: Duration) -> Printed {
        let script = format!("exec >&2\ncd\necho $$ >{PID}\nexec {command}\n");
        let mut process = Process::spawn(command, &mut self.shell(&script));
        let deadline = Instant::now() + patience;
        let printed = |process: &Process| Printed { lines: process.lines(0), succeeded: true };
        while !enough(&printed(&process)) && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
        // It may have ended already.
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

/// Puts the programs of this build on a machine, with all that belongs to them, as the package does.
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
