//! How the prober is reached: at its socket, or as a child of the process that starts it.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maglev_ipc::ControllerLink;
use nix::unistd::{User, getuid};
use tokio::task::spawn_blocking;

use super::transport::SocketTransport;
use super::{ConnectProber, LinkError};
use crate::spawner::ProberSpawner;

/// The user that the package makes for the prober.
const PROBER_USER: &str = "maglevd-prober";
/// The prober's program.
const PROGRAM: &str = "maglevd-prober";

/// Where the prober is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProberAddress {
    /// Behind this socket.
    Socket(PathBuf),
    /// In this program, which is started as a child.
    Spawn(PathBuf),
}

/// How the prober is reached.
#[derive(Debug)]
pub enum ProberConnector {
    /// At this socket.
    Socket(PathBuf),
    /// As a child of this process.
    Spawner(Arc<ProberSpawner>),
}

impl ProberAddress {
    /// Reads what `--prober` says: a path, `spawn`, or `spawn:PATH`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("spawn") {
            Some("") => Self::Spawn(beside_us()),
            Some(path) if path.starts_with(':') => Self::Spawn(path[1..].into()),
            _ => Self::Socket(text.into()),
        }
    }
}

impl ConnectProber for ProberConnector {
    type Transport = SocketTransport;

    async fn connect(&self, netns: Option<&str>) -> Result<SocketTransport, LinkError> {
        let link = match self {
            Self::Socket(path) => connect(&socket_in(path, netns))?,
            Self::Spawner(spawner) => {
                let (spawner, netns) = (Arc::clone(spawner), netns.map(str::to_owned));
                let started = spawn_blocking(move || spawner.start(netns.as_deref()));
                // It fails only if the runtime goes down.
                ControllerLink::new(started.await.map_err(|_| LinkError::ShuttingDown)??)?
            }
        };
        Ok(SocketTransport::new(link)?)
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

fn connect(path: &Path) -> Result<ControllerLink, LinkError> {
    let failed = |source| LinkError::Connect { path: path.to_owned(), source };
    let link = ControllerLink::connect(path).map_err(failed)?;
    let uid = link.peer()?.uid;
    if trusted(uid) { Ok(link) } else { Err(LinkError::UntrustedPeer(uid)) }
}

/// Whether that user may tell us about health: root (who is systemd, when it made the socket), ourselves, or the
/// prober's own user.
fn trusted(uid: u32) -> bool {
    let prober = || User::from_name(PROBER_USER).ok().flatten();
    uid == 0 || uid == getuid().as_raw() || prober().is_some_and(|user| user.uid.as_raw() == uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_names_a_socket_or_a_program() {
        assert_eq!(ProberAddress::parse("/run/p.sock"), ProberAddress::Socket("/run/p.sock".into()));
        assert_eq!(ProberAddress::parse("spawn:/opt/prober"), ProberAddress::Spawn("/opt/prober".into()));
        assert!(
            matches!(ProberAddress::parse("spawn"), ProberAddress::Spawn(path) if path.ends_with(PROGRAM))
        );
        assert_eq!(ProberAddress::parse("spawned.sock"), ProberAddress::Socket("spawned.sock".into()));
    }

    #[test]
    fn each_network_namespace_has_a_socket_of_its_own() {
        let path = Path::new("/run/vpp-maglev/prober.sock");
        assert_eq!(socket_in(path, None), path);
        assert_eq!(socket_in(path, Some("dataplane")), Path::new("/run/vpp-maglev/prober@dataplane.sock"));
    }
}
