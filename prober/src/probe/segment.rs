//! Packet formats of half-open probes: SYNs and their answers (RFC 9293). No IO.

use std::net::IpAddr;

use super::checksum::internet_checksum;

/// Size of a SYN in bytes: the header, and the maximum segment size that every ordinary client announces.
pub const SYN: usize = 24;

/// IP protocol number of TCP.
const PROTOCOL: u8 = 6;
const FLAG_SYN: u8 = 0x02;
const FLAG_RST: u8 = 0x04;
const FLAG_ACK: u8 = 0x10;
/// Window that Linux clients offer.
const WINDOW: u16 = 64_240;
/// Maximum segment size (option 2, 4 bytes): Ethernet's, for IPv4. No data is ever sent.
const MSS: [u8; 4] = [2, 4, 0x05, 0xb4];

/// The fields that identify a SYN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SynId {
    /// Port of this host.
    pub local_port: u16,
    /// Port of the server.
    pub remote_port: u16,
    /// Sequence number.
    pub seq: u32,
}

/// A server's answer to a SYN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HandshakeAnswer {
    /// SYN and ACK: the port is open.
    SynAck,
    /// RST: the port is closed.
    Reset,
}

/// Returns a SYN between two addresses of one family.
pub fn syn(from: IpAddr, to: IpAddr, syn: SynId) -> [u8; SYN] {
    let mut bytes = [0; SYN];
    bytes[0..2].copy_from_slice(&syn.local_port.to_be_bytes());
    bytes[2..4].copy_from_slice(&syn.remote_port.to_be_bytes());
    bytes[4..8].copy_from_slice(&syn.seq.to_be_bytes());
    // Header length, in words.
    bytes[12] = (SYN as u8 / 4) << 4;
    bytes[13] = FLAG_SYN;
    bytes[14..16].copy_from_slice(&WINDOW.to_be_bytes());
    bytes[20..24].copy_from_slice(&MSS);
    let sum = internet_checksum(&with_pseudo_header(from, to, &bytes));
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// Parses an answer from a raw IPv4 socket, which begins with the IP header. Returns the SYN that it answers.
pub fn parse_v4(bytes: &[u8]) -> Option<(SynId, HandshakeAnswer)> {
    let first = *bytes.first()?;
    let length = usize::from(first & 0x0f) * 4;
    (first >> 4 == 4 && length >= 20 && *bytes.get(9)? == PROTOCOL).then_some(())?;
    parse_v6(bytes.get(length..)?)
}

/// Parses an answer from a raw IPv6 socket, which has no IP header. Returns the SYN that it answers.
///
/// The checksum is not verified: an answer that acknowledges the right number on the right ports is proof enough, and a
/// virtual link may not compute checksums.
pub fn parse_v6(bytes: &[u8]) -> Option<(SynId, HandshakeAnswer)> {
    let header: &[u8; 20] = bytes.first_chunk()?;
    let answer = match header[13] & (FLAG_SYN | FLAG_RST | FLAG_ACK) {
        flags if flags == FLAG_SYN | FLAG_ACK => HandshakeAnswer::SynAck,
        flags if flags == FLAG_RST | FLAG_ACK => HandshakeAnswer::Reset,
        _ => return None,
    };
    let acknowledged = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let local_port = u16::from_be_bytes([header[2], header[3]]);
    let remote_port = u16::from_be_bytes([header[0], header[1]]);
    Some((SynId { local_port, remote_port, seq: acknowledged.wrapping_sub(1) }, answer))
}

/// Parses a SYN that an ICMP error quotes: the first 8 bytes, which every router returns, are enough.
pub fn quoted_syn(bytes: &[u8]) -> Option<SynId> {
    let [a, b, c, d, seq @ ..]: &[u8; 8] = bytes.first_chunk()?;
    let (local_port, remote_port) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
    Some(SynId { local_port, remote_port, seq: u32::from_be_bytes(*seq) })
}

/// Returns the bytes that the checksum covers (RFC 9293 section 3.1, RFC 8200 section 8.1), padded with zeros, which do not
/// change the sum.
fn with_pseudo_header(from: IpAddr, to: IpAddr, segment: &[u8; SYN]) -> [u8; 40 + SYN] {
    let mut covered = [0; 40 + SYN];
    let (addresses, rest) = covered.split_at_mut(32);
    for (place, address) in addresses.chunks_exact_mut(16).zip([from, to]) {
        match address {
            IpAddr::V4(v4) => place[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => place.copy_from_slice(&v6.octets()),
        }
    }
    rest[3] = SYN as u8;
    rest[7] = PROTOCOL;
    rest[8..].copy_from_slice(segment);
    covered
}

/// Returns a server's answer with these flags, for tests.
#[cfg(test)]
pub fn answer(syn: SynId, flags: u8) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[0..2].copy_from_slice(&syn.remote_port.to_be_bytes());
    bytes[2..4].copy_from_slice(&syn.local_port.to_be_bytes());
    bytes[4..8].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
    bytes[8..12].copy_from_slice(&syn.seq.wrapping_add(1).to_be_bytes());
    (bytes[12], bytes[13]) = (5 << 4, flags);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: SynId = SynId { local_port: 40_001, remote_port: 443, seq: 0xffff_ffff };

    fn ip_v4(options: usize, tcp: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20 + options * 4];
        (packet[0], packet[9]) = (0x45 + options as u8, PROTOCOL);
        packet.extend_from_slice(tcp);
        packet
    }

    #[test]
    fn syn_matches_expected_bytes() {
        let (from, to) = ([192, 0, 2, 1].into(), [192, 0, 2, 9].into());
        let bytes = syn(from, to, SynId { seq: 0x0102_0304, ..OURS });
        let expected = [
            0x9c, 0x41, 0x01, 0xbb, 1, 2, 3, 4, 0, 0, 0, 0, 0x60, 0x02, 0xfa, 0xf0, bytes[16], bytes[17], 0,
            0, 2, 4, 5, 0xb4,
        ];
        assert_eq!(bytes, expected);
        // Computed by hand from the words of pseudo-header and segment.
        let words: u32 = 0xc000 + 0x0201 + 0xc000 + 0x0209 + 6 + 24;
        let words = words + 0x9c41 + 0x01bb + 0x0102 + 0x0304 + 0x6002 + 0xfaf0 + 0x0204 + 0x05b4;
        assert_eq!(u16::from_be_bytes([bytes[16], bytes[17]]), !((words & 0xffff) + (words >> 16)) as u16);
    }

    #[test]
    fn acknowledged_number_wraps_around() {
        assert_eq!(answer(OURS, 0x12)[8..12], [0; 4]);
        assert_eq!(parse_v6(&answer(OURS, 0x12)), Some((OURS, HandshakeAnswer::SynAck)));
    }

    #[test]
    fn answer_is_syn_ack_or_rst_ack() {
        for flags in 0..=u8::MAX {
            let expected = match flags & 0x16 {
                0x12 => Some((OURS, HandshakeAnswer::SynAck)),
                0x14 => Some((OURS, HandshakeAnswer::Reset)),
                _ => None,
            };
            assert_eq!(parse_v6(&answer(OURS, flags)), expected, "{flags:#x}");
            assert_eq!(parse_v4(&ip_v4(0, &answer(OURS, flags))), expected, "{flags:#x}");
        }
    }

    #[test]
    fn ip_options_are_skipped() {
        for options in 0..=10 {
            let packet = ip_v4(options, &answer(OURS, 0x14));
            assert_eq!(parse_v4(&packet), Some((OURS, HandshakeAnswer::Reset)));
            assert_eq!(parse_v4(&packet[..packet.len() - 1]), None);
        }
    }

    #[test]
    fn other_protocols_are_rejected() {
        for (at, to) in [(0, 0x65), (0, 0x44), (9, 17)] {
            let mut packet = ip_v4(0, &answer(OURS, 0x12));
            packet[at] = to;
            assert_eq!(parse_v4(&packet), None);
        }
    }

    proptest! {
        #[test]
        fn every_syn_has_valid_checksum(a: [u8; 16], b: [u8; 16], v4: bool, local_port: u16, remote_port: u16, seq: u32) {
            let ip = |bytes: [u8; 16]| if v4 { IpAddr::from(*bytes.first_chunk::<4>().unwrap()) } else { bytes.into() };
            let ours = SynId { local_port, remote_port, seq };
            let bytes = syn(ip(a), ip(b), ours);
            prop_assert_eq!(internet_checksum(&with_pseudo_header(ip(a), ip(b), &bytes)), 0);
            prop_assert_eq!(quoted_syn(&bytes[..8]), Some(ours));
            prop_assert_eq!(quoted_syn(&bytes[..7]), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse_v4(&bytes);
            let _ = parse_v6(&bytes);
            let _ = quoted_syn(&bytes);
        }
    }
}
