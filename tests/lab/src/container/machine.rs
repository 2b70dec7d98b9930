//! Booting a machine, and ending it.

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
use crate::test_dir::Place;
use crate::{PATIENCE, uninterrupted};

/// Puts itself into each of its arguments up to `--`, and becomes the rest of them.
const JOIN: &str =
    r#"until [ "$1" = -- ]; do echo $$ >"$1/cgroup.procs" || exit; shift; done; shift; exec "$@""#;

/// Of the first version, read-only to a machine unless made its own; without them MemoryMax= and the like are nothing.
const CONTROLLERS: [&str; 6] = ["memory", "pids", "cpu", "cpuacct", "blkio", "devices"];

/// How often to look whether the container has ended while it is to boot.
const LOOK: Duration = Duration::from_secs(1);

/// How many of its last lines a failing test shows of the journal.
const TAIL: &str = "40";

/// A machine that has booted. What it changes in its files is gone when it is dropped, as it is then itself.
///
/// It ends with the thread that has booted it, too, however that ends.
pub struct Machine {
    nspawn: Child,
    leader: Pid,
    place: Place,
    _cgroups: Cgroups,
    _rootfs: Rootfs,
}

impl Machine {
    /// Boots `rootfs`. Each of `shared` is a folder here and where it is there.
    ///
    /// # Panics
    /// It does not boot.
    #[must_use]
    pub fn boot(rootfs: Rootfs, shared: &[(&Path, &str)]) -> Self {
        let machine = Self::start(rootfs, shared, &["--notify-ready=yes", "--boot"]);
        machine.own_controllers();
        machine
    }

    /// Makes a machine of `rootfs` on which nothing runs. Each of `shared` is a folder here and where it is there.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn idle(rootfs: Rootfs, shared: &[(&Path, &str)]) -> Self {
        Self::start(rootfs, shared, &["--as-pid2", "sleep", "infinity"])
    }

    fn start(rootfs: Rootfs, shared: &[(&Path, &str)], payload: &[&str]) -> Self {
        let (place, cgroups) = (Place::new(), Cgroups::new());
        let news = UnixDatagram::bind(place.path("notify")).unwrap();
        let console = File::create(place.path("console")).unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", JOIN, "sh"])
            .args(cgroups.folders())
            // A test that is killed takes its machine along.
            .args(["--", "setpriv", "--pdeathsig", "TERM"])
            .args(["systemd-nspawn", "--quiet", "--volatile=overlay", "--private-network", "--console=pipe"])
            .args([
                "--register=no",
                "--keep-unit",
                "--link-journal=no",
                "--timezone=off",
                "--resolv-conf=off",
            ])
            // As a machine has them, that services may be deprived of them. No module is to be loaded from in there.
            .args(["--capability=all", "--drop-capability=CAP_SYS_MODULE", "--system-call-filter=bpf"])
            .arg(format!("--machine={}", cgroups.name()))
            .arg(format!("--directory={}", rootfs.path().display()))
            .args(shared.iter().map(|(here, there)| format!("--bind={}:{there}", here.display())))
            .args(payload)
            .env("NOTIFY_SOCKET", place.path("notify"))
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console);
        let mut nspawn = command.spawn().unwrap();
        let leader = leader(&mut nspawn, &news).unwrap_or_else(|| {
            // It may have ended already.
            _ = nspawn.kill();
            _ = nspawn.wait();
            panic!("the container does not start:\n{}", fs::read_to_string(place.path("console")).unwrap());
        });
        // What else it has to tell goes nowhere: unread, it would hold nspawn up.
        drop(news);
        Self { nspawn, leader, place, _cgroups: cgroups, _rootfs: rootfs }
    }

    /// The first of its processes, as seen from here.
    #[must_use]
    pub fn leader(&self) -> Pid {
        self.leader
    }

    /// A file of its, as seen from here.
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
            // Where nothing runs, there is no journal either.
            let journal = self.try_run(&format!("journalctl --no-pager -q -n {TAIL} -o short-precise"));
            eprintln!("--- the journal ends with:\n{}", String::from_utf8_lossy(&journal.stdout));
            let console = fs::read_to_string(self.place.path("console")).unwrap_or_default();
            eprintln!("--- the console:\n{console}");
        }
        // Its files are overlays that vanish: there is nothing to end in good order.
        _ = kill(self.leader, Signal::SIGKILL);
        _ = self.nspawn.wait();
    }
}

/// Waits until a container is ready. Returns its first process, or nothing if it never is.
fn leader(nspawn: &mut Child, news: &UnixDatagram) -> Option<Pid> {
    let deadline = Instant::now() + PATIENCE;
    let (mut buffer, mut leader) = ([0; 4096], None);
    news.set_read_timeout(Some(LOOK)).unwrap();
    while Instant::now() < deadline {
        let length = match uninterrupted(|| news.recv(&mut buffer)) {
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
