//! Actions inside a machine.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::unistd::Pid;

use super::machine::Machine;
use crate::host;
use crate::process::Process;

/// Environment of commands on the machine.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("DEBIAN_FRONTEND", "noninteractive"),
];

impl Machine {
    /// Returns a command that runs on the machine as root.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.leader().to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"])
            .arg(program)
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command line on the machine.
    ///
    /// # Panics
    /// If the line is empty or nothing can run.
    #[must_use]
    pub fn try_run(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        self.command(words.next().unwrap()).args(words).output().unwrap()
    }

    /// Runs a command line on the machine, which must succeed, and returns its trimmed output.
    pub fn run(&self, line: &str) -> String {
        succeeded(line, &self.try_run(line))
    }

    /// Runs a script on the machine, which must succeed, and returns its trimmed output.
    ///
    /// # Panics
    /// If that fails.
    pub fn sh(&self, script: &str) -> String {
        succeeded(script, &self.command("sh").args(["-euc", script]).output().unwrap())
    }

    /// Runs a command line on the machine, which must fail, and returns its error output.
    ///
    /// # Panics
    /// If it succeeds.
    #[must_use]
    pub fn fail(&self, line: &str) -> String {
        let output = self.try_run(line);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        assert!(!output.status.success(), "{line} succeeded: {text}");
        text
    }

    /// Writes a file on the machine.
    ///
    /// # Panics
    /// If that fails.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(path), text).unwrap();
    }

    /// Reads a file on the machine.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Copies a file to the machine, readable and executable by all, and returns its path there.
    ///
    /// # Panics
    /// If that fails.
    pub fn put(&self, file: &Path) -> String {
        let there = format!("/root/{}", file.file_name().unwrap().to_str().unwrap());
        fs::copy(file, self.path(&there)).unwrap();
        fs::set_permissions(self.path(&there), Permissions::from_mode(0o755)).unwrap();
        there
    }

    /// Runs `work` in the machine's network namespace. Sockets and threads that it creates belong to that namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        host::inside(Path::new(&format!("/proc/{}/ns/net", self.leader())), work)
    }

    /// Runs `work` in a named network namespace of the machine.
    pub fn inside_netns<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        host::inside(&self.path(&format!("/run/netns/{name}")), work)
    }

    /// Follows the journal of a unit, line by line.
    #[must_use]
    pub fn journal(&self, unit: &str) -> Process {
        let script = format!("exec journalctl -q -f -n all -o cat -u {unit} >&2");
        Process::spawn(&format!("the journal of {unit}"), self.command("sh").args(["-c", &script]))
    }

    /// Returns a property of a unit.
    #[must_use]
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.run(&format!("systemctl show --value --property {property} {unit}"))
    }

    /// Returns the main process id of a service in the machine's PID namespace.
    ///
    /// # Panics
    /// If the service is not running.
    #[must_use]
    pub fn main_pid(&self, service: &str) -> u32 {
        let pid = self.property(service, "MainPID").parse().unwrap();
        assert_ne!(pid, 0, "{service} does not run");
        pid
    }

    /// Returns the main process id of a service in the test's PID namespace.
    ///
    /// # Panics
    /// If the service is not running.
    #[must_use]
    pub fn main_pid_here(&self, service: &str) -> Pid {
        let there = self.main_pid(service).to_string();
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own_groups = namespace(&self.leader().to_string());
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let is_it = |pid: &String| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let names = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            names.is_some_and(|names| names.split_whitespace().last() == Some(&there))
                && namespace(pid) == own_groups
        };
        let mut numbers = processes.filter(|name| name.parse::<u32>().is_ok());
        Pid::from_raw(numbers.find(is_it).unwrap().parse().unwrap())
    }

    /// Returns the path of a file below `/proc/PID` of a service's main process.
    #[must_use]
    pub fn proc(&self, service: &str, file: &str) -> PathBuf {
        self.path(&format!("/proc/{}/{file}", self.main_pid(service)))
    }

    /// Returns a field of `/proc/PID/status` of a service's main process.
    ///
    /// # Panics
    /// If the field is missing.
    #[must_use]
    pub fn status(&self, service: &str, key: &str) -> String {
        let status = fs::read_to_string(self.proc(service, "status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }
}

fn succeeded(what: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{what}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}
