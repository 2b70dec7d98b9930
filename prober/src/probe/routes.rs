//! From which address this host would send to another: the checksum of a segment covers both.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rustix::net::connect_unspec;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::filter;

/// A socket per address family by which the kernel is asked. Nothing is ever sent from it, and it hears nothing: it is
/// raw, as the others that are held are, so that it adds nothing to what could be done with them.
#[derive(Debug)]
pub struct SourceLookup {
    v4: Option<Socket>,
    v6: Option<Socket>,
}

impl SourceLookup {
    /// Opens what may be opened. Needs `CAP_NET_RAW`, and only here.
    pub fn open() -> Self {
        Self { v4: open(Domain::IPV4, Protocol::ICMPV4).ok(), v6: open(Domain::IPV6, Protocol::ICMPV6).ok() }
    }

    /// The address from which packets to `target` would be sent now.
    ///
    /// # Errors
    /// There is no way there from this host, or no socket to ask by.
    pub fn source(&self, target: IpAddr) -> io::Result<IpAddr> {
        let socket = if target.is_ipv4() { &self.v4 } else { &self.v6 };
        let socket = socket.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        // A socket that is connected keeps its source when it is connected anew.
        connect_unspec(socket)?;
        socket.connect(&SocketAddr::new(target, 0).into())?;
        let source = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok(source.ip())
    }
}

fn open(domain: Domain, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new_raw(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    let nothing: [SockFilter; 1] = filter::nothing();
    socket.attach_filter(&nothing)?;
    // The kernel copies a packet before it asks the filter, but not for a socket that is connected elsewhere. Where there
    // is no loopback, copies are made until the first question.
    let elsewhere: IpAddr =
        if domain == Domain::IPV4 { [127, 255, 255, 254].into() } else { Ipv6Addr::LOCALHOST.into() };
    let _ = socket.connect(&SocketAddr::new(elsewhere, 0).into());
    Ok(socket)
}
