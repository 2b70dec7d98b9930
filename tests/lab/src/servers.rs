//! HTTP servers on loopback addresses of one test, all on one port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use super::http_server::HttpServer;

/// Servers with consecutive addresses.
pub struct Servers {
    /// The servers.
    pub http: Vec<HttpServer>,
}

impl Servers {
    /// Starts `count` servers, at most 200, all of which answer 200.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn new(count: u8) -> Self {
        let subnet = subnet();
        let first = HttpServer::start(SocketAddr::new(host(subnet, 1), 0));
        let port = first.address().port();
        let others = (2..=count).map(|number| HttpServer::start(SocketAddr::new(host(subnet, number), port)));
        Self { http: [first].into_iter().chain(others).collect() }
    }

    /// Returns the port of all servers.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.http[0].address().port()
    }

    /// Returns the address of server `server`, counted from 0, even if it does not exist.
    #[must_use]
    pub fn address(&self, server: u8) -> IpAddr {
        match self.http[0].address().ip() {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + u32::from(server)).into(),
            v6 @ IpAddr::V6(_) => v6,
        }
    }
}

/// Returns a loopback address that no other test uses.
#[must_use]
pub fn loopback_address() -> IpAddr {
    host(subnet(), 1)
}

/// Returns the middle octets of 127.x.y.z, unique in this process and probably among processes.
fn subnet() -> u16 {
    static MADE: AtomicU16 = AtomicU16::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    // 127.0.x.y belongs to the machine's own servers.
    0x0100 + ((process::id() as u16).wrapping_mul(61).wrapping_add(number)) % 0xfe00
}

const fn host(subnet: u16, number: u8) -> IpAddr {
    let [x, y] = subnet.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, x, y, number))
}
