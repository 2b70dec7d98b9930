//! The container image: made by what its Dockerfile says, and run as an engine would, without one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::dockerfile::{Dockerfile, Step};
use super::machine::Machine;
use super::rootfs::{Debian, Rootfs};
use crate::process::Process;
use crate::programs::program;

/// The capabilities that Docker leaves to a container, unless told otherwise.
pub const DOCKER: &str = "-all,+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,+setuid,+setfcap,\
                          +setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write";

/// What programs find in every image.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image, unpacked on a machine of its own on which nothing runs yet.
pub struct Image {
    /// The machine.
    pub machine: Machine,
    /// What it is made by.
    pub file: Dockerfile,
}

/// How an image is run.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The capabilities that it may ever have, in the words of `setpriv`.
    pub capabilities: &'a str,
    /// A group that it is in, beside its own.
    pub group: u32,
    /// More words for `setpriv`.
    pub more: &'a [&'a str],
    /// Whether it may write to nothing but its volumes and what is mounted.
    pub read_only: bool,
}

impl Image {
    /// Makes it of the programs of this build. Each of `shared` is a folder here and where it is there.
    ///
    /// # Panics
    /// A step of the Dockerfile fails.
    #[must_use]
    pub fn build(shared: &[(&Path, &str)]) -> Self {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Dockerfile")).unwrap();
        let file = Dockerfile::parse(&text);
        let (name, packages) = (format!("image-{}", file.suite()), file.packages());
        let debian = Debian { name: &name, suite: file.suite(), packages: &packages };
        let machine = Machine::idle(Rootfs::of(debian), shared);
        for step in file.scripts() {
            match step {
                Step::Run(script) => _ = machine.sh(script),
                Step::Copy { files, folder } => files.iter().for_each(|file| copy(&machine, file, folder)),
            }
        }
        Self { machine, file }
    }

    /// Runs its entry point as process 1 of a container.
    #[must_use]
    pub fn run(&self, run: &Run<'_>) -> Process {
        let mut command = Command::new("nsenter");
        // Its processes go with the machine, whatever becomes of this test.
        command.args(self.namespaces()).args(["unshare", "--pid", "--fork", "--mount-proc"]);
        if run.read_only {
            command.args(["sh", "-euc", r#"mount -o remount,bind,ro /; exec "$@""#, "sh"]);
        }
        command.args(self.person(run)).args(&self.file.entry);
        Process::spawn(&self.file.entry[0], self.surround(&mut command))
    }

    /// Runs its healthcheck.
    ///
    /// # Panics
    /// It cannot be run.
    #[must_use]
    pub fn healthcheck(&self, run: &Run<'_>) -> Output {
        let mut command = Command::new("nsenter");
        command.args(self.namespaces()).args(self.person(run)).args(&self.file.healthcheck);
        self.surround(&mut command).stdin(Stdio::null()).output().unwrap()
    }

    fn namespaces(&self) -> Vec<String> {
        let leader = self.machine.leader().to_string();
        ["--target", &leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--"].map(str::to_owned).into()
    }

    fn person(&self, run: &Run<'_>) -> Vec<String> {
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

/// Puts what a stage has built there. Of a release it is what this build made for debugging.
fn copy(machine: &Machine, file: &str, folder: &str) {
    let name = file.strip_prefix("/src/target/release/").expect("a program that the first stage builds");
    let there = machine.path(&format!("{folder}{name}"));
    fs::copy(program(name).unwrap(), &there).unwrap();
    fs::set_permissions(there, Permissions::from_mode(0o755)).unwrap();
}
