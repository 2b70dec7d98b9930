//! Boot and shutdown of a machine.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroups::Cgroups;
use super::rootfs::Rootfs;
use crate::test_dir::TestDir;
use crate::{PATIENCE, uninterrupted};

/// Script that joins the groups given before `--` and executes the rest.
const JOIN_GROUPS: &str =
    r#"until [ "$1" = -- ]; do echo $$ >"$1/cgroup.procs" || exit; shift; done; shift; exec "$@""#;

/// Version 1 controllers. They are read-only in a machine unless remounted, which MemoryMax= and similar settings need.
const CONTROLLERS: [&str; 6] = ["memory", "pids", "cpu", "cpuacct", "blkio", "devices"];

/// Interval of checks for an early exit during boot.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Number of journal lines that a failing test prints.
const TAIL: &str = "40";

/// A booted machine. Drop kills it and discards its file changes.
///
/// It also ends with the thread that booted it.
pub struct Machine {
    nspawn: Child,
    leader: Pid,
    dir: TestDir,
    _cgroups: Cgroups,
    _rootfs: Rootfs,
}

impl Machine {
    /// Boots `rootfs`. Each of `shared` is a directory here and its path there.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn boot(rootfs: Rootfs, shared: &[(&Path, &str)]) -> Self {
        let machine = Self::start(rootfs, shared, &["--notify-ready=yes", "--boot"]);
        machine.own_controllers();
        machine
    }

    /// Starts an idle machine from `rootfs`. Each of `shared` is a directory here and its path there.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn idle(rootfs: Rootfs, shared: &[(&Path, &str)]) -> Self {
        Self::start(rootfs, shared, &["--as-pid2", "sleep", "infinity"])
    }

    fn start(rootfs: Rootfs, shared: &[(&Path, &str)], payload: &[&str]) -> Self {
        let (dir, cgroups) = (TestDir::new(), Cgroups::new());
        let notify = UnixDatagram::bind(dir.path("notify")).unwrap();
        let console = File::create(dir.path("console")).unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", JOIN_GROUPS, "sh"])
            .args(cgroups.directories())
            // The machine ends with a killed test.
            .args(["--", "setpriv", "--pdeathsig", "TERM"])
            .args(["systemd-nspawn", "--quiet", "--volatile=overlay", "--private-network", "--console=pipe"])
            .args([
                "--register=no",
                "--keep-unit",
                "--link-journal=no",
                "--timezone=off",
                "--resolv-conf=off",
            ])
            // All capabilities, like a real machine, so that services can drop them. Kernel modules must not be loaded from
            // inside.
            .args(["--capability=all", "--drop-capability=CAP_SYS_MODULE", "--system-call-filter=bpf"])
            .arg(format!("--machine={}", cgroups.name()))
            .arg(format!("--directory={}", rootfs.path().display()))
            .args(shared.iter().map(|(here, there)| format!("--bind={}:{there}", here.display())))
            .args(payload)
            .env("NOTIFY_SOCKET", dir.path("notify"))
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console);
        let mut nspawn = command.spawn().unwrap();
        let leader = leader(&mut nspawn, &notify).unwrap_or_else(|| {
            // The process may have exited already.
            _ = nspawn.kill();
            _ = nspawn.wait();
            panic!("the container does not start:\n{}", fs::read_to_string(dir.path("console")).unwrap());
        });
        // Closed, because nspawn would block on unread notifications.
        drop(notify);
        Self { nspawn, leader, dir, _cgroups: cgroups, _rootfs: rootfs }
    }

    /// Returns the machine's first process in the test's PID namespace.
    #[must_use]
    pub fn leader(&self) -> Pid {
        self.leader
    }

    /// Returns the path of a machine's file in the test's mount namespace.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.leader))
    }

    fn own_controllers(&self) {
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", self.leader)).unwrap();
        let is_mounted = |controller: &str| {
            mounts.lines().any(|line| line.starts_with(&format!("cgroup /sys/fs/cgroup/{controller} ")))
        };
        let controllers: Vec<_> = CONTROLLERS.into_iter().filter(|it| is_mounted(it)).collect();
        for controller in &controllers {
            self.run(&format!("mount -o remount,bind,rw /sys/fs/cgroup/{controller}"));
        }
        if !controllers.is_empty() {
            self.run("systemctl daemon-reexec");
        }
        self.run("systemctl is-system-running --wait");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            // An idle machine has no journal.
            let journal = self.try_run(&format!("journalctl --no-pager -q -n {TAIL} -o short-precise"));
            eprintln!("--- end of the journal:\n{}", String::from_utf8_lossy(&journal.stdout));
            let console = fs::read_to_string(self.dir.path("console")).unwrap_or_default();
            eprintln!("--- console:\n{console}");
        }
        // The files are temporary overlays, so no clean shutdown is needed.
        _ = kill(self.leader, Signal::SIGKILL);
        _ = self.nspawn.wait();
    }
}

/// Waits until a container is ready. Returns its first process, or `None` if the container fails.
fn leader(nspawn: &mut Child, notify: &UnixDatagram) -> Option<Pid> {
    let deadline = Instant::now() + PATIENCE;
    let (mut buffer, mut leader) = ([0; 4096], None);
    notify.set_read_timeout(Some(POLL_INTERVAL)).unwrap();
    while Instant::now() < deadline {
        let length = match uninterrupted(|| notify.recv(&mut buffer)) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => match nspawn.try_wait().unwrap() {
                Some(_) => return None,
                None => continue,
            },
            Err(error) => panic!("{error}"),
        };
        let text = String::from_utf8_lossy(&buffer[..length]);
        let pid = text.lines().find_map(|line| line.strip_prefix("X_NSPAWN_LEADER_PID="));
        leader = pid.map(|pid| Pid::from_raw(pid.parse().unwrap())).or(leader);
        if text.lines().any(|line| line == "READY=1") {
            return leader;
        }
    }
    None
}
