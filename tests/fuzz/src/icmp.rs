//! Packets from raw sockets.

use maglevd_prober::probe::echo::{
    EchoHeader, IcmpPacket, QuotedPacket, parse_v4, parse_v6, request_v4, request_v6,
};
use maglevd_prober::probe::segment;

use crate::FuzzTarget;

pub const ICMP: FuzzTarget = FuzzTarget { name: "icmp", longest: 1500, memory: 0, seeds, run };

fn run(input: &[u8]) {
    for (parse, v4) in [(parse_v4 as fn(&[u8]) -> Option<IcmpPacket>, true), (parse_v6, false)] {
        let Some(packet) = parse(input) else { continue };
        if let IcmpPacket::Error { text, target, .. } = packet {
            assert!(!text.is_empty());
            assert_eq!(target.is_ipv4(), v4, "an error is about a target of its own family");
        }
        let about = quoted_packet(packet);
        if let QuotedPacket::Echo(echo) = about {
            assert_quoted_payload(input, echo);
        }
        // A truncated packet must decode to the same, or to less.
        for cut in (0..input.len()).filter_map(|end| parse(&input[..end])) {
            match (self::quoted_packet(cut), about) {
                (QuotedPacket::Echo(cut), QuotedPacket::Echo(echo)) => {
                    assert_eq!((cut.ident, cut.seq), (echo.ident, echo.seq));
                    assert!(cut.payload.is_none() || cut.payload == echo.payload);
                }
                (cut, whole) => assert_eq!(cut, whole),
            }
        }
    }
    for parse in [segment::parse_v4, segment::parse_v6] {
        let Some((syn, answer)) = parse(input) else { continue };
        // Ports and sequence numbers are in the packet as decoded. Quoted ports are swapped.
        let ports = (u32::from(syn.remote_port) << 16 | u32::from(syn.local_port)).to_be_bytes();
        assert!(input.windows(4).any(|window| *window == ports), "{syn:?} {answer:?}");
    }
}

/// Returns the probe packet that an ICMP packet quotes.
fn quoted_packet(packet: IcmpPacket) -> QuotedPacket {
    match packet {
        IcmpPacket::Reply(echo) => QuotedPacket::Echo(echo),
        IcmpPacket::Error { quoted, .. } => quoted,
    }
}

/// A quoted payload must equal the payload that we would send.
fn assert_quoted_payload(input: &[u8], echo: EchoHeader) {
    let Some(payload) = echo.payload else { return };
    for request in [request_v4(echo.ident, payload), request_v6(echo.ident, payload)] {
        assert!(input.windows(24).any(|window| *window == request[8..]));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let payload =
        maglevd_prober::probe::echo::EchoPayload { id: 1, serial: 2, cookie: 0x0304_0506_0708_090a };
    let ipv4 = |icmp: &[u8]| {
        let mut packet = vec![0; 20];
        (packet[0], packet[9]) = (0x45, 1);
        packet[16..20].copy_from_slice(&[192, 0, 2, 1]);
        packet.extend(icmp);
        packet
    };
    let ipv6 = |icmp: &[u8]| {
        let mut packet = vec![0; 40];
        (packet[0], packet[6]) = (0x60, 58);
        packet[39] = 1;
        packet.extend(icmp);
        packet
    };
    let mut seeds = Vec::new();
    let (mut v4, mut v6) = (request_v4(7, payload), request_v6(7, payload));
    for (kind, code) in [(3, 0), (3, 13), (11, 0), (12, 0)] {
        seeds.push(ipv4(&[&[kind, code, 0, 0, 0, 0, 0, 0], ipv4(&v4).as_slice()].concat()));
    }
    for (kind, code) in [(1, 0), (1, 4), (3, 0), (4, 1)] {
        seeds.push([&[kind, code, 0, 0, 0, 0, 0, 0], ipv6(&v6).as_slice()].concat());
    }
    (v4[0], v6[0]) = (0, 129);
    seeds.push(ipv4(&v4));
    seeds.push(v6.to_vec());
    seeds
}
