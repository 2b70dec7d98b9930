//! Source address selection: the checksum of a segment covers both addresses, so the source must be known beforehand.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rustix::net::connect_unspec;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::filter;

/// One socket per address family, whose `connect` makes the kernel select a source address. They send and receive nothing.
/// They are raw, like the other sockets of the prober, so that they allow nothing more.
#[derive(Debug)]
pub struct SourceLookup {
    v4: Option<Socket>,
    v6: Option<Socket>,
}

impl SourceLookup {
    /// Opens the permitted sockets. Needs `CAP_NET_RAW`, here only.
    pub fn open() -> Self {
        Self { v4: open(Domain::IPV4, Protocol::ICMPV4).ok(), v6: open(Domain::IPV6, Protocol::ICMPV6).ok() }
    }

    /// Returns the source address that the kernel selects for `target` now.
    ///
    /// # Errors
    /// This host has no route to it, or no socket of its family.
    pub fn source_for(&self, target: IpAddr) -> io::Result<IpAddr> {
        let socket = if target.is_ipv4() { &self.v4 } else { &self.v6 };
        let socket = socket.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        // A connected socket would keep its source address.
        connect_unspec(socket)?;
        socket.connect(&SocketAddr::new(target, 0).into())?;
        let source = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok(source.ip())
    }
}

fn open(domain: Domain, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new_raw(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    let filter: [SockFilter; 1] = filter::reject_all();
    socket.attach_filter(&filter)?;
    // The kernel copies a packet before it runs the filter, but not for a socket connected to another address. Without
    // loopback, it copies until the first lookup.
    let elsewhere: IpAddr =
        if domain == Domain::IPV4 { [127, 255, 255, 254].into() } else { Ipv6Addr::LOCALHOST.into() };
    let _ = socket.connect(&SocketAddr::new(elsewhere, 0).into());
    Ok(socket)
}
