//! Listening sockets, from the command line to accepted connections.

use std::fmt;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, lchown};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use maglev_sandbox::service_user;
use nix::errno::Errno;
use nix::unistd::{Gid, geteuid, mkdtemp};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{error, warn};

use crate::connection_limit::{ConnectionGuard, ConnectionLimiter};
use crate::retry::RetryState;

mod inherited;
mod stream;
#[cfg(test)]
mod tests;

pub use inherited::InheritedSockets;
pub use stream::ClientStream;

/// Length of the kernel's accept queue.
const BACKLOG: i32 = 1024;

/// Pause after a failed accept, for example without free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Group of operators, which owns the unix socket, as systemd's does, if root creates it.
const OPERATORS: &str = "maglev-operators";

/// Mode of the unix socket: owner and group.
const SOCKET_MODE: u32 = 0o660;

/// List of TCP addresses, separated by commas: `[::1]:9090,127.0.0.1:9090`. `:9090` is port 9090 of every address.
/// The list may be empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListenAddresses(Vec<ListenAddress>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ListenAddress {
    /// Port of every IPv6 and IPv4 address.
    Every(u16),
    One(SocketAddr),
}

/// Address that cannot be bound, and the reason.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct ListenError {
    address: String,
    reason: String,
    kind: io::ErrorKind,
}

/// Bound socket, usable without a runtime.
#[derive(Debug)]
pub enum Listener {
    /// TCP socket.
    Tcp(net::TcpListener),
    /// Unix socket.
    Unix(unix::UnixListener),
}

/// Bound socket, registered with the runtime.
#[derive(Debug)]
pub enum AsyncListener {
    /// TCP socket.
    Tcp(TcpListener),
    /// Unix socket.
    Unix(UnixListener),
}

/// Accepted connection, which counts towards its listener's limit until dropped.
#[derive(Debug)]
pub struct AcceptedConnection {
    /// Byte stream.
    pub stream: ClientStream,
    /// Entry in the listener's limit.
    pub guard: ConnectionGuard,
}

impl FromStr for ListenAddresses {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, String> {
        let addresses = list.split(',').map(str::trim).filter(|address| !address.is_empty());
        addresses.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(address: &str) -> Result<Self, String> {
        let parsed = match address.strip_prefix(':') {
            Some(port) => port.parse().ok().map(Self::Every),
            None => address.parse().ok().map(Self::One),
        };
        parsed.ok_or_else(|| format!("`{address}` is neither ADDRESS:PORT, [ADDRESS]:PORT nor :PORT"))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(port) => write!(f, ":{port}"),
            Self::One(address) => address.fmt(f),
        }
    }
}

impl ListenAddresses {
    /// Binds all addresses.
    ///
    /// # Errors
    /// The first address that cannot be bound.
    pub fn bind(&self) -> Result<Vec<Listener>, ListenError> {
        self.0.iter().map(|address| bind_tcp(*address).map_err(|e| ListenError::new(address, &e))).collect()
    }
}

impl ListenError {
    fn new(address: &dyn fmt::Display, error: &io::Error) -> Self {
        let reason = match error.raw_os_error() {
            Some(errno) => Errno::from_raw(errno).desc().to_lowercase(),
            None => error.to_string(),
        };
        Self { address: address.to_string(), reason, kind: error.kind() }
    }

    /// Returns true if this user cannot create the file: its directory is missing, or not writable.
    #[must_use]
    pub const fn is_place_missing(&self) -> bool {
        use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
        matches!(self.kind, NotFound | PermissionDenied | ReadOnlyFilesystem)
    }
}

fn bind_tcp(address: ListenAddress) -> io::Result<Listener> {
    let listener = match address {
        ListenAddress::One(address) => bind_socket(address, true)?,
        ListenAddress::Every(port) => match bind_socket((Ipv6Addr::UNSPECIFIED, port).into(), false) {
            // A host without IPv6 still has IPv4 addresses.
            Err(e) if is_no_ipv6(&e) => bind_socket((Ipv4Addr::UNSPECIFIED, port).into(), true)?,
            result => result?,
        },
    };
    Ok(Listener::Tcp(listener))
}

/// Binds one address. `only_v6` keeps `[::]` from taking IPv4 addresses as well.
fn bind_socket(address: SocketAddr, only_v6: bool) -> io::Result<net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

/// Binds a unix socket of mode 0660, and replaces a stale one.
///
/// # Errors
/// The path, and the reason.
pub fn bind_unix(path: &Path) -> Result<Listener, ListenError> {
    check_replaceable(path)
        .and_then(|()| bind_and_rename(path))
        .map_err(|e| ListenError::new(&path.display(), &e))
}

/// Fails if a process listens at `path`, or if `path` is not a socket.
fn check_replaceable(path: &Path) -> io::Result<()> {
    let kind = match path.symlink_metadata() {
        Ok(metadata) => metadata.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !kind.is_socket() {
        return Err(io::Error::other("the file exists and is not a socket"));
    }
    match unix::UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(e) => Err(e),
        Ok(_) => Err(io::Error::other("another process listens there")),
    }
}

/// Sets mode and group in a temporary directory that is this user's alone, so that the socket never has a wider mode, and no
/// other user can put a link in its place. The rename also replaces a stale socket atomically.
fn bind_and_rename(path: &Path) -> io::Result<Listener> {
    let directory = mkdtemp(&PathBuf::from(format!("{}.XXXXXX", path.display())))?;
    let temporary = directory.join("socket");
    let bound = unix::UnixListener::bind(&temporary).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let operators = service_user::group(OPERATORS).filter(|_| geteuid().is_root());
        lchown(&temporary, None, operators.map(Gid::as_raw))?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(SOCKET_MODE))?;
        std::fs::rename(&temporary, path)?;
        Ok(listener)
    });
    // After an error the socket may be there.
    let _ = std::fs::remove_file(&temporary);
    let _ = std::fs::remove_dir(&directory);
    bound.map(Listener::Unix)
}

/// Accepts from each listener in its own task, at most `limit` connections of each at a time. A further one evicts
/// another. Ends with the runtime, or when the stream is dropped.
pub fn accept(listeners: Vec<Listener>, limit: usize) -> ReceiverStream<AcceptedConnection> {
    let (sender, receiver) = mpsc::channel(1);
    for listener in listeners {
        tokio::spawn(accept_from(listener, ConnectionLimiter::new(limit), sender.clone()));
    }
    ReceiverStream::new(receiver)
}

async fn accept_from(
    listener: Listener,
    limiter: Arc<ConnectionLimiter>,
    sender: mpsc::Sender<AcceptedConnection>,
) {
    let acceptor = match AsyncListener::try_from(listener) {
        Ok(acceptor) => acceptor,
        Err(error) => return error!(%error, "cannot accept connections"),
    };
    let mut backoff = AcceptBackoff::default();
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            () = sender.closed() => return,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                backoff.wait(&error).await;
                continue;
            }
        };
        backoff = AcceptBackoff::default();
        // On an error, the client has already disconnected.
        let Ok(owner) = stream.owner() else { continue };
        let guard = limiter.take(owner);
        if sender.send(AcceptedConnection { stream, guard }).await.is_err() {
            return;
        }
    }
}

/// Backoff after accept errors. Each error is logged once while it lasts.
#[derive(Debug, Default)]
pub struct AcceptBackoff(RetryState);

impl AcceptBackoff {
    /// Logs `error` if it is new, and pauses.
    pub async fn wait(&mut self, error: &io::Error) {
        if self.0.is_new_error(&error.to_string()) {
            warn!(%error, "cannot accept a connection, retrying");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

impl TryFrom<Listener> for AsyncListener {
    type Error = io::Error;

    fn try_from(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }
}

impl AsyncListener {
    /// Accepts the next connection.
    ///
    /// # Errors
    /// The system's error. A persistent one, such as EMFILE, recurs at once.
    pub async fn accept(&self) -> io::Result<ClientStream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Replies are whole messages, so Nagle's algorithm would only delay them. On a closed connection this
                // fails, and so will the next read.
                let _ = stream.set_nodelay(true);
                Ok(ClientStream::Tcp(stream))
            }
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| ClientStream::Unix(stream)),
        }
    }
}
