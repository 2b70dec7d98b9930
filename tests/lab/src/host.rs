//! A host: a network namespace.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{process, thread};

use nix::sched::{CloneFlags, setns};

/// The table that a host's filters are in.
const TABLE: &str = "inet lab";

/// A host. It goes when dropped, with its links.
pub struct Host {
    name: String,
}

impl Host {
    /// A new one, whose only interface is loopback. `role` is a part of its name.
    #[must_use]
    pub fn new(role: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let host = Self { name: format!("maglev-{}-{number}-{role}", process::id()) };
        run(&format!("ip netns add {}", host.name));
        host.ip("link set lo up");
        // An address is to be of use at once.
        host.set("ipv6/conf/all/accept_dad", "0");
        host.set("ipv6/conf/default/accept_dad", "0");
        // Every packet that is refused is to be told of, not only one a second.
        host.set("ipv4/icmp_ratelimit", "0");
        host.set("ipv6/icmp/ratelimit", "0");
        host
    }

    /// The name of its network namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs on it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `ip` on it.
    pub fn ip(&self, words: &str) {
        run(&format!("ip -n {} {words}", self.name));
    }

    /// Runs `tc` on it.
    pub fn tc(&self, words: &str) {
        run(&format!("tc -n {} {words}", self.name));
    }

    /// Gives a file below `/proc/sys/net` a new value.
    ///
    /// # Panics
    /// There is no such file.
    pub fn set(&self, key: &str, value: &str) {
        self.inside(|| fs::write(format!("/proc/sys/net/{key}"), value).unwrap());
    }

    /// Adds rules that packets are held against: those that come for this host with `hook` `input`, and those that it
    /// sends with `output`.
    pub fn filter(&self, hook: &str, rules: &[&str]) {
        let mut script = format!("add table {TABLE}\n");
        // Writing to a string does not fail.
        _ = writeln!(script, "add chain {TABLE} {hook} {{ type filter hook {hook} priority 0; }}");
        for rule in rules {
            _ = writeln!(script, "add rule {TABLE} {hook} {rule}");
        }
        self.nft(&script);
    }

    /// Takes all filters away.
    pub fn unfilter(&self) {
        self.nft(&format!("delete table {TABLE}\n"));
    }

    /// Runs a script of nftables.
    ///
    /// # Panics
    /// It is wrong.
    pub fn nft(&self, script: &str) {
        let mut nft = self.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{script}");
    }

    /// Does something in its network: sockets that `work` makes, and threads that it starts, belong there.
    ///
    /// # Panics
    /// `work` does, or its network cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(Path::new("/run/netns").join(&self.name).as_path(), work)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Nothing more can be done about a namespace that does not go.
        _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Does something in a network namespace: sockets that `work` makes, and threads that it starts, belong there.
///
/// # Panics
/// `work` does, or the namespace cannot be entered.
pub(crate) fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(enter).join().unwrap())
}

/// Runs a command, which is to succeed.
pub(super) fn run(line: &str) {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}
