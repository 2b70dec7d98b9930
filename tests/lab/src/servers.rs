//! Application servers: sites on loopback addresses of one test's own, on one port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use super::http_server::Site;

/// Servers with consecutive addresses.
pub struct Farm {
    /// Them.
    pub sites: Vec<Site>,
}

impl Farm {
    /// Starts so many, at most 200, all of which answer with 200.
    ///
    /// # Panics
    /// There is no room for them.
    #[must_use]
    pub fn new(count: u8) -> Self {
        let subnet = subnet();
        let first = Site::start(SocketAddr::new(host(subnet, 1), 0));
        let port = first.address().port();
        let others = (2..=count).map(|number| Site::start(SocketAddr::new(host(subnet, number), port)));
        Self { sites: [first].into_iter().chain(others).collect() }
    }

    /// The port of all servers.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.sites[0].address().port()
    }

    /// The address of a server, counted from 0, or the one that it would have.
    #[must_use]
    pub fn address(&self, server: u8) -> IpAddr {
        match self.sites[0].address().ip() {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + u32::from(server)).into(),
            v6 @ IpAddr::V6(_) => v6,
        }
    }
}

/// An address of this machine that no other test has.
#[must_use]
pub fn loopback_address() -> IpAddr {
    host(subnet(), 1)
}

/// The middle of 127.x.y.z, which no other test of this process has, and hardly one of another.
fn subnet() -> u16 {
    static MADE: AtomicU16 = AtomicU16::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    // Not 127.0.x.y, where the machine's own servers are.
    0x0100 + ((process::id() as u16).wrapping_mul(61).wrapping_add(number)) % 0xfe00
}

const fn host(subnet: u16, number: u8) -> IpAddr {
    let [x, y] = subnet.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, x, y, number))
}
