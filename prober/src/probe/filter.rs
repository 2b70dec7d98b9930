//! Classic BPF programs for the raw sockets. They accept replies to our probes and ICMP errors that quote one. Without them,
//! the kernel would deliver all ICMP and TCP packets of this host.

use nix::libc::{
    BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IMM, BPF_IND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD,
    BPF_LDX, BPF_LSH, BPF_MEM, BPF_MISC, BPF_MSH, BPF_RET, BPF_ST, BPF_TAX, BPF_X,
};
use socket2::SockFilter;

use super::ports;

/// Number of bytes to keep of an accepted packet: all.
const ACCEPT: u32 = u32::MAX;
/// Mask of the bits that all ports of a block share.
const PORT_BLOCK_MASK: u32 = !(ports::PORT_COUNT as u32 - 1) & 0xffff;

/// Returns the filter of a raw ICMP socket, whose packets begin with the IP header. Accepts errors about an echo request
/// with this identifier, or about a SYN from this block of ports.
pub fn icmp_v4(ident: u16, first_port: u16) -> [SockFilter; 27] {
    let (ident, ports) = (u32::from(ident), u32::from(first_port));
    [
        // X is the length of the IP header, A the ICMP type.
        load_header_length(0),
        load_byte_at_x(0),
        // Echo reply?
        jump_if(0, 0, 2),
        load_half_at_x(4),
        jump_if(ident, 21, 20),
        // Destination unreachable, time exceeded, parameter problem?
        jump_if(3, 2, 0),
        jump_if(11, 1, 0),
        jump_if(12, 0, 17),
        // The quoted packet starts at X + 8. Store its protocol, and add the length of its IP header to X.
        load_byte_at_x(17),
        op(BPF_ST, 0),
        load_byte_at_x(8),
        alu(BPF_AND | BPF_K, 0x0f),
        alu(BPF_LSH | BPF_K, 2),
        alu(BPF_ADD | BPF_X, 0),
        op(BPF_MISC | BPF_TAX, 0),
        op(BPF_LD | BPF_MEM, 0),
        // An echo request of ours?
        jump_if(1, 0, 4),
        load_byte_at_x(8),
        jump_if(8, 0, 6),
        load_half_at_x(12),
        jump_if(ident, 5, 4),
        // A segment from a reserved port?
        jump_if(6, 0, 3),
        load_half_at_x(8),
        alu(BPF_AND | BPF_K, PORT_BLOCK_MASK),
        jump_if(ports, 1, 0),
        op(BPF_RET | BPF_K, 0),
        op(BPF_RET | BPF_K, ACCEPT),
    ]
}

/// Returns the filter of a raw ICMPv6 socket, whose packets begin with the ICMPv6 header.
pub fn icmp_v6(ident: u16, first_port: u16) -> [SockFilter; 17] {
    let (ident, ports) = (u32::from(ident), u32::from(first_port));
    [
        load_byte(0),
        // Echo reply?
        jump_if(129, 0, 2),
        load_half(4),
        jump_if(ident, 12, 11),
        // Destination unreachable, time exceeded, parameter problem?
        jump_if(1, 2, 0),
        jump_if(3, 1, 0),
        jump_if(4, 0, 8),
        // The quoted packet starts at 8, its payload at 48. ICMPv6 with our identifier (the parser checks the type), or a
        // segment from a reserved port?
        load_byte(14),
        jump_if(58, 0, 2),
        load_half(52),
        jump_if(ident, 5, 4),
        jump_if(6, 0, 3),
        load_half(48),
        alu(BPF_AND | BPF_K, PORT_BLOCK_MASK),
        jump_if(ports, 1, 0),
        op(BPF_RET | BPF_K, 0),
        op(BPF_RET | BPF_K, ACCEPT),
    ]
}

/// Returns the filter of a raw TCP socket over IPv4, whose packets begin with the IP header. Accepts answers to a SYN from
/// this block of ports.
pub fn tcp_v4(first_port: u16) -> [SockFilter; 10] {
    tcp(load_header_length(0), first_port)
}

/// Returns the filter of a raw TCP socket over IPv6, whose packets begin with the TCP header.
pub fn tcp_v6(first_port: u16) -> [SockFilter; 10] {
    tcp(op(BPF_LDX | BPF_IMM, 0), first_port)
}

/// Returns a TCP filter; `find_header` loads the offset of the TCP header into X. The flags come first, because they reject
/// nearly all segments: those of established connections.
fn tcp(find_header: SockFilter, first_port: u16) -> [SockFilter; 10] {
    [
        find_header,
        load_byte_at_x(13),
        // SYN and ACK, or RST and ACK?
        alu(BPF_AND | BPF_K, 0x16),
        jump_if(0x12, 1, 0),
        jump_if(0x14, 0, 3),
        load_half_at_x(2),
        alu(BPF_AND | BPF_K, PORT_BLOCK_MASK),
        jump_if(first_port.into(), 1, 0),
        op(BPF_RET | BPF_K, 0),
        op(BPF_RET | BPF_K, ACCEPT),
    ]
}

/// Returns a filter that rejects every packet.
pub fn reject_all() -> [SockFilter; 1] {
    [op(BPF_RET | BPF_K, 0)]
}

fn load_header_length(at: u32) -> SockFilter {
    op(BPF_LDX | BPF_B | BPF_MSH, at)
}

fn load_byte(at: u32) -> SockFilter {
    op(BPF_LD | BPF_B | BPF_ABS, at)
}

fn load_half(at: u32) -> SockFilter {
    op(BPF_LD | BPF_H | BPF_ABS, at)
}

fn load_byte_at_x(at: u32) -> SockFilter {
    op(BPF_LD | BPF_B | BPF_IND, at)
}

fn load_half_at_x(at: u32) -> SockFilter {
    op(BPF_LD | BPF_H | BPF_IND, at)
}

fn alu(operation: u32, operand: u32) -> SockFilter {
    op(BPF_ALU | operation, operand)
}

fn op(code: u32, operand: u32) -> SockFilter {
    SockFilter::new(code as u16, 0, 0, operand)
}

/// Skips `yes` instructions if A equals `value`, else `no` instructions.
fn jump_if(value: u32, yes: u8, no: u8) -> SockFilter {
    SockFilter::new((BPF_JMP | BPF_JEQ | BPF_K) as u16, yes, no, value)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use socket2::Socket;

    use super::*;

    const IDENT: u16 = 0xabcd;
    const PORTS: u16 = 0x9c40;

    /// Returns which packets a socket with this filter receives. The kernel runs filters on every kind of socket, so a socket
    /// pair serves as test bed.
    fn accepted<const N: usize>(filter: &[SockFilter], packets: [&[u8]; N]) -> [bool; N] {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let theirs = Socket::from(std::os::fd::OwnedFd::from(theirs));
        theirs.attach_filter(filter).unwrap();
        packets.map(|packet| {
            // A rejected packet makes send() fail.
            let _ = ours.send(packet);
            let mut buffer = [0; 256];
            std::io::Read::read(&mut (&theirs), &mut buffer).is_ok_and(|length| buffer[..length] == *packet)
        })
    }

    fn ip_v4(options: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20 + usize::from(options) * 4];
        (packet[0], packet[9]) = (0x45 + options, protocol);
        packet.extend_from_slice(payload);
        packet
    }

    fn ip_v6(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        (packet[0], packet[6]) = (0x60, protocol);
        packet.extend_from_slice(payload);
        packet
    }

    fn echo(kind: u8, ident: u16) -> [u8; 8] {
        let [high, low] = ident.to_be_bytes();
        [kind, 0, 0, 0, high, low, 0, 1]
    }

    fn segment(from: u16, to: u16, flags: u8) -> [u8; 20] {
        let mut segment = [0; 20];
        segment[..2].copy_from_slice(&from.to_be_bytes());
        segment[2..4].copy_from_slice(&to.to_be_bytes());
        segment[13] = flags;
        segment
    }

    fn error(kind: u8, quoted: &[u8]) -> Vec<u8> {
        [&[kind, 1, 0, 0, 0, 0, 0, 0], quoted].concat()
    }

    #[test]
    fn icmp_v4_accepts_own_replies_and_quotes() {
        for options in [0, 1, 10] {
            let icmp = |message: &[u8]| ip_v4(options, 1, message);
            let about =
                |kind, protocol, payload: &[u8]| icmp(&error(kind, &ip_v4(10 - options, protocol, payload)));
            let expected = [
                (icmp(&echo(0, IDENT)), true),
                (icmp(&echo(0, IDENT + 1)), false),
                (icmp(&echo(8, IDENT)), false),
                (about(3, 1, &echo(8, IDENT)), true),
                (about(11, 1, &echo(8, IDENT)), true),
                (about(12, 1, &echo(8, IDENT)), true),
                (about(5, 1, &echo(8, IDENT)), false),
                (about(3, 1, &echo(8, IDENT ^ 1)), false),
                (about(3, 1, &echo(0, IDENT)), false),
                (about(3, 17, &echo(8, IDENT)), false),
                (about(3, 6, &segment(PORTS, 80, 2)[..8]), true),
                (about(11, 6, &segment(PORTS + 15, 80, 2)[..8]), true),
                (about(3, 6, &segment(PORTS + 16, 80, 2)[..8]), false),
                (about(3, 6, &segment(PORTS - 1, 80, 2)[..8]), false),
                (about(3, 17, &segment(PORTS, 80, 2)[..8]), false),
                (about(5, 6, &segment(PORTS, 80, 2)[..8]), false),
                (about(3, 6, &[]), false),
                (Vec::new(), false),
            ];
            for (index, (packet, wanted)) in expected.into_iter().enumerate() {
                assert_eq!(
                    accepted(&icmp_v4(IDENT, PORTS), [&packet]),
                    [wanted],
                    "{index}, {options} options"
                );
            }
        }
    }

    #[test]
    fn icmp_v6_accepts_own_replies_and_quotes() {
        let about = |kind, protocol, payload: &[u8]| error(kind, &ip_v6(protocol, payload));
        let expected = [
            (echo(129, IDENT).to_vec(), true),
            (echo(129, IDENT ^ 1).to_vec(), false),
            (echo(128, IDENT).to_vec(), false),
            (about(1, 58, &echo(128, IDENT)), true),
            (about(3, 58, &echo(128, IDENT)), true),
            (about(4, 58, &echo(128, IDENT)), true),
            (about(2, 58, &echo(128, IDENT)), false),
            (about(1, 58, &echo(128, IDENT ^ 1)), false),
            (about(1, 17, &echo(128, IDENT)), false),
            (about(1, 6, &segment(PORTS + 7, 80, 2)[..8]), true),
            (about(1, 6, &segment(PORTS + 16, 80, 2)[..8]), false),
            (about(1, 17, &segment(PORTS, 80, 2)[..8]), false),
            (about(2, 6, &segment(PORTS, 80, 2)[..8]), false),
            (about(1, 6, &[]), false),
        ];
        for (index, (packet, wanted)) in expected.into_iter().enumerate() {
            assert_eq!(accepted(&icmp_v6(IDENT, PORTS), [&packet]), [wanted], "{index}");
        }
    }

    #[test]
    fn tcp_accepts_answers_to_reserved_ports_only() {
        for flags in 0..=u8::MAX {
            let is_answer = matches!(flags & 0x16, 0x12 | 0x14);
            for (to, ours) in [(PORTS, true), (PORTS + 15, true), (PORTS + 16, false), (PORTS - 1, false)] {
                let (wanted, segment) = (is_answer && ours, segment(80, to, flags));
                assert_eq!(accepted(&tcp_v6(PORTS), [&segment]), [wanted], "{flags:#x} to {to}");
                let packets = [0, 3].map(|options| ip_v4(options, 6, &segment));
                let accepted = accepted(&tcp_v4(PORTS), [&packets[0], &packets[1]]);
                assert_eq!(accepted, [wanted; 2], "{flags:#x} to {to}");
            }
        }
    }

    #[test]
    fn reject_all_filter_drops_everything() {
        assert_eq!(accepted(&reject_all(), [&[0; 64], &echo(0, IDENT)]), [false; 2]);
    }
}
