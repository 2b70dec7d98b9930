//! Packets from VPP towards the servers, read from a pcap file.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::flow::Flow;

/// A GRE packet on its way to a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CapturedPacket {
    /// Outer source address: the load balancer.
    pub balancer: IpAddr,
    /// Outer destination address.
    pub server: IpAddr,
    /// Flow of the inner packet.
    pub flow: Flow,
}

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// Offset of the length in a record header.
const LENGTH: usize = 8;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
const GRE: u8 = 47;

/// Returns the GRE packets in the file, in the order sent.
///
/// # Panics
/// If the file is missing or a GRE packet is malformed.
#[must_use]
pub fn read(path: &Path) -> Vec<CapturedPacket> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut rest = bytes.get(FILE_HEADER..).unwrap_or_default();
    let mut packets = Vec::new();
    while let Some((header, tail)) = rest.split_at_checked(RECORD_HEADER) {
        let length = u32::from_le_bytes(header[LENGTH..LENGTH + 4].try_into().unwrap());
        let (frame, tail) = tail.split_at(length as usize);
        packets.extend(packet(frame));
        rest = tail;
    }
    packets
}

fn packet(frame: &[u8]) -> Option<CapturedPacket> {
    let (ethernet, outer) = frame.split_at(14);
    let outer = IpHeader::parse(word(&ethernet[12..]), outer)?;
    if outer.protocol != GRE {
        return None;
    }
    let (flags, protocol) = (word(outer.payload), word(&outer.payload[2..]));
    let inner =
        IpHeader::parse(protocol, &outer.payload[4..]).filter(|inner| flags == 0 && inner.protocol == UDP);
    let inner = inner.unwrap_or_else(|| panic!("unexpected payload in GRE: {frame:02x?}"));
    let flow = Flow {
        from: SocketAddr::new(inner.source, word(inner.payload)),
        to: SocketAddr::new(inner.destination, word(&inner.payload[2..])),
    };
    Some(CapturedPacket { balancer: outer.source, server: outer.destination, flow })
}

struct IpHeader<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    payload: &'a [u8],
}

impl<'a> IpHeader<'a> {
    fn parse(ethertype: u16, bytes: &'a [u8]) -> Option<Self> {
        match ethertype {
            IPV4 => {
                let address = |at: usize| {
                    let octets: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
                    IpAddr::from(Ipv4Addr::from(octets))
                };
                let header = usize::from(bytes[0] & 0x0f) * 4;
                let payload = &bytes[header..];
                Some(Self { source: address(12), destination: address(16), protocol: bytes[9], payload })
            }
            IPV6 => {
                let address = |at: usize| {
                    let octets: [u8; 16] = bytes[at..at + 16].try_into().unwrap();
                    IpAddr::from(Ipv6Addr::from(octets))
                };
                let payload = &bytes[40..];
                Some(Self { source: address(8), destination: address(24), protocol: bytes[6], payload })
            }
            _ => None,
        }
    }
}

fn word(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}
