//! A packet in transit, and modifications of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Length of the Ethernet header.
const ETHERNET: usize = 14;
const V4: [u8; 2] = [0x08, 0x00];
const V6: [u8; 2] = [0x86, 0xdd];
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMP6: u8 = 58;
/// ICMPv6 types of neighbour discovery, router discovery and multicast listeners.
const NEIGHBOURS: std::ops::RangeInclusive<u8> = 130..=143;

/// A frame that leaves the link.
#[derive(Clone, Debug)]
pub struct SentFrame {
    /// Delay after the packet that caused it.
    pub after: Duration,
    /// True if it returns to the sender.
    pub back: bool,
    /// Complete frame.
    pub frame: Vec<u8>,
}

/// An IP packet in its frame.
#[derive(Clone, Debug)]
pub struct Packet {
    frame: Vec<u8>,
    /// True if it goes from the prober's host to the server's.
    pub is_request: bool,
    /// Source address.
    pub from: IpAddr,
    /// Destination address.
    pub to: IpAddr,
    protocol: u8,
    /// Offset of the IP payload in the frame.
    payload: usize,
}

impl Packet {
    /// Parses `frame`. Returns `None` for other protocols and for neighbour discovery.
    pub(super) fn read(frame: &[u8], is_request: bool) -> Option<Self> {
        let ip = frame.get(ETHERNET..)?;
        let (from, to, protocol, header): (IpAddr, IpAddr, u8, usize) = match frame.get(12..14)? {
            kind if kind == V4 => {
                let address = |at: usize| Some(Ipv4Addr::from(*ip.get(at..)?.first_chunk()?).into());
                (address(12)?, address(16)?, *ip.get(9)?, usize::from(ip.first()? & 15) * 4)
            }
            kind if kind == V6 => {
                let address = |at: usize| Some(Ipv6Addr::from(*ip.get(at..)?.first_chunk()?).into());
                (address(8)?, address(24)?, *ip.get(6)?, 40)
            }
            _ => return None,
        };
        let first = *ip.get(header)?;
        if ![ICMP, TCP, ICMP6].contains(&protocol) || protocol == ICMP6 && NEIGHBOURS.contains(&first) {
            return None;
        }
        Some(Self { frame: frame.to_vec(), is_request, from, to, protocol, payload: ETHERNET + header })
    }

    /// Returns its address on the server's side.
    #[must_use]
    pub const fn server(&self) -> IpAddr {
        if self.is_request { self.to } else { self.from }
    }

    /// Returns the IP payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.frame[self.payload..]
    }

    /// True for an echo request.
    #[must_use]
    pub fn is_echo(&self) -> bool {
        matches!((self.protocol, self.payload()[0]), (ICMP, 8) | (ICMP6, 128))
    }

    /// True for an echo reply.
    #[must_use]
    pub fn is_echo_reply(&self) -> bool {
        matches!((self.protocol, self.payload()[0]), (ICMP, 0) | (ICMP6, 129))
    }

    /// True for a TCP segment with exactly these of SYN, RST and ACK.
    #[must_use]
    pub fn is_segment(&self, flags: u8) -> bool {
        self.protocol == TCP && self.payload().get(13).is_some_and(|found| found & 0x16 == flags)
    }

    /// Forwards the packet unchanged.
    #[must_use]
    pub fn forward(&self) -> SentFrame {
        self.delay(Duration::ZERO)
    }

    /// Forwards the packet after a delay.
    #[must_use]
    pub fn delay(&self, after: Duration) -> SentFrame {
        SentFrame { after, back: false, frame: self.frame.clone() }
    }

    /// Forwards the packet with flipped bits in one payload byte, `at` modulo the length. Checksums stay as they were.
    #[must_use]
    pub fn corrupt(&self, at: usize, random: &mut fastrand::Rng) -> SentFrame {
        let mut sent = self.forward();
        sent.frame[self.payload + at % self.payload().len()] ^= random.u8(1..);
        sent
    }

    /// Forwards the packet with a payload modified by `change` and valid checksums.
    #[must_use]
    pub fn modify(&self, change: impl FnOnce(&mut Vec<u8>)) -> SentFrame {
        let mut payload = self.payload().to_vec();
        change(&mut payload);
        self.rebuild(self.protocol, &payload)
    }

    /// Forwards the packet with another source address.
    #[must_use]
    pub fn with_source(&self, from: IpAddr) -> SentFrame {
        Self { from, ..self.clone() }.rebuild(self.protocol, self.payload())
    }

    /// Returns an ICMP error from `from` to the sender, with this type and code. The error contains the packet as modified by
    /// `quoted`.
    #[must_use]
    pub fn icmp_error(
        &self,
        from: IpAddr,
        [kind, code]: [u8; 2],
        quoted: impl FnOnce(&mut Vec<u8>),
    ) -> SentFrame {
        let mut quote = self.frame[ETHERNET..].to_vec();
        quoted(&mut quote);
        let message = [&[kind, code, 0, 0, 0, 0, 0, 0][..], &quote].concat();
        let protocol = if self.from.is_ipv4() { ICMP } else { ICMP6 };
        let mut back = Self { from, to: self.from, ..self.clone() };
        let (to, rest) = back.frame.split_at_mut(6);
        to.swap_with_slice(&mut rest[..6]);
        SentFrame { back: true, ..back.rebuild(protocol, &message) }
    }

    /// Returns the packet in fragments, as for a path with a small MTU. IPv4 only.
    #[must_use]
    pub fn fragments(&self, length: usize) -> Vec<SentFrame> {
        let count = self.payload().len().div_ceil(length);
        let pieces = self.payload().chunks(length).enumerate().map(|(index, piece)| {
            let mut ip = self.frame[ETHERNET..self.payload].to_vec();
            let more = if index + 1 < count { 0x2000 } else { 0 };
            let offset = u16::try_from(index * length / 8).unwrap() | more;
            ip[6..8].copy_from_slice(&offset.to_be_bytes());
            self.with_ip(&with_length(ip, piece.len()), piece)
        });
        pieces.collect()
    }

    /// Forwards the packet with no-op options in its IPv4 header.
    #[must_use]
    pub fn with_options(&self) -> SentFrame {
        const NOTHING: [u8; 8] = [1; 8];
        let mut ip = self.frame[ETHERNET..self.payload].to_vec();
        ip[0] += NOTHING.len() as u8 / 4;
        ip.extend(NOTHING);
        self.with_ip(&with_length(ip, self.payload().len()), self.payload())
    }

    fn rebuild(&self, protocol: u8, payload: &[u8]) -> SentFrame {
        let mut payload = payload.to_vec();
        let at = match protocol {
            TCP => 16,
            _ => 2,
        };
        payload[at..at + 2].fill(0);
        let sum = match (protocol, self.from, self.to) {
            (ICMP, ..) => sum(&[&payload]),
            (_, IpAddr::V4(from), IpAddr::V4(to)) => pseudo(&from.octets(), &to.octets(), protocol, &payload),
            (_, IpAddr::V6(from), IpAddr::V6(to)) => pseudo(&from.octets(), &to.octets(), protocol, &payload),
            _ => panic!("{} and {} are of different families", self.from, self.to),
        };
        payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let header = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let fixed = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
                with_length([&fixed[..], &from.octets(), &to.octets()].concat(), payload.len())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
                let fixed = [0x60, 0, 0, 0, high, low, protocol, 64];
                [&fixed[..], &from.octets(), &to.octets()].concat()
            }
            _ => panic!("{} and {} are of different families", self.from, self.to),
        };
        self.with_ip(&header, &payload)
    }

    fn with_ip(&self, header: &[u8], payload: &[u8]) -> SentFrame {
        let frame = [&self.frame[..ETHERNET], header, payload].concat();
        SentFrame { after: Duration::ZERO, back: false, frame }
    }
}

/// Returns an IPv4 header with valid length and checksum.
fn with_length(mut header: Vec<u8>, payload: usize) -> Vec<u8> {
    let length = u16::try_from(header.len() + payload).unwrap();
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[10..12].fill(0);
    let sum = sum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

/// Returns the checksum of TCP and ICMPv6, which covers the addresses (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn pseudo(from: &[u8], to: &[u8], protocol: u8, payload: &[u8]) -> u16 {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    sum(&[from, to, &length, &[0, 0, 0, protocol], payload])
}

/// Returns the Internet checksum (RFC 1071) of parts, of which all but the last have an even length.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 =
        words.map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Computes the checksum that the virtio header leaves to the network card. Returns false for a frame that still needs
/// segmentation.
pub(super) fn complete_checksum(frame: &mut [u8], preamble: usize) -> bool {
    const NEEDS_SUM: u8 = 1;
    let short = |at: usize| usize::from(u16::from_ne_bytes([frame[at], frame[at + 1]]));
    let (flags, cut, start, offset) = (frame[0], frame[1], short(6), short(8));
    if cut != 0 {
        return false;
    }
    if flags & NEEDS_SUM != 0 {
        // The checksum field holds the sum of the pseudo header.
        let (from, at) = (preamble + start, preamble + start + offset);
        let sum = sum(&[&frame[from..]]);
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    frame[..preamble].fill(0);
    true
}
