//! The local ports of half-open probes.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Number of reserved ports, a power of two. If a reset is lost, the server keeps a half-open entry, which a probe from
/// another port does not meet. On multipath routes hashed by port, several ports also probe several paths.
pub const PORT_COUNT: u16 = 16;
/// Number of blocks to try.
const ATTEMPTS: usize = 64;

/// A reserved block of ports: the kernel assigns none of them, and resets what arrives there, as they have no listener.
#[derive(Debug)]
pub struct ReservedPorts {
    first: u16,
    /// Bound sockets, which hold the reservation.
    _sockets: Vec<Socket>,
}

impl ReservedPorts {
    /// Reserves a block in the kernel's ephemeral port range.
    ///
    /// # Errors
    /// No block is free.
    pub fn reserve() -> io::Result<Self> {
        let mut last = Errno::EADDRINUSE.into();
        for _ in 0..ATTEMPTS {
            match try_reserve() {
                Ok(ports) => return Ok(ports),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Returns the lowest port, a multiple of [`PORT_COUNT`].
    pub const fn first(&self) -> u16 {
        self.first
    }

    /// Returns port number `n`, modulo [`PORT_COUNT`].
    pub const fn nth(&self, n: u32) -> u16 {
        self.first | (n % PORT_COUNT as u32) as u16
    }
}

fn try_reserve() -> io::Result<ReservedPorts> {
    let chosen = bind(0)?;
    let port = chosen.local_addr()?.as_socket().map_or(0, |address| address.port());
    let first = port & !(PORT_COUNT - 1);
    let mut sockets = vec![chosen];
    for other in (first..=first | (PORT_COUNT - 1)).filter(|other| *other != port) {
        sockets.push(bind(other)?);
    }
    Ok(ReservedPorts { first, _sockets: sockets })
}

/// Binds a socket to this port, for both families if this host has both.
fn bind(port: u16) -> io::Result<Socket> {
    match Socket::new(Domain::IPV6, Type::STREAM.cloexec(), Some(Protocol::TCP)) {
        Ok(socket) => {
            socket.set_only_v6(false)?;
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
            Ok(socket)
        }
        Err(error) if error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) => {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
            Ok(socket)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn reserved_ports_are_taken_and_closed() {
        let ports = ReservedPorts::reserve().unwrap();
        assert_eq!(ports.first() % PORT_COUNT, 0);
        for port in (0..PORT_COUNT.into()).map(|number| ports.nth(number)) {
            for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()]
            {
                let taken = TcpListener::bind(address).unwrap_err();
                assert_eq!(taken.kind(), io::ErrorKind::AddrInUse, "{address}");
                let refused = TcpStream::connect(address).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{address}");
            }
        }
    }

    #[test]
    fn blocks_are_disjoint() {
        let (one, other) = (ReservedPorts::reserve().unwrap(), ReservedPorts::reserve().unwrap());
        assert_ne!(one.first(), other.first());
    }
}
