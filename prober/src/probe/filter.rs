//! Classic BPF programs that keep every packet away from the raw sockets which is neither an answer to an echo
//! request of ours nor an error that quotes one. The kernel would otherwise copy all of this host's ICMP to us.

use nix::libc::{
    BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_LDX,
    BPF_LSH, BPF_MISC, BPF_MSH, BPF_RET, BPF_TAX, BPF_X,
};
use socket2::SockFilter;

/// How much of an accepted packet is kept: all of it.
const ACCEPT: u32 = u32::MAX;

/// For a raw IPv4 socket: the program sees the IP header first.
pub fn v4(ident: u16) -> [SockFilter; 19] {
    let ident = u32::from(ident);
    [
        // X is the length of the IP header, A the type of the message.
        load_header_length(0),
        load_byte_at_x(0),
        // Echo reply?
        jump_if(0, 0, 2),
        load_half_at_x(4),
        jump_if(ident, 13, 12),
        // Destination unreachable, time exceeded, parameter problem?
        jump_if(3, 2, 0),
        jump_if(11, 1, 0),
        jump_if(12, 0, 9),
        // The quoted packet starts at X + 8: X becomes the sum of the lengths of both IP headers.
        load_byte_at_x(8),
        alu(BPF_AND | BPF_K, 0x0f),
        alu(BPF_LSH | BPF_K, 2),
        alu(BPF_ADD | BPF_X, 0),
        op(BPF_MISC | BPF_TAX, 0),
        // Is it an echo request of ours?
        load_byte_at_x(8),
        jump_if(8, 0, 2),
        load_half_at_x(12),
        jump_if(ident, 1, 0),
        op(BPF_RET | BPF_K, 0),
        op(BPF_RET | BPF_K, ACCEPT),
    ]
}

/// For a raw ICMPv6 socket: the program sees the ICMPv6 header first.
pub fn v6(ident: u16) -> [SockFilter; 11] {
    let ident = u32::from(ident);
    [
        load_byte(0),
        // Echo reply?
        jump_if(129, 0, 2),
        load_half(4),
        jump_if(ident, 6, 5),
        // Destination unreachable, time exceeded, parameter problem?
        jump_if(1, 2, 0),
        jump_if(3, 1, 0),
        jump_if(4, 0, 2),
        // The quoted packet starts at 8, its ICMPv6 header at 48: is it of our identifier? Whether it is an echo
        // request the parser checks.
        load_half(52),
        jump_if(ident, 1, 0),
        op(BPF_RET | BPF_K, 0),
        op(BPF_RET | BPF_K, ACCEPT),
    ]
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

/// Skips as many instructions as `yes` when A equals `value`, else as many as `no`.
fn jump_if(value: u32, yes: u8, no: u8) -> SockFilter {
    SockFilter::new((BPF_JMP | BPF_JEQ | BPF_K) as u16, yes, no, value)
}
