//! How the prober is reached: at its socket, or as a child.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, io};

use maglev_ipc::ControllerLink;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{User, getuid};
use tokio::process::{Child, Command};

use super::Fault;

/// The user that the package makes for the prober.
const PROBER_USER: &str = "maglevd-prober";
/// The prober's program.
const PROGRAM: &str = "maglevd-prober";

/// Where the prober is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// Behind this socket.
    Socket(PathBuf),
    /// In this program, which is started as a child.
    Spawn(PathBuf),
}

/// A way to the prober.
pub struct Connection {
    pub link: ControllerLink,
    child: Option<Child>,
}

impl Target {
    /// Reads what `--prober` says: a path, `spawn`, or `spawn:PATH`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("spawn") {
            Some("") => Self::Spawn(beside_us()),
            Some(path) if path.starts_with(':') => Self::Spawn(path[1..].into()),
            _ => Self::Socket(text.into()),
        }
    }

    pub async fn connect(&self, netns: Option<&str>) -> Result<Connection, Fault> {
        match self {
            Self::Socket(path) => connect(&socket_in(path, netns)),
            Self::Spawn(program) => spawn(program, netns),
        }
    }
}

impl Connection {
    /// Ends the child, if there is one, and waits until it is gone. It ends by itself when its link does.
    pub async fn end(self) {
        drop(self.link);
        if let Some(mut child) = self.child {
            // A child that is already gone cannot be killed, which is what is wanted.
            let _ = child.kill().await;
        }
    }
}

/// The program beside our own, or else the one that `PATH` finds.
fn beside_us() -> PathBuf {
    let beside = env::current_exe().ok().map(|us| us.with_file_name(PROGRAM));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PROGRAM.into())
}

/// The socket of the prober in a network namespace: `prober@NAME.sock` beside `prober.sock`.
fn socket_in(path: &Path, netns: Option<&str>) -> PathBuf {
    let Some(netns) = netns else { return path.to_owned() };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}@{netns}.sock"))
}

fn connect(path: &Path) -> Result<Connection, Fault> {
    let failed = |source| Fault::Connect { path: path.to_owned(), source };
    let link = ControllerLink::connect(path).map_err(failed)?;
    let uid = link.peer()?.uid;
    if trusted(uid) { Ok(Connection { link, child: None }) } else { Err(Fault::Stranger(uid)) }
}

/// Whether that user may tell us about health: root (who is systemd, when it made the socket), ourselves, or the
/// prober's own user.
fn trusted(uid: u32) -> bool {
    let prober = || User::from_name(PROBER_USER).ok().flatten();
    uid == 0 || uid == getuid().as_raw() || prober().is_some_and(|user| user.uid.as_raw() == uid)
}

/// Starts the prober with its end of the link as its standard input.
fn spawn(program: &Path, netns: Option<&str>) -> Result<Connection, Fault> {
    let (ours, theirs) = pair()?;
    let mut command = Command::new(program);
    command.arg("--stdin").stdin(Stdio::from(theirs)).kill_on_drop(true);
    // The service manager is ours to speak to.
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    if let Some(netns) = netns {
        command.args(["--netns", netns]);
    }
    let child = command.spawn().map_err(|source| Fault::Spawn { path: program.to_owned(), source })?;
    Ok(Connection { link: ControllerLink::new(ours)?, child: Some(child) })
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_names_a_socket_or_a_program() {
        assert_eq!(Target::parse("/run/p.sock"), Target::Socket("/run/p.sock".into()));
        assert_eq!(Target::parse("spawn:/opt/prober"), Target::Spawn("/opt/prober".into()));
        assert!(matches!(Target::parse("spawn"), Target::Spawn(path) if path.ends_with(PROGRAM)));
        assert_eq!(Target::parse("spawned.sock"), Target::Socket("spawned.sock".into()));
    }

    #[test]
    fn each_network_namespace_has_a_socket_of_its_own() {
        let path = Path::new("/run/vpp-maglev/prober.sock");
        assert_eq!(socket_in(path, None), path);
        assert_eq!(socket_in(path, Some("dataplane")), Path::new("/run/vpp-maglev/prober@dataplane.sock"));
    }
}
