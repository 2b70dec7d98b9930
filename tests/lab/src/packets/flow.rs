//! Flows, and their servers by VPP's Maglev table.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use maglev_core::maglev::table::{self, WeightedServer};

/// A UDP flow.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Flow {
    /// Client address.
    pub from: SocketAddr,
    /// VIP.
    pub to: SocketAddr,
}

/// Many flows to one VIP. They differ in their ports and, over IPv4, in their sources.
#[derive(Clone, Copy, Debug)]
pub struct Flows {
    /// VIP.
    pub to: SocketAddr,
    /// First source port.
    pub port: u16,
    /// Number of ports.
    pub ports: u16,
}

/// Number of IPv4 sources. A prime, so that each source meets each port.
const SOURCES: u32 = 251;
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

impl Flows {
    /// Returns the packet data in the syntax of VPP's packet generator.
    pub(super) fn data(&self) -> String {
        let Self { to, port, ports } = self;
        let (first, last) = (FIRST_SOURCE, Ipv4Addr::from_bits(FIRST_SOURCE.to_bits() + SOURCES - 1));
        let source = if to.is_ipv4() { format!("{first} - {last}") } else { "2001:db8:c::1".to_owned() };
        let ports = format!("{port} - {}", port + ports - 1);
        format!("UDP: {source} -> {} UDP: {ports} -> {} incrementing 8", to.ip(), to.port())
    }
}

impl Flow {
    /// Returns the flow hash of VPP's lb plugin on processors with CRC-32C instructions.
    fn hash(&self) -> u32 {
        let half = |bytes: &[u8]| bytes.iter().rev().fold(0, |word: u64, byte| word << 8 | u64::from(*byte));
        let ports = u64::from(self.from.port().swap_bytes()) << 16 | u64::from(self.to.port().swap_bytes());
        let words = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                [half(&[from.octets(), to.octets()].concat()), ports, 0, 0, 0]
            }
            (from, to) => {
                let (from, to) = (table::address_bytes(from), table::address_bytes(to));
                [half(&from[..8]), half(&from[8..]), half(&to[..8]), half(&to[8..]), ports]
            }
        };
        words.iter().fold(0, |crc, word| crc32c(crc, *word))
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)
    }
}

/// Expected Maglev table for new flows.
pub struct MaglevTable {
    servers: Vec<IpAddr>,
    buckets: Vec<Option<usize>>,
}

impl MaglevTable {
    /// Builds the table of `length` buckets for servers with these weights.
    pub fn new(servers: impl IntoIterator<Item = (IpAddr, u8)>, length: u32) -> Self {
        let (servers, weighted): (Vec<_>, Vec<WeightedServer>) = servers
            .into_iter()
            .map(|(server, weight)| (server, (table::address_bytes(server), weight)))
            .unzip();
        Self { servers, buckets: table::new_flow_table(&weighted, length) }
    }

    /// Returns the server of a new flow.
    #[must_use]
    pub fn server(&self, flow: &Flow) -> Option<IpAddr> {
        let bucket = flow.hash() as usize & (self.buckets.len() - 1);
        self.buckets[bucket].map(|server| self.servers[server])
    }
}

/// Returns the CRC-32C of eight more bytes, without the usual inversions.
fn crc32c(crc: u32, word: u64) -> u32 {
    const POLYNOMIAL: u64 = 0x82f6_3b78;
    let step = |rest: u64, _| (rest >> 1) ^ (POLYNOMIAL & (rest & 1).wrapping_neg());
    (0..64).fold(word ^ u64::from(crc), step) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_matches_rfc_examples() {
        // 32 bytes of zeroes, and of ones (RFC 3720, B.4).
        let zeroes = [0_u64; 4].iter().fold(u32::MAX, |crc, word| crc32c(crc, *word));
        let ones = [u64::MAX; 4].iter().fold(u32::MAX, |crc, word| crc32c(crc, *word));
        assert_eq!((!zeroes, !ones), (0x8a91_36aa, 0x62a8_ab43));
    }
}
