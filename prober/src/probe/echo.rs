//! Packet formats of ICMP probes: echo requests, replies and errors (RFC 792, RFC 4443). No IO.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::internet_checksum;
use super::segment::{self, SynId};

/// Size of an echo request in bytes: an 8-byte header and a 24-byte [`EchoPayload`].
pub const REQUEST: usize = 32;

/// ICMP (RFC 792).
const V4: IcmpTypes = IcmpTypes { protocol: 1, request: 8, reply: 0 };
/// ICMPv6 (RFC 4443).
const V6: IcmpTypes = IcmpTypes { protocol: 58, request: 128, reply: 129 };

struct IcmpTypes {
    /// IP protocol number.
    protocol: u8,
    request: u8,
    reply: u8,
}

/// IP protocol number of TCP.
const TCP: u8 = 6;

/// The payload of a request, which a reply must return.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EchoPayload {
    /// The probe, as a [`crate::probe_id::ProbeId`].
    pub id: u64,
    /// Serial number of the request.
    pub serial: u64,
    /// Keyed hash of the other two: proves that the sender received our request.
    pub cookie: u64,
}

impl EchoPayload {
    /// Returns the sequence number for the header: a part of the cookie, so that it is unpredictable too. ICMP errors that
    /// quote no payload are matched by it.
    pub fn seq(self) -> u16 {
        self.cookie as u16
    }
}

/// The fields of an echo message that a reply or an error returns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EchoHeader {
    /// Identifier, one per prober.
    pub ident: u16,
    /// Sequence number.
    pub seq: u16,
    /// Payload, if it is complete: a router may quote as little as 8 bytes of the request.
    pub payload: Option<EchoPayload>,
}

/// A packet that passes the filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IcmpPacket {
    /// An echo reply.
    Reply(EchoHeader),
    /// An error about an undelivered packet.
    Error {
        /// Description of the error.
        text: &'static str,
        /// Destination of the undelivered packet.
        target: IpAddr,
        /// The undelivered packet.
        quoted: QuotedPacket,
    },
}

/// A packet of ours that an ICMP error quotes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QuotedPacket {
    /// An echo request.
    Echo(EchoHeader),
    /// The SYN of a half-open probe.
    Syn(SynId),
}

/// Returns an echo request to an IPv4 address.
pub fn request_v4(ident: u16, payload: EchoPayload) -> [u8; REQUEST] {
    let mut packet = request(V4.request, ident, payload);
    let sum = internet_checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Returns an echo request to an IPv6 address. The kernel fills in the checksum (RFC 3542 section 3.1).
pub fn request_v6(ident: u16, payload: EchoPayload) -> [u8; REQUEST] {
    request(V6.request, ident, payload)
}

fn request(kind: u8, ident: u16, payload: EchoPayload) -> [u8; REQUEST] {
    let mut packet = [0; REQUEST];
    packet[0] = kind;
    packet[4..6].copy_from_slice(&ident.to_be_bytes());
    packet[6..8].copy_from_slice(&payload.seq().to_be_bytes());
    packet[8..16].copy_from_slice(&payload.id.to_be_bytes());
    packet[16..24].copy_from_slice(&payload.serial.to_be_bytes());
    packet[24..32].copy_from_slice(&payload.cookie.to_be_bytes());
    packet
}

/// Parses a packet from a raw IPv4 socket, which begins with the IP header.
pub fn parse_v4(bytes: &[u8]) -> Option<IcmpPacket> {
    let (protocol, _, icmp) = split_v4(bytes)?;
    (protocol == V4.protocol).then_some(())?;
    let (kind, code) = (*icmp.first()?, *icmp.get(1)?);
    if kind == V4.reply {
        return Some(IcmpPacket::Reply(echo_header(icmp)?));
    }
    let text = error_text_v4(kind, code)?;
    let (protocol, target, payload) = split_v4(icmp.get(8..)?)?;
    let quoted = quoted_packet(&V4, protocol, payload)?;
    Some(IcmpPacket::Error { text, target: target.into(), quoted })
}

/// Returns true if an echo reply from a raw IPv4 socket has the right checksum: the kernel delivers it unverified, unlike
/// packets of raw ICMPv6 sockets.
pub fn is_intact_v4(bytes: &[u8]) -> bool {
    split_v4(bytes).is_some_and(|(_, _, icmp)| icmp.len() % 2 == 0 && internet_checksum(icmp) == 0)
}

/// Parses a packet from a raw ICMPv6 socket, which has no IP header.
pub fn parse_v6(icmp: &[u8]) -> Option<IcmpPacket> {
    let (kind, code) = (*icmp.first()?, *icmp.get(1)?);
    if kind == V6.reply {
        return Some(IcmpPacket::Reply(echo_header(icmp)?));
    }
    let text = error_text_v6(kind, code)?;
    let ip = icmp.get(8..48)?;
    let target: [u8; 16] = ip[24..40].try_into().ok()?;
    (ip[0] >> 4 == 6).then_some(())?;
    let quoted = quoted_packet(&V6, ip[6], icmp.get(48..)?)?;
    Some(IcmpPacket::Error { text, target: Ipv6Addr::from(target).into(), quoted })
}

/// Splits an IPv4 packet into protocol, destination and payload.
fn split_v4(bytes: &[u8]) -> Option<(u8, Ipv4Addr, &[u8])> {
    let first = *bytes.first()?;
    let length = usize::from(first & 0x0f) * 4;
    (first >> 4 == 4 && length >= 20).then_some(())?;
    let target: [u8; 4] = bytes.get(16..20)?.try_into().ok()?;
    Some((*bytes.get(9)?, target.into(), bytes.get(length..)?))
}

/// Parses the quoted packet after its IP header.
fn quoted_packet(types: &IcmpTypes, protocol: u8, payload: &[u8]) -> Option<QuotedPacket> {
    if protocol == TCP {
        return Some(QuotedPacket::Syn(segment::quoted_syn(payload)?));
    }
    (protocol == types.protocol && *payload.first()? == types.request).then_some(())?;
    Some(QuotedPacket::Echo(echo_header(payload)?))
}

fn echo_header(icmp: &[u8]) -> Option<EchoHeader> {
    let header: &[u8; 8] = icmp.first_chunk()?;
    let payload = icmp.get(8..32).and_then(|payload| {
        let word = |at: usize| Some(u64::from_be_bytes(payload.get(at..at + 8)?.try_into().ok()?));
        Some(EchoPayload { id: word(0)?, serial: word(8)?, cookie: word(16)? })
    });
    Some(EchoHeader {
        ident: u16::from_be_bytes([header[4], header[5]]),
        seq: u16::from_be_bytes([header[6], header[7]]),
        payload,
    })
}

/// Describes an ICMP error (RFC 792, RFC 1122, RFC 1812). Returns `None` for messages that report no failed delivery:
/// fragmentation needed, source quench, redirect.
fn error_text_v4(kind: u8, code: u8) -> Option<&'static str> {
    Some(match (kind, code) {
        (3, 0 | 6 | 11) => "network unreachable",
        (3, 1 | 7 | 8 | 12) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 5) => "source route failed",
        (3, 9 | 10 | 13) => "administratively prohibited",
        (3, 4) => return None,
        (3, _) => "destination unreachable",
        (11, _) => "time to live exceeded",
        (12, _) => "parameter problem",
        _ => return None,
    })
}

/// Describes an ICMPv6 error (RFC 4443 section 3). Returns `None` for packet too big.
fn error_text_v6(kind: u8, code: u8) -> Option<&'static str> {
    Some(match (kind, code) {
        (1, 0) => "no route to destination",
        (1, 1) => "administratively prohibited",
        (1, 2) => "beyond scope of source address",
        (1, 3) => "address unreachable",
        (1, 4) => "port unreachable",
        (1, 5) => "source address failed policy",
        (1, 6) => "route rejected",
        (1, _) => "destination unreachable",
        (3, _) => "hop limit exceeded",
        (4, _) => "parameter problem",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAYLOAD: EchoPayload = EchoPayload {
        id: 0x0102_0304_0506_0708,
        serial: 0x1122_3344_5566_7788,
        cookie: 0x99aa_bbcc_ddee_7788,
    };
    const ECHO: EchoHeader = EchoHeader { ident: 0xabcd, seq: 0x7788, payload: Some(PAYLOAD) };

    fn ip_v4(target: [u8; 4], icmp: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20];
        (packet[0], packet[9]) = (0x45, 1);
        packet[16..20].copy_from_slice(&target);
        packet.extend_from_slice(icmp);
        packet
    }

    fn reply(mut request: [u8; REQUEST], kind: u8) -> [u8; REQUEST] {
        request[0] = kind;
        request
    }

    #[test]
    fn request_has_valid_checksum() {
        assert_eq!(internet_checksum(&request_v4(0xabcd, PAYLOAD)), 0);
        assert_eq!(request_v4(0xabcd, PAYLOAD)[..8], [8, 0, 0x08, 0x52, 0xab, 0xcd, 0x77, 0x88]);
    }

    #[test]
    fn any_corrupted_byte_is_detected() {
        let intact = ip_v4([192, 0, 2, 1], &request_v4(0xabcd, PAYLOAD));
        assert!(is_intact_v4(&intact));
        for at in 20..intact.len() {
            let mut corrupted = intact.clone();
            corrupted[at] ^= 0x10;
            assert!(!is_intact_v4(&corrupted), "{at}");
        }
        assert!(!is_intact_v4(&intact[..intact.len() - 1]));
    }

    #[test]
    fn reply_returns_request_fields() {
        let v4 = ip_v4([192, 0, 2, 1], &reply(request_v4(0xabcd, PAYLOAD), 0));
        assert_eq!(parse_v4(&v4), Some(IcmpPacket::Reply(ECHO)));
        let v6 = reply(request_v6(0xabcd, PAYLOAD), 129);
        assert_eq!(parse_v6(&v6), Some(IcmpPacket::Reply(ECHO)));
    }

    #[test]
    fn error_contains_target_and_quote() {
        let quoted = ip_v4([192, 0, 2, 9], &request_v4(0xabcd, PAYLOAD));
        let error = [&[3, 13, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        let expected = |payload| IcmpPacket::Error {
            text: "administratively prohibited",
            target: [192, 0, 2, 9].into(),
            quoted: QuotedPacket::Echo(EchoHeader { payload, ..ECHO }),
        };
        assert_eq!(parse_v4(&ip_v4([192, 0, 2, 2], &error)), Some(expected(Some(PAYLOAD))));
        // RFC 792 guarantees only 8 bytes after the quoted IP header.
        assert_eq!(parse_v4(&ip_v4([192, 0, 2, 2], &error[..36])), Some(expected(None)));
        assert_eq!(parse_v4(&ip_v4([192, 0, 2, 2], &error[..35])), None);
    }

    #[test]
    fn size_errors_are_ignored() {
        let quoted = ip_v4([192, 0, 2, 9], &request_v4(0xabcd, PAYLOAD));
        let error = [&[3, 4, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        assert_eq!(parse_v4(&ip_v4([192, 0, 2, 2], &error)), None);
        assert_eq!(parse_v6(&[2; 100]), None);
    }

    #[test]
    fn error_quotes_ipv6_request() {
        let mut error = vec![0; 48];
        (error[0], error[1], error[8], error[14]) = (1, 3, 0x60, 58);
        error[32..48].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        error.extend_from_slice(&request_v6(0xabcd, PAYLOAD));
        let text = "address unreachable";
        let target = Ipv6Addr::LOCALHOST.into();
        assert_eq!(
            parse_v6(&error),
            Some(IcmpPacket::Error { text, target, quoted: QuotedPacket::Echo(ECHO) })
        );
    }

    #[test]
    fn eight_bytes_identify_a_quoted_syn() {
        let syn = SynId { local_port: 40_000, remote_port: 80, seq: 0x0102_0304 };
        let bytes = segment::syn([192, 0, 2, 1].into(), [192, 0, 2, 9].into(), syn);
        let mut quoted = ip_v4([192, 0, 2, 9], &bytes[..8]);
        quoted[9] = TCP;
        let error = ip_v4([192, 0, 2, 2], &[&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted].concat());
        let expected =
            |text, target| Some(IcmpPacket::Error { text, target, quoted: QuotedPacket::Syn(syn) });
        assert_eq!(parse_v4(&error), expected("port unreachable", [192, 0, 2, 9].into()));
        assert_eq!(parse_v4(&error[..error.len() - 1]), None);

        let mut error = vec![0; 48];
        (error[0], error[1], error[8], error[14]) = (1, 0, 0x60, TCP);
        error[32..48].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        error.extend_from_slice(&bytes[..8]);
        assert_eq!(parse_v6(&error), expected("no route to destination", Ipv6Addr::LOCALHOST.into()));
        assert_eq!(parse_v6(&error[..55]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_v4(&bytes);
            let _ = parse_v6(&bytes);
        }

        #[test]
        fn corrupted_errors_never_panic(at in 0usize..100, to: u8, cut in 0usize..100) {
            let quoted = ip_v4([192, 0, 2, 9], &request_v4(1, PAYLOAD));
            let mut packet = ip_v4([192, 0, 2, 2], &[&[3, 1, 0, 0, 0, 0, 0, 0][..], &quoted].concat());
            let at = at % packet.len();
            packet[at] = to;
            packet.truncate(cut);
            let _ = parse_v4(&packet);
            let _ = parse_v6(&packet);
        }
    }
}
