//! Accepts connections for the gRPC server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, error};

use super::transport::ClientTransport;
use crate::access::{AccessControl, ClientCertificate, Peer};
use crate::config::TlsConfig;
use crate::connection_limit::{ConnectionGuard, ConnectionLimiter, ConnectionOwner};
use crate::listen::{AcceptBackoff, AsyncListener, ClientStream, Listener};

/// Maximum number of connections of each listener.
const MAX_CONNECTIONS: usize = 1024;

/// Descriptors reserved for the rest of the daemon.
const OTHER_DESCRIPTORS: usize = 128;

/// Maximum time until a client speaks HTTP/2, including the TLS handshake.
const OPENING_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepts up to `limit` connections from each listener, in its own task, so that a flood on one does not block the others. Ends
/// with the runtime, or when the stream is dropped.
pub fn incoming(
    listeners: Vec<Listener>,
    limit: usize,
    access: &AccessControl,
) -> ReceiverStream<io::Result<ClientTransport>> {
    let (sender, receiver) = mpsc::channel(1);
    for listener in listeners {
        let door = ConnectionAcceptor {
            connection_limit: ConnectionLimiter::new(limit),
            access: access.clone(),
            sender: sender.clone(),
        };
        tokio::spawn(door.accept_from(listener));
    }
    ReceiverStream::new(receiver)
}

/// Returns the connection limit of each listener, so that none can exhaust the descriptors of the others.
#[must_use]
pub fn limit_per_listener(listeners: usize) -> usize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let share = descriptors.saturating_sub(OTHER_DESCRIPTORS) / listeners.max(1);
    share.clamp(1, MAX_CONNECTIONS)
}

/// Acceptor of one listener.
#[derive(Clone)]
struct ConnectionAcceptor {
    connection_limit: Arc<ConnectionLimiter>,
    access: AccessControl,
    sender: mpsc::Sender<io::Result<ClientTransport>>,
}

impl ConnectionAcceptor {
    async fn accept_from(self, listener: Listener) {
        let listener = match AsyncListener::try_from(listener) {
            Ok(listener) => listener,
            Err(error) => return error!(%error, "cannot accept connections"),
        };
        let mut backoff = AcceptBackoff::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.sender.closed() => return,
            };
            match accepted {
                Ok(stream) => {
                    backoff = AcceptBackoff::default();
                    self.admit(stream);
                }
                Err(error) => backoff.wait(&error).await,
            }
        }
    }

    fn admit(&self, stream: ClientStream) {
        let peer = match &stream {
            ClientStream::Unix(stream) => Peer::of_unix(stream, self.access.accounts()),
            ClientStream::Tcp(stream) => {
                stream.peer_addr().map(|address| Peer::of_tcp(address.ip(), false, None))
            }
        };
        match peer {
            Ok(peer) => {
                let guard = self.connection_limit.take(owner(&peer));
                tokio::spawn(self.clone().open(stream, peer, guard));
            }
            // The client has already disconnected.
            Err(error) => debug!(%error, "cannot read the peer of a connection"),
        }
    }

    async fn open(self, stream: ClientStream, peer: Peer, guard: ConnectionGuard) {
        let evicted = guard.evicted();
        let transport = tokio::select! {
            transport = self.open_transport(stream, peer, guard) => transport,
            () = evicted.cancelled() => return,
        };
        if let Some(transport) = transport {
            // A send fails only after the server has ended.
            let _ = self.sender.send(Ok(transport)).await;
        }
    }

    async fn open_transport(
        &self,
        stream: ClientStream,
        peer: Peer,
        guard: ConnectionGuard,
    ) -> Option<ClientTransport> {
        let deadline = Instant::now() + OPENING_TIMEOUT;
        let tls = self.access.policy().tls.clone();
        let (bytes, peer): (Box<dyn super::transport::Bytes>, _) = match (stream, peer, tls) {
            (ClientStream::Tcp(stream), Peer::Tcp { address, .. }, Some(tls)) => {
                match timeout_at(deadline, accept_tls(stream, &tls)).await {
                    Ok(Ok((stream, certificate))) => {
                        (Box::new(stream), Peer::of_tcp(address, true, certificate))
                    }
                    Ok(Err(error)) => {
                        self.access.log_failed_handshake(address, &error);
                        return None;
                    }
                    Err(_) => return None,
                }
            }
            (stream, peer, _) => (Box::new(stream), peer),
        };
        let who = peer.describe(self.access.accounts()).await;
        Some(ClientTransport::new(bytes, peer, who, guard, deadline))
    }
}

fn owner(peer: &Peer) -> ConnectionOwner {
    match peer {
        Peer::Unix { uid, .. } => ConnectionOwner::User(*uid),
        Peer::Tcp { address, .. } => ConnectionOwner::from(*address),
    }
}

async fn accept_tls(
    stream: TcpStream,
    tls: &TlsConfig,
) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, Option<ClientCertificate>)> {
    let stream = TlsAcceptor::from(Arc::clone(&tls.server)).accept(stream).await?;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().map(ClientCertificate::new);
    Ok((stream, certificate))
}
