//! The container image: built from the Dockerfile and run as an engine would, but without an engine.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::dockerfile::{Dockerfile, Step};
use super::machine::Machine;
use super::rootfs::{DebianSpec, Rootfs};
use crate::process::Process;
use crate::programs::program;

/// Docker's default capabilities of a container.
pub const DOCKER: &str = "-all,+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,+setuid,+setfcap,\
                          +setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write";

/// Default `PATH` of images.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image, unpacked on an idle machine.
pub struct Image {
    /// Machine of the image.
    pub machine: Machine,
    /// Parsed Dockerfile.
    pub file: Dockerfile,
}

/// Options for a run of an image.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions<'a> {
    /// Capability bounding set, in `setpriv` syntax.
    pub capabilities: &'a str,
    /// Additional group.
    pub group: u32,
    /// Additional `setpriv` arguments.
    pub more: &'a [&'a str],
    /// True if only volumes and mounts are writable.
    pub read_only: bool,
}

impl Image {
    /// Builds the image from the programs of this build. Each of `shared` is a directory here and its path there.
    ///
    /// # Panics
    /// If a step of the Dockerfile fails.
    #[must_use]
    pub fn build(shared: &[(&Path, &str)]) -> Self {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Dockerfile")).unwrap();
        let file = Dockerfile::parse(&text);
        let (name, packages) = (format!("image-{}", file.suite()), file.packages());
        let debian = DebianSpec { name: &name, suite: file.suite(), packages: &packages };
        let machine = Machine::idle(Rootfs::of(debian), shared);
        for step in file.scripts() {
            match step {
                Step::Run(script) => _ = machine.sh(script),
                Step::Copy { files, directory } => {
                    files.iter().for_each(|file| copy(&machine, file, directory));
                }
            }
        }
        Self { machine, file }
    }

    /// Runs the entry point as process 1 of a container.
    #[must_use]
    pub fn run(&self, run: &RunOptions<'_>) -> Process {
        let mut command = Command::new("nsenter");
        // The container's processes end with the machine, even if this test dies.
        command.args(self.namespaces()).args(["unshare", "--pid", "--fork", "--mount-proc"]);
        if run.read_only {
            command.args(["sh", "-euc", r#"mount -o remount,bind,ro /; exec "$@""#, "sh"]);
        }
        command.args(self.person(run)).args(&self.file.entry);
        Process::spawn(&self.file.entry[0], self.surround(&mut command))
    }

    /// Runs the health check.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn healthcheck(&self, run: &RunOptions<'_>) -> Output {
        let mut command = Command::new("nsenter");
        command.args(self.namespaces()).args(self.person(run)).args(&self.file.healthcheck);
        self.surround(&mut command).stdin(Stdio::null()).output().unwrap()
    }

    fn namespaces(&self) -> Vec<String> {
        let leader = self.machine.leader().to_string();
        ["--target", &leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--"].map(str::to_owned).into()
    }

    fn person(&self, run: &RunOptions<'_>) -> Vec<String> {
        let (user, group) = self.file.user;
        let words = format!(
            "setpriv --reuid {user} --regid {group} --groups {} --inh-caps -all --bounding-set {}",
            run.group, run.capabilities
        );
        words.split(' ').chain(run.more.iter().copied()).map(str::to_owned).collect()
    }

    fn surround<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env_clear().env("PATH", PATH).envs(&self.file.environment)
    }
}

/// Copies a file of the build stage. A release program is replaced by the debug build.
fn copy(machine: &Machine, file: &str, directory: &str) {
    let name = file.strip_prefix("/src/target/release/").expect("a program of the build stage");
    let there = machine.path(&format!("{directory}{name}"));
    fs::copy(program(name).unwrap(), &there).unwrap();
    fs::set_permissions(there, Permissions::from_mode(0o755)).unwrap();
}
