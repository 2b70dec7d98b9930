//! Connection to the prober: at its socket, or as a child of the spawner.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use maglev_ipc_link::ControllerSocket;
use maglev_sandbox::ServiceUser;
use nix::unistd::getuid;
use tokio::task::spawn_blocking;

use super::transport::SocketTransport;
use super::{ConnectProber, LinkError};
use crate::flags::socket_for_netns;
use crate::spawner::ProberSpawner;

/// Directory of the sockets of installed probers.
const SERVICE_SOCKETS: &str = "/run/vpp-maglev";

/// Connector of the prober.
#[derive(Debug)]
pub enum ProberConnector {
    /// Connects to a socket.
    Socket(PathBuf),
    /// Requests a child from the spawner.
    Spawner(Arc<ProberSpawner>),
}

impl ConnectProber for ProberConnector {
    type Transport = SocketTransport;

    async fn connect(&self, netns: Option<&str>) -> Result<SocketTransport, LinkError> {
        let link = match self {
            Self::Socket(path) => connect(&socket_for_netns(path, netns))?,
            Self::Spawner(spawner) => {
                let (spawner, netns) = (Arc::clone(spawner), netns.map(str::to_owned));
                let started = spawn_blocking(move || spawner.start(netns.as_deref()));
                // Joining fails only when the runtime shuts down.
                ControllerSocket::new(started.await.map_err(|_| LinkError::ShuttingDown)??)?
            }
        };
        Ok(SocketTransport::new(link)?)
    }

    async fn explain(&self, fault: LinkError) -> LinkError {
        let spawner = match (self, &fault) {
            (Self::Spawner(spawner), LinkError::Link(_) | LinkError::Io(_)) => Arc::clone(spawner),
            (Self::Socket(path), LinkError::Link(_) | LinkError::Io(_))
                if path.starts_with(SERVICE_SOCKETS) =>
            {
                return LinkError::Service(Box::new(fault));
            }
            _ => return fault,
        };
        let reason = spawn_blocking(move || spawner.exit_reason()).await;
        reason.ok().flatten().map_or(fault, LinkError::Exited)
    }
}

fn connect(path: &Path) -> Result<ControllerSocket, LinkError> {
    let failed = |source| LinkError::Connect { path: path.to_owned(), source };
    let link = ControllerSocket::connect(path).map_err(failed)?;
    let uid = link.peer()?.uid;
    if is_trusted(uid) { Ok(link) } else { Err(LinkError::UntrustedPeer(uid)) }
}

/// Returns true if the user may report health: root (systemd, if it created the socket), this user, or the prober's.
fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == getuid().as_raw() || ServiceUser::prober().is_some_and(|user| user.uid.as_raw() == uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn closed_link_of_a_service_names_its_log() {
        let explain = async |path: &str| {
            let closed = LinkError::Link(maglev_ipc_link::Error::Closed);
            ProberConnector::Socket(path.into()).explain(closed).await
        };
        let service = explain("/run/vpp-maglev/prober.sock").await;
        assert_eq!(
            service.to_string(),
            "the peer closed the link; the prober's log: journalctl -u 'vpp-maglevd-prober*'"
        );
        assert_eq!(service.label(), Some("lost"));
        assert_eq!(explain("/tmp/prober.sock").await.to_string(), "the peer closed the link");
    }

    #[test]
    fn netns_has_its_own_socket() {
        let path = Path::new("/run/vpp-maglev/prober.sock");
        assert_eq!(socket_for_netns(path, None), path);
        assert_eq!(
            socket_for_netns(path, Some("dataplane")),
            Path::new("/run/vpp-maglev/prober@dataplane.sock")
        );
    }
}
