//! A host, which is a network namespace.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{process, thread};

use nix::sched::{CloneFlags, setns};

use super::PATIENCE;

/// nftables table of a host's filters.
const TABLE: &str = "inet lab";

/// A host. Drop removes it with its links.
pub struct Host {
    name: String,
}

impl Host {
    /// Creates a host with a loopback interface. `role` becomes part of its name.
    #[must_use]
    pub fn new(role: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let host = Self { name: format!("maglev-{}-{number}-{role}", process::id()) };
        run(&format!("ip netns add {}", host.name));
        host.ip("link set lo up");
        // Addresses are usable without duplicate address detection.
        host.set("ipv6/conf/all/accept_dad", "0");
        host.set("ipv6/conf/default/accept_dad", "0");
        // Every rejected packet must cause an ICMP error, without a rate limit.
        host.set("ipv4/icmp_ratelimit", "0");
        host.set("ipv6/icmp/ratelimit", "0");
        host
    }

    /// Returns the name of the network namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a command that runs on this host.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `ip` on this host.
    pub fn ip(&self, words: &str) {
        run(&format!("ip -n {} {words}", self.name));
    }

    /// Runs `tc` on this host.
    pub fn tc(&self, words: &str) {
        run(&format!("tc -n {} {words}", self.name));
    }

    /// Writes a file below `/proc/sys/net`.
    ///
    /// # Panics
    /// If that fails.
    pub fn set(&self, key: &str, value: &str) {
        self.inside(|| fs::write(format!("/proc/sys/net/{key}"), value).unwrap());
    }

    /// Adds filter rules: for received packets if `hook` is `input`, for sent ones if it is `output`.
    pub fn filter(&self, hook: &str, rules: &[&str]) {
        let mut script = format!("add table {TABLE}\n");
        // Writing to a string cannot fail.
        _ = writeln!(script, "add chain {TABLE} {hook} {{ type filter hook {hook} priority 0; }}");
        for rule in rules {
            _ = writeln!(script, "add rule {TABLE} {hook} {rule}");
        }
        self.nft(&script);
    }

    /// Removes all filters.
    pub fn remove_filters(&self) {
        self.nft(&format!("delete table {TABLE}\n"));
    }

    /// Runs an nftables script.
    ///
    /// # Panics
    /// If that fails.
    pub fn nft(&self, script: &str) {
        let mut nft = self.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{script}");
    }

    /// Runs `work` in this host's network namespace. Sockets and threads that it creates belong to that namespace.
    ///
    /// # Panics
    /// If `work` panics or the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(Path::new("/run/netns").join(&self.name).as_path(), work)
    }

    /// Waits until a server listens on `port` of 127.0.0.1.
    ///
    /// # Panics
    /// If none does in time.
    pub fn wait_until_open(&self, port: u16) {
        let deadline = Instant::now() + PATIENCE;
        self.inside(|| {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                assert!(Instant::now() < deadline, "no server listens on port {port}");
                thread::sleep(Duration::from_millis(10));
            }
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A failure to remove the namespace is ignored.
        _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Runs `work` in a network namespace. Sockets and threads that it creates belong to that namespace.
///
/// # Panics
/// If `work` panics or the namespace cannot be entered.
pub(crate) fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(enter).join().unwrap())
}

/// Runs a command, which must succeed.
pub(super) fn run(line: &str) {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}
