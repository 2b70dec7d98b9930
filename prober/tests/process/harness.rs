//! Runs the real binary, with a fake systemd and a fake controller.

use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use maglev_ipc::{Check, CheckId, ProbeKind, ProbeTimeout, ToController, ToProber, VERSION};
use maglev_ipc_link::{ControllerSocket, Error};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Time after which a test fails as stuck, in ms.
const STUCK_MS: u16 = 30_000;

/// Timeout of every probe; shorter than the prober's timeout for a silent controller.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A directory accessible to every user, with a copy of the binary.
pub struct TestDir(tempfile::TempDir);

impl TestDir {
    pub fn new() -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(dir.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
        // Another process copies the file: a program that is open for writing cannot be executed, and a process started by
        // a parallel test would inherit the descriptor.
        let copied =
            Command::new("cp").arg(env!("CARGO_BIN_EXE_maglevd-prober")).arg(dir.binary()).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(dir.binary(), fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn binary(&self) -> PathBuf {
        self.path("maglevd-prober")
    }

    /// Starts the prober by `wrapper`, and waits until it is ready.
    pub fn start(&self, wrapper: &[&str], flags: &[&str]) -> Prober {
        let notify = UnixDatagram::bind(self.path("notify")).unwrap();
        fs::set_permissions(self.path("notify"), fs::Permissions::from_mode(0o777)).unwrap();
        let mut words = wrapper.iter().map(PathBuf::from).chain([self.binary()]);
        let child = Command::new(words.next().unwrap())
            .args(words)
            .arg("--socket")
            .arg(self.path("sock"))
            .args(["--targets", "default,127.0.0.0/8,::1"])
            .args(flags)
            .env("NOTIFY_SOCKET", self.path("notify"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut message = [0; 100];
        wait_for(&notify);
        let length = notify.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1");
        Prober { child, socket: self.path("sock") }
    }

    /// Asserts that the prober fails to start, and returns its error line.
    pub fn start_error(&self, flags: &[&str]) -> String {
        let output = Command::new(self.binary()).args(flags).args(["--log-level", "error"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        stderr.trim_end().to_owned()
    }
}

pub struct Prober {
    pub child: Child,
    socket: PathBuf,
}

impl Prober {
    pub fn connect(&self) -> TestController {
        TestController::greet(ControllerSocket::connect(&self.socket).unwrap())
    }

    pub fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    /// Returns the sorted kinds of the descriptors above standard error, except those inherited from the test's parent.
    pub fn descriptors(&self) -> Vec<String> {
        let inherited = open_files("/proc/self/fd");
        let mut own = open_files(self.proc("fd"));
        own.retain(|target| target.starts_with("anon_inode:") || !inherited.contains(target));
        own.sort();
        own.into_iter().map(|target| target.split(":[").next().unwrap_or_default().to_owned()).collect()
    }

    /// Returns a line of /proc/PID/status.
    pub fn status(&self, name: &str) -> String {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A fake controller.
pub struct TestController(ControllerSocket);

impl TestController {
    /// Exchanges `Hello`.
    pub fn greet(link: ControllerSocket) -> Self {
        let mut controller = Self(link);
        controller.0.send(&ToProber::Hello { version: VERSION, release: "test".into() }).unwrap();
        assert!(matches!(controller.receive(), ToController::Hello { version: VERSION, .. }));
        controller
    }

    /// Returns code and detail of a check's first probe.
    pub fn probe(&mut self, generation: u64, target: IpAddr, probe: ProbeKind) -> String {
        self.send_check(generation, target, probe, TIMEOUT);
        self.outcome(generation)
    }

    /// Sends a set of one check.
    pub fn send_check(&mut self, generation: u64, target: IpAddr, probe: ProbeKind, timeout: Duration) {
        let interval = Duration::from_millis(10);
        let check = Check {
            target,
            source: None,
            timeout: ProbeTimeout::Fixed(timeout),
            fast_interval: interval,
            probe,
        };
        for message in [
            ToProber::Begin { generation },
            ToProber::Checks(vec![(name(generation), interval.into(), check)]),
            ToProber::Commit { generation },
        ] {
            self.0.send(&message).unwrap();
        }
    }

    /// Returns code and detail of the next outcome of the set's check.
    pub fn outcome(&mut self, generation: u64) -> String {
        loop {
            if let ToController::Outcomes(outcomes) = self.receive()
                && let Some(outcome) = outcomes.into_iter().find(|o| o.check == name(generation))
            {
                return format!("{} {}", outcome.code, outcome.detail).trim_end().to_owned();
            }
        }
    }

    fn receive(&mut self) -> ToController {
        loop {
            match self.0.receive() {
                Err(Error::WouldBlock) => wait_for(&self.0),
                result => return result.unwrap(),
            }
        }
    }
}

fn name(generation: u64) -> CheckId {
    CheckId(u32::try_from(generation).unwrap())
}

/// Returns the descriptors of a process above standard error.
fn open_files(directory: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let above = entries.filter(|e| e.file_name().to_str().unwrap().parse::<u32>().unwrap() > 2);
    // The descriptor that read the directory is closed by now.
    above.filter_map(|e| Some(fs::read_link(e.path()).ok()?.to_str()?.to_owned())).collect()
}

fn wait_for(fd: &impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(STUCK_MS)).unwrap(), 1, "the prober is stuck");
}

/// Returns true if this test cannot run here, and prints the line that marks a skipped test.
pub fn skip(name: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIP {name}: needs root");
    }
    !root
}
