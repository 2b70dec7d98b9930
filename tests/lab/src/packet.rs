//! A packet on its way, and what can be made of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::faulty_link::Sent;

/// The length of Ethernet's header.
const ETHERNET: usize = 14;
const V4: [u8; 2] = [0x08, 0x00];
const V6: [u8; 2] = [0x86, 0xdd];
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMP6: u8 = 58;
/// Types of ICMPv6 by which neighbours and routers find each other, and groups are joined.
const NEIGHBOURS: std::ops::RangeInclusive<u8> = 130..=143;

/// An IP packet in its frame.
#[derive(Clone, Debug)]
pub struct Packet {
    frame: Vec<u8>,
    /// Whether it goes from the prober's host to the server's.
    pub is_request: bool,
    /// Where it comes from, as it says.
    pub from: IpAddr,
    /// Where it goes.
    pub to: IpAddr,
    protocol: u8,
    /// Where what IP carries begins in the frame.
    payload: usize,
}

impl Packet {
    /// The packet in `frame`; `None` for all else, and for what neighbours find each other by.
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

    /// Its address on the server's side.
    #[must_use]
    pub const fn server(&self) -> IpAddr {
        if self.is_request { self.to } else { self.from }
    }

    /// What IP carries.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.frame[self.payload..]
    }

    /// Whether it is an echo request.
    #[must_use]
    pub fn is_echo(&self) -> bool {
        matches!((self.protocol, self.payload()[0]), (ICMP, 8) | (ICMP6, 128))
    }

    /// Whether it is an echo reply.
    #[must_use]
    pub fn is_echo_reply(&self) -> bool {
        matches!((self.protocol, self.payload()[0]), (ICMP, 0) | (ICMP6, 129))
    }

    /// Whether it is a TCP segment with these flags, and no others of SYN, RST and ACK.
    #[must_use]
    pub fn is_segment(&self, flags: u8) -> bool {
        self.protocol == TCP && self.payload().get(13).is_some_and(|found| found & 0x16 == flags)
    }

    /// It goes on as it is.
    #[must_use]
    pub fn on(&self) -> Sent {
        self.late(Duration::ZERO)
    }

    /// It goes on, later.
    #[must_use]
    pub fn late(&self, after: Duration) -> Sent {
        Sent { after, back: false, frame: self.frame.clone() }
    }

    /// It goes on with some bits flipped of one byte of what IP carries: of the one `at` there, counted around. No checksum is
    /// mended.
    #[must_use]
    pub fn spoiled(&self, at: usize, random: &mut fastrand::Rng) -> Sent {
        let mut sent = self.on();
        sent.frame[self.payload + at % self.payload().len()] ^= random.u8(1..);
        sent
    }

    /// It goes on, with a payload that `change` has changed, and right checksums.
    #[must_use]
    pub fn changed(&self, change: impl FnOnce(&mut Vec<u8>)) -> Sent {
        let mut payload = self.payload().to_vec();
        change(&mut payload);
        self.carrying(self.protocol, &payload)
    }

    /// It goes on, as if it came from elsewhere.
    #[must_use]
    pub fn from_elsewhere(&self, from: IpAddr) -> Sent {
        Self { from, ..self.clone() }.carrying(self.protocol, self.payload())
    }

    /// The network's word that it has not arrived: an ICMP error of that type and code, with the packet in it as `quoted` has
    /// changed it, which goes back to where it came from. `from` is who says so.
    #[must_use]
    pub fn error(&self, from: IpAddr, [kind, code]: [u8; 2], quoted: impl FnOnce(&mut Vec<u8>)) -> Sent {
        let mut quote = self.frame[ETHERNET..].to_vec();
        quoted(&mut quote);
        let message = [&[kind, code, 0, 0, 0, 0, 0, 0][..], &quote].concat();
        let protocol = if self.from.is_ipv4() { ICMP } else { ICMP6 };
        let mut back = Self { from, to: self.from, ..self.clone() };
        let (to, rest) = back.frame.split_at_mut(6);
        to.swap_with_slice(&mut rest[..6]);
        Sent { back: true, ..back.carrying(protocol, &message) }
    }

    /// Its payload in pieces, as a path of a small MTU makes them. IPv4 only.
    #[must_use]
    pub fn fragments(&self, length: usize) -> Vec<Sent> {
        let count = self.payload().len().div_ceil(length);
        let pieces = self.payload().chunks(length).enumerate().map(|(index, piece)| {
            let mut ip = self.frame[ETHERNET..self.payload].to_vec();
            let more = if index + 1 < count { 0x2000 } else { 0 };
            let offset = u16::try_from(index * length / 8).unwrap() | more;
            ip[6..8].copy_from_slice(&offset.to_be_bytes());
            self.framed(&with_length(ip, piece.len()), piece)
        });
        pieces.collect()
    }

    /// It goes on with options in its IPv4 header that mean nothing.
    #[must_use]
    pub fn with_options(&self) -> Sent {
        const NOTHING: [u8; 8] = [1; 8];
        let mut ip = self.frame[ETHERNET..self.payload].to_vec();
        ip[0] += NOTHING.len() as u8 / 4;
        ip.extend(NOTHING);
        self.framed(&with_length(ip, self.payload().len()), self.payload())
    }

    fn carrying(&self, protocol: u8, payload: &[u8]) -> Sent {
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
            _ => panic!("{} and {} are of two families", self.from, self.to),
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
            _ => panic!("{} and {} are of two families", self.from, self.to),
        };
        self.framed(&header, &payload)
    }

    fn framed(&self, header: &[u8], payload: &[u8]) -> Sent {
        let frame = [&self.frame[..ETHERNET], header, payload].concat();
        Sent { after: Duration::ZERO, back: false, frame }
    }
}

/// An IPv4 header with the right length and checksum.
fn with_length(mut header: Vec<u8>, payload: usize) -> Vec<u8> {
    let length = u16::try_from(header.len() + payload).unwrap();
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[10..12].fill(0);
    let sum = sum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

/// The checksum of TCP and ICMPv6, which covers the addresses (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn pseudo(from: &[u8], to: &[u8], protocol: u8, payload: &[u8]) -> u16 {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    sum(&[from, to, &length, &[0, 0, 0, protocol], payload])
}

/// The Internet checksum (RFC 1071) of parts of which all but the last are of even length.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 =
        words.map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Computes the checksum that a frame's preamble says is left to the network card. Whether what there is now is one whole
/// packet, and not more that is still to be cut.
pub(super) fn complete(frame: &mut [u8], preamble: usize) -> bool {
    const NEEDS_SUM: u8 = 1;
    let short = |at: usize| usize::from(u16::from_ne_bytes([frame[at], frame[at + 1]]));
    let (flags, cut, start, offset) = (frame[0], frame[1], short(6), short(8));
    if cut != 0 {
        return false;
    }
    if flags & NEEDS_SUM != 0 {
        // The place of the checksum holds the sum of what is not in the packet.
        let (from, at) = (preamble + start, preamble + start + offset);
        let sum = sum(&[&frame[from..]]);
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    frame[..preamble].fill(0);
    true
}
