//! TCP connections of probes, and the classification of their errors.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use maglev_ipc::OutcomeCode;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::verdict::Verdict;

/// Starts to connect.
///
/// Without `acknowledge`, the kernel delays the last segment of the handshake until there is data. If there is none, closing
/// the socket sends a reset instead, so the server's application never sees the connection.
///
/// # Errors
/// The verdict, if the probe fails at once.
pub fn connect(to: SocketAddr, from: Option<IpAddr>, acknowledge: bool) -> Result<Socket, Verdict> {
    let socket = open(to, from, acknowledge).map_err(|error| local_fault(&error))?;
    match socket.connect(&to.into()) {
        Ok(()) => Ok(socket),
        Err(error) => match errno(&error) {
            Errno::EINPROGRESS | Errno::EINTR => Ok(socket),
            Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::ETIMEDOUT => Err(connect_failed(&error)),
            // Any other immediate error came without a packet: no route, no port, no buffer, no permission.
            _ => Err(route_fault(&error)),
        },
    }
}

/// Closes a connection by a reset: no TIME_WAIT, and the port is free at once. A connection that the peer has closed needs
/// none, as TIME_WAIT is then the peer's.
pub fn reset(socket: &Socket) {
    // Without it, the connection ends a moment later.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// Returns the verdict on a port that no program listens on.
pub fn refused() -> Verdict {
    connect_failed(&Errno::ECONNREFUSED.into())
}

/// Returns the verdict on a failed connection attempt: a fault of server or network, unless the error can only be local.
pub fn connect_failed(error: &io::Error) -> Verdict {
    match errno(error) {
        Errno::ETIMEDOUT => Verdict::from_code(OutcomeCode::L4Tout),
        Errno::ENOBUFS | Errno::ENOMEM | Errno::EPERM => local_fault(error),
        _ => Verdict::new(OutcomeCode::L4Con, describe(error)),
    }
}

/// Returns true if a socket is connected to itself. A port of this host that nobody listens on accepts a connection if the
/// kernel has chosen the same port as source: the two SYNs cross (RFC 9293 section 3.5).
pub fn is_self_connected(socket: &Socket, to: SocketAddr) -> bool {
    socket.local_addr().ok().and_then(|local| local.as_socket()) == Some(to)
}

/// Returns the verdict on a fault of this host, or of its route to one target.
pub fn local_fault(error: &io::Error) -> Verdict {
    let errno = errno(error);
    // Routes of the types `unreachable` and `prohibit` cause EHOSTUNREACH and EACCES.
    let has_no_route = matches!(errno, Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES);
    let detail = match errno {
        Errno::EMFILE | Errno::ENFILE => "out of descriptors",
        Errno::EADDRNOTAVAIL => "out of ports, or no such source address here",
        Errno::ENOBUFS | Errno::ENOMEM | Errno::EAGAIN => "out of buffers",
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => "no route from this host",
        Errno::EACCES | Errno::EPERM => "not permitted on this host",
        Errno::EINVAL => "no valid route from this host",
        _ => return Verdict::new(OutcomeCode::Local, error.to_string()),
    };
    Verdict { has_no_route, ..Verdict::new(OutcomeCode::Local, detail) }
}

/// Returns the verdict on an error of the kernel's route lookup for one target, with a source address of this host or none.
pub fn route_fault(error: &io::Error) -> Verdict {
    let verdict = local_fault(error);
    // A route of type `blackhole` causes it. A packet with a source address that left this host fails with it as well.
    Verdict { has_no_route: verdict.has_no_route || errno(error) == Errno::EINVAL, ..verdict }
}

/// Describes an error for operators.
pub fn describe(error: &io::Error) -> &'static str {
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

fn open(to: SocketAddr, from: Option<IpAddr>, acknowledge: bool) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(to), kind, Some(Protocol::TCP))?;
    // Without this, an ICMP error that arrives while connect() holds the socket is reported after the next retransmission.
    match to {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    if !acknowledge {
        socket.set_tcp_quickack(false)?;
    }
    if let Some(from) = from {
        // connect(), which knows the destination, chooses the port, so that one port serves several connections.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    Ok(socket)
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_no_route(judge: fn(&io::Error) -> Verdict, errno: Errno) -> bool {
        let verdict = judge(&errno.into());
        assert_eq!(verdict.code, OutcomeCode::Local, "{errno}");
        verdict.has_no_route
    }

    #[test]
    fn port_without_listener_may_connect_to_itself() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = listener.local_addr().unwrap();
        let own = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        own.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let to = own.local_addr().unwrap().as_socket().unwrap();
        own.connect(&to.into()).unwrap();
        assert!(is_self_connected(&own, to));
        let other = connect(elsewhere, None, true).unwrap();
        assert!(!is_self_connected(&other, elsewhere));
    }

    #[test]
    fn only_route_errors_concern_one_target() {
        for errno in [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EACCES] {
            assert!(has_no_route(local_fault, errno) && has_no_route(route_fault, errno), "{errno}");
        }
        for errno in [Errno::EMFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EPERM, Errno::EADDRNOTAVAIL] {
            assert!(!has_no_route(local_fault, errno) && !has_no_route(route_fault, errno), "{errno}");
        }
        assert!(!has_no_route(local_fault, Errno::EINVAL) && has_no_route(route_fault, Errno::EINVAL));
    }
}
