//! Identity of a VIP, and its encapsulation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::{MalformedMessage, WireField, WireReader};

fields! {
    /// An address or a network of addresses.
    ///
    /// VPP masks the bits beyond the length, and does not check the length.
    #[derive(Copy, Hash, PartialOrd, Ord)]
    Prefix {
        /// The address.
        address: IpAddr,
        /// 0..=32 for IPv4, 0..=128 for IPv6. Never more.
        len: u8,
    }

    /// Identity of a VIP in each call.
    #[derive(Copy, Hash, PartialOrd, Ord)]
    Vip {
        /// The addresses.
        prefix: Prefix,
        /// 6 is TCP, 17 UDP; VPP puts 255 here when the port is 0.
        protocol: u8,
        /// 0: all ports of all protocols.
        port: u16,
    }
}

/// Encapsulation of packets to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LbEncapType {
    /// GRE over IPv4.
    Gre4,
    /// GRE over IPv6.
    Gre6,
    /// IPv4 only: the server's address replaces the VIP's, and DSCP identifies the VIP.
    L3dsr,
    /// Rewritten addresses, IPv4.
    Nat4,
    /// Rewritten addresses, IPv6.
    Nat6,
    /// Unknown. VPP turns an IPv6 VIP with it into GRE6, and refuses an IPv4 one.
    Other(u32),
}

impl LbEncapType {
    /// True if servers need an IPv4 address. The family of the VIP is independent.
    #[must_use]
    pub const fn is_ipv4(self) -> bool {
        matches!(self, Self::Gre4 | Self::L3dsr | Self::Nat4)
    }
}

impl WireField for LbEncapType {
    fn put(&self, out: &mut Vec<u8>) {
        let number: u32 = match *self {
            Self::Gre4 => 0,
            Self::Gre6 => 1,
            Self::L3dsr => 2,
            Self::Nat4 => 3,
            Self::Nat6 => 4,
            Self::Other(number) => number,
        };
        number.put(out);
    }

    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        Ok(match u32::get(from)? {
            0 => Self::Gre4,
            1 => Self::Gre6,
            2 => Self::L3dsr,
            3 => Self::Nat4,
            4 => Self::Nat6,
            other => Self::Other(other),
        })
    }
}

/// Filter of [`super::LbAsV2Dump`] by VIP.
///
/// VPP compares the 16 bytes with its own form of the VIP's prefix. There IPv4 takes the *last* four bytes, but in all other
/// messages the first four. Zero matches every VIP. VPP ignores family and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VipFilter {
    family: u8,
    bytes: [u8; 16],
    len: u8,
}

impl VipFilter {
    pub(super) const ALL: Self = Self { family: 0, bytes: [0; 16], len: 0 };

    pub(super) fn of(prefix: Prefix) -> Self {
        let Prefix { address, len } = prefix.masked();
        let (family, bytes) = match address {
            IpAddr::V4(address) => (0, u128::from(address.to_bits()).to_be_bytes()),
            IpAddr::V6(address) => (1, address.octets()),
        };
        Self { family, bytes, len }
    }

    /// Returns the bytes that VPP compares.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 16] {
        self.bytes
    }
}

impl WireField for VipFilter {
    fn put(&self, out: &mut Vec<u8>) {
        self.family.put(out);
        self.bytes.put(out);
        self.len.put(out);
    }

    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        Ok(Self { family: WireField::get(from)?, bytes: WireField::get(from)?, len: WireField::get(from)? })
    }
}

impl Prefix {
    /// Returns the prefix of `address` alone.
    #[must_use]
    pub const fn host(address: IpAddr) -> Self {
        Self { address, len: Self::max_len(address) }
    }

    /// True if the length is valid for the address family.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.len <= Self::max_len(self.address)
    }

    /// Returns the prefix without the bits beyond its length, as VPP stores it.
    #[must_use]
    pub fn masked(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.len.min(32))).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.len.min(128))).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        };
        Self { address, len: self.len }
    }

    const fn max_len(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl Vip {
    /// Returns the VIP of all ports of all protocols of `prefix`.
    #[must_use]
    pub const fn all_ports(prefix: Prefix) -> Self {
        Self { prefix, protocol: 255, port: 0 }
    }

    pub(super) fn excess(&self) -> Option<&'static str> {
        (!self.prefix.is_valid()).then_some("the prefix is longer than its address")
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, protocol, port } = self;
        match (*port, *protocol) {
            (0, _) => write!(f, "{prefix}"),
            (_, 6) => write!(f, "{prefix} tcp/{port}"),
            (_, 17) => write!(f, "{prefix} udp/{port}"),
            _ => write!(f, "{prefix} {protocol}/{port}"),
        }
    }
}
