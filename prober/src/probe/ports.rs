//! The ports that half-open probes are sent from.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// How many: a power of two. A probe whose reset was lost leaves an entry at the server, which a probe from another
/// port does not meet; and where paths are chosen by ports, all of them are probed in turn.
pub const COUNT: u16 = 16;
/// How many blocks are tried.
const ATTEMPTS: usize = 64;

/// A block of ports that are ours: the kernel hands none of them out, and as nobody listens at any, it resets what is
/// sent there.
#[derive(Debug)]
pub struct ReservedPorts {
    first: u16,
    /// Bound, and nothing else, for as long as this lives.
    _held: Vec<Socket>,
}

impl ReservedPorts {
    /// Reserves a block in the range that the kernel takes ports from.
    ///
    /// # Errors
    /// There is no block that is free.
    pub fn reserve() -> io::Result<Self> {
        let mut last = Errno::EADDRINUSE.into();
        for _ in 0..ATTEMPTS {
            match try_to_reserve() {
                Ok(ports) => return Ok(ports),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The lowest; a multiple of [`COUNT`].
    pub const fn first(&self) -> u16 {
        self.first
    }

    /// One of them; all, in turn, for numbers in a row.
    pub const fn pick(&self, number: u32) -> u16 {
        self.first | (number % COUNT as u32) as u16
    }
}

fn try_to_reserve() -> io::Result<ReservedPorts> {
    let chosen = bind(0)?;
    let port = chosen.local_addr()?.as_socket().map_or(0, |address| address.port());
    let first = port & !(COUNT - 1);
    let mut held = vec![chosen];
    for other in (first..=first | (COUNT - 1)).filter(|other| *other != port) {
        held.push(bind(other)?);
    }
    Ok(ReservedPorts { first, _held: held })
}

/// A socket that has this port, of both families where there are two, and does nothing with it.
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
    fn nobody_else_gets_them_and_nobody_answers_there() {
        let ports = ReservedPorts::reserve().unwrap();
        assert_eq!(ports.first() % COUNT, 0);
        for port in (0..COUNT.into()).map(|number| ports.pick(number)) {
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
    fn two_blocks_have_nothing_in_common() {
        let (one, other) = (ReservedPorts::reserve().unwrap(), ReservedPorts::reserve().unwrap());
        assert_ne!(one.first(), other.first());
    }
}
