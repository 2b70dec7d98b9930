//! Connecting, and whose fault it is when that fails.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use maglev_ipc::{OutcomeCode, RejectReason};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::verdict::Verdict;

/// Starts to connect.
///
/// Without `acknowledge`, the last segment of the handshake is left to the first that carries data. Where none follows,
/// the close that ends the probe sends a reset in its place, so that the server's application never sees the connection.
///
/// # Errors
/// The verdict, when there is one already.
pub fn connect(to: SocketAddr, from: Option<IpAddr>, acknowledge: bool) -> Result<Socket, Verdict> {
    let socket = open(to, from, acknowledge).map_err(|error| local(&error))?;
    match socket.connect(&to.into()) {
        Ok(()) => Ok(socket),
        Err(error) => match errno(&error) {
            Errno::EINPROGRESS | Errno::EINTR => Ok(socket),
            Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::ETIMEDOUT => Err(remote(&error)),
            // All else that connect() says at once, it says without having asked the network: no route, no port, no
            // buffer, no permission.
            _ => Err(local(&error)),
        },
    }
}

/// The verdict on a connection attempt that ended in `error` after it had begun: the network said so, unless the
/// error can only be ours.
pub fn remote(error: &io::Error) -> Verdict {
    match errno(error) {
        Errno::ETIMEDOUT => Verdict::from_code(OutcomeCode::L4Tout),
        Errno::ENOBUFS | Errno::ENOMEM | Errno::EPERM => local(error),
        _ => Verdict::new(OutcomeCode::L4Con, words(error)),
    }
}

/// The verdict on a fault of this host.
pub fn local(error: &io::Error) -> Verdict {
    let detail = match errno(error) {
        Errno::EMFILE | Errno::ENFILE => "out of descriptors",
        Errno::EADDRNOTAVAIL => "out of ports, or no such source address here",
        Errno::ENOBUFS | Errno::ENOMEM | Errno::EAGAIN => "out of buffers",
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => "no route from this host",
        Errno::EACCES | Errno::EPERM => "not permitted on this host",
        // What the route of type `blackhole` gives.
        Errno::EINVAL => "no valid route from this host",
        _ => return Verdict::new(OutcomeCode::Local, error.to_string()),
    };
    Verdict::new(OutcomeCode::Local, detail)
}

/// What an error means, in the words that users read.
pub fn words(error: &io::Error) -> &'static str {
    match errno(error) {
        Errno::ECONNREFUSED => "connection refused",
        Errno::ECONNRESET | Errno::EPIPE => "connection reset",
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::ENONET => "host unreachable",
        Errno::ENETUNREACH => "network unreachable",
        Errno::EACCES => "administratively prohibited",
        Errno::ENOPROTOOPT => "protocol unreachable",
        Errno::ETIMEDOUT => "connection timed out",
        other => other.desc(),
    }
}

/// Whether a target that is allowed can be reached at all.
///
/// # Errors
/// It is a link-local address, and a check has no place for the interface; or an IPv4 address in disguise, which
/// would be probed by the other family's rules.
pub fn reachable(target: IpAddr) -> Result<(), RejectReason> {
    let IpAddr::V6(v6) = target else { return Ok(()) };
    let why = if v6.is_unicast_link_local() {
        "a link-local address names no host without an interface"
    } else if v6.to_ipv4_mapped().is_some() {
        "an IPv4 address is to be written as one"
    } else {
        return Ok(());
    };
    Err(RejectReason::Target(target, why.to_owned()))
}

fn open(to: SocketAddr, from: Option<IpAddr>, acknowledge: bool) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(to), kind, Some(Protocol::TCP))?;
    // Without this, an ICMP error that arrives while connect() still holds the socket is put off to the next
    // retransmission.
    match to {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    // Closing sends a reset: no TIME_WAIT, and the port is free again at once.
    socket.set_linger(Some(Duration::ZERO))?;
    if !acknowledge {
        socket.set_tcp_quickack(false)?;
    }
    if let Some(from) = from {
        // The port is chosen by connect(), which knows the destination, so that one port serves many.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    Ok(socket)
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}
