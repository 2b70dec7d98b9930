//! Files and sockets of a test.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::geteuid;
use tempfile::TempDir;

use super::host::Host;
use super::process::Process;
use crate::programs::program;

/// Targets of probers in tests: the default and loopback addresses.
pub const LOOPBACK_TOO: &str = "default,127.0.0.0/8,::1";

/// User id of `nobody`.
const NOBODY: u32 = 65534;

/// A temporary directory of one test. Removed on drop.
pub struct TestDir(TempDir);

impl TestDir {
    /// Creates a directory that every user can enter.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it has side effects")]
    pub fn new() -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(dir.0.path(), Permissions::from_mode(0o755)).unwrap();
        dir
    }

    /// Returns the path of `name` in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file.
    ///
    /// # Panics
    /// If that fails.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Starts the prober at `prober.sock`, optionally on `host`, as the test's user.
    #[must_use]
    pub fn prober(&self, host: Option<&Host>, flags: &[&str]) -> Process {
        self.wrapped_prober(host, &[], flags)
    }

    /// Same as [`Self::prober`], through `wrapper`.
    #[must_use]
    pub fn wrapped_prober(&self, host: Option<&Host>, wrapper: &[&str], flags: &[&str]) -> Process {
        let prober = program("maglevd-prober").unwrap();
        let mut command = match host {
            Some(host) => host.command("env"),
            None => Command::new("env"),
        };
        command.args(wrapper).arg(prober).arg("--socket").arg(self.path("prober.sock"));
        // The servers of most tests have loopback addresses.
        command.args(["--targets", LOOPBACK_TOO]).args(flags);
        ready(&mut command)
    }

    /// Starts the prober at `prober.sock` on `host`, through `wrapper`, as `nobody` with only `CAP_NET_RAW`. Needs root.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn unprivileged_prober(&self, host: &Host, wrapper: &[&str]) -> Process {
        assert!(geteuid().is_root());
        chown(self.0.path(), Some(NOBODY), None).unwrap();
        // `nobody` may have no access to the build directory. `cp` writes the copy: a program open for writing cannot be
        // executed, and a process that another test forks now would inherit our descriptor.
        let prober = self.path("maglevd-prober");
        let copied =
            Command::new("cp").arg(program("maglevd-prober").unwrap()).arg(&prober).status().unwrap();
        assert!(copied.success());
        let mut command = host.command("setpriv");
        command
            .args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"])
            .args(["--inh-caps", "-all,+net_raw", "--ambient-caps", "-all,+net_raw"])
            .args(["--bounding-set", "-all,+net_raw"])
            .args(wrapper)
            .arg(prober)
            .args(["--targets", LOOPBACK_TOO, "--socket"])
            .arg(self.path("prober.sock"));
        ready(&mut command)
    }
}

fn ready(command: &mut Command) -> Process {
    let prober = Process::spawn("maglevd-prober", command);
    prober.line(0, "ready version=");
    prober
}
