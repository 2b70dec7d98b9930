//! What is done inside a machine, from outside.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::unistd::Pid;

use super::machine::Machine;
use crate::host;
use crate::process::Process;

/// What a command there knows of its surroundings.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("DEBIAN_FRONTEND", "noninteractive"),
];

impl Machine {
    /// A command that runs there, as root.
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

    /// Runs a line of words there.
    ///
    /// # Panics
    /// There is no word in it, or nothing can be run there.
    #[must_use]
    pub fn try_run(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        self.command(words.next().unwrap()).args(words).output().unwrap()
    }

    /// Runs a line of words there, which is to succeed, and returns what it prints, without the white space around.
    pub fn run(&self, line: &str) -> String {
        succeeded(line, &self.try_run(line))
    }

    /// Runs a script there, which is to succeed, and returns what it prints, without the white space around.
    ///
    /// # Panics
    /// Nothing can be run there.
    pub fn sh(&self, script: &str) -> String {
        succeeded(script, &self.command("sh").args(["-euc", script]).output().unwrap())
    }

    /// Runs a line of words there, which is to fail, and returns what it says.
    ///
    /// # Panics
    /// It succeeds.
    #[must_use]
    pub fn fail(&self, line: &str) -> String {
        let output = self.try_run(line);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        assert!(!output.status.success(), "{line} succeeds: {said}");
        said
    }

    /// Writes a file there.
    ///
    /// # Panics
    /// There is no such folder.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(path), text).unwrap();
    }

    /// The text of a file there.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Puts a file of this machine there, for all to read and to run. Returns where.
    ///
    /// # Panics
    /// There is no such file.
    pub fn put(&self, file: &Path) -> String {
        let there = format!("/root/{}", file.file_name().unwrap().to_str().unwrap());
        fs::copy(file, self.path(&there)).unwrap();
        fs::set_permissions(self.path(&there), Permissions::from_mode(0o755)).unwrap();
        there
    }

    /// Does something in its network: sockets that `work` makes, and threads that it starts, belong there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        host::inside(Path::new(&format!("/proc/{}/ns/net", self.leader())), work)
    }

    /// Does something in a network namespace of its.
    pub fn inside_netns<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        host::inside(&self.path(&format!("/run/netns/{name}")), work)
    }

    /// What its journal has of a unit, and gets from now on, line by line.
    #[must_use]
    pub fn journal(&self, unit: &str) -> Process {
        let script = format!("exec journalctl -q -f -n all -o cat -u {unit} >&2");
        Process::spawn(&format!("the journal of {unit}"), self.command("sh").args(["-c", &script]))
    }

    /// A property of a unit.
    #[must_use]
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.run(&format!("systemctl show --value --property {property} {unit}"))
    }

    /// The main process of a service, as it is called there.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn main_pid(&self, service: &str) -> u32 {
        let pid = self.property(service, "MainPID").parse().unwrap();
        assert_ne!(pid, 0, "{service} does not run");
        pid
    }

    /// The main process of a service, as it is called here.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn main_pid_here(&self, service: &str) -> Pid {
        let there = self.main_pid(service).to_string();
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = namespace(&self.leader().to_string());
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let is_it = |pid: &String| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let names = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            names.is_some_and(|names| names.split_whitespace().last() == Some(&there))
                && namespace(pid) == ours
        };
        let mut numbers = processes.filter(|name| name.parse::<u32>().is_ok());
        Pid::from_raw(numbers.find(is_it).unwrap().parse().unwrap())
    }

    /// A file below the `/proc/PID` of a service's main process.
    #[must_use]
    pub fn proc(&self, service: &str, file: &str) -> PathBuf {
        self.path(&format!("/proc/{}/{file}", self.main_pid(service)))
    }

    /// A line of the `/proc/PID/status` of a service's main process.
    ///
    /// # Panics
    /// There is no such line.
    #[must_use]
    pub fn status(&self, service: &str, key: &str) -> String {
        let status = fs::read_to_string(self.proc(service, "status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }
}

fn succeeded(what: &str, output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{what}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}
