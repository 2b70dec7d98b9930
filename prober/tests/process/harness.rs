//! Runs the real binary, and plays systemd and the controller to it.

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

/// How long a test waits before it calls the prober stuck.
const STUCK: u16 = 30_000;

/// The time-out of every probe: less than the silence that the prober bears.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A place that every user can reach, with a copy of the binary in it.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
        // Another process copies, as a program that is open for writing cannot be run, and whatever another test starts
        // at this moment would inherit our descriptor.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_maglevd-prober"))
            .arg(place.binary())
            .status()
            .unwrap();
        assert!(copied.success());
        fs::set_permissions(place.binary(), fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn binary(&self) -> PathBuf {
        self.path("maglevd-prober")
    }

    /// The prober, started by `wrapper`, listening, and ready.
    pub fn start(&self, wrapper: &[&str], flags: &[&str]) -> Prober {
        let notify = UnixDatagram::bind(self.path("notify")).unwrap();
        fs::set_permissions(self.path("notify"), fs::Permissions::from_mode(0o777)).unwrap();
        let mut words = wrapper.iter().map(PathBuf::from).chain([self.binary()]);
        let child = Command::new(words.next().unwrap())
            .args(words)
            .arg("--socket")
            .arg(self.path("sock"))
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

    /// Asserts that the prober refuses to start, and returns the line in which it says why.
    pub fn refusal(&self, flags: &[&str]) -> String {
        let output = Command::new(self.binary()).args(flags).args(["--log-level", "error"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        said.trim_end().to_owned()
    }
}

pub struct Prober {
    pub child: Child,
    socket: PathBuf,
}

impl Prober {
    pub fn connect(&self) -> Controller {
        Controller::greet(ControllerSocket::connect(&self.socket).unwrap())
    }

    pub fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    /// The kinds of the descriptors above standard error, sorted, without those that the test's own parent left to
    /// all of us.
    pub fn descriptors(&self) -> Vec<String> {
        let inherited = open_files("/proc/self/fd");
        let mut own = open_files(self.proc("fd"));
        own.retain(|target| target.starts_with("anon_inode:") || !inherited.contains(target));
        own.sort();
        own.into_iter().map(|target| target.split(":[").next().unwrap_or_default().to_owned()).collect()
    }

    /// A line of /proc/PID/status.
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

pub struct Controller(ControllerSocket);

impl Controller {
    /// Says Hello and hears it.
    pub fn greet(link: ControllerSocket) -> Self {
        let mut controller = Self(link);
        controller.0.send(&ToProber::Hello { version: VERSION, release: "test".into() }).unwrap();
        assert!(matches!(controller.receive(), ToController::Hello { version: VERSION, .. }));
        controller
    }

    /// What the first probe of a check comes to, as code and detail.
    pub fn probe(&mut self, generation: u64, target: IpAddr, probe: ProbeKind) -> String {
        self.ask(generation, target, probe, TIMEOUT);
        self.outcome(generation)
    }

    /// Sends a set of one check.
    pub fn ask(&mut self, generation: u64, target: IpAddr, probe: ProbeKind, timeout: Duration) {
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

    /// The next outcome of the check of that set, as code and detail.
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

/// What descriptors a process has above standard error.
fn open_files(directory: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let above = entries.filter(|e| e.file_name().to_str().unwrap().parse::<u32>().unwrap() > 2);
    // The one that reads the directory is gone again.
    above.filter_map(|e| Some(fs::read_link(e.path()).ok()?.to_str()?.to_owned())).collect()
}

fn wait_for(fd: &impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(STUCK)).unwrap(), 1, "the prober is stuck");
}

/// Whether this test cannot run here; says so in the form in which skipped tests are counted.
pub fn skip(name: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIP {name}: needs root");
    }
    !root
}
