//! How VPP names VIPs inside: in one space of 128-bit addresses, IPv4 in the last four bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maglev_vpp::message::{Prefix, Vip};

use super::plugin::Crash;

/// An address of either family; one whose first 12 bytes are zero is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 16]);

/// A prefix in the same space: an IPv4 one is 96 bits longer than it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// Without bits beyond the length.
    pub address: Address,
    /// 0..=128.
    pub len: u8,
}

/// What tells VIPs apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The addresses.
    pub network: Network,
    /// 255 without a port, whatever was asked for.
    pub protocol: u8,
    /// 0 for all.
    pub port: u16,
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(address) => u128::from(address.to_bits()).to_be_bytes(),
            IpAddr::V6(address) => address.octets(),
        })
    }
}

impl From<Address> for IpAddr {
    fn from(Address(bytes): Address) -> Self {
        let bits = u128::from_be_bytes(bytes);
        match u32::try_from(bits) {
            Ok(bits) => Ipv4Addr::from_bits(bits).into(),
            Err(_) => Ipv6Addr::from_bits(bits).into(),
        }
    }
}

impl Address {
    /// Whether VPP takes it for an IPv4 address.
    #[must_use]
    pub fn is_ipv4(self) -> bool {
        IpAddr::from(self).is_ipv4()
    }
}

impl Network {
    /// VPP's form of `prefix`.
    ///
    /// # Errors
    /// VPP does not check the length, and crashes or goes astray on one that is too long.
    pub fn new(prefix: &Prefix) -> Result<Self, Crash> {
        if !prefix.is_valid() {
            return Err(Crash(format!("a prefix of {prefix}")));
        }
        let masked = prefix.masked();
        let len = if masked.address.is_ipv4() { masked.len + 96 } else { masked.len };
        Ok(Self { address: masked.address.into(), len })
    }

    /// Whether VPP takes it for an IPv4 network.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4() && self.len >= 96
    }

    /// As VPP's command line and routing tables have it.
    #[must_use]
    pub fn proper_prefix(&self) -> Prefix {
        if self.is_ipv4() {
            self.prefix()
        } else {
            Prefix { address: Ipv6Addr::from(self.address.0).into(), len: self.len }
        }
    }

    /// As VPP's API has it. `::/64` becomes `0.0.0.0/64`, as the address alone tells the family.
    #[must_use]
    pub fn prefix(&self) -> Prefix {
        let len = if self.is_ipv4() { self.len - 96 } else { self.len };
        Prefix { address: self.address.into(), len }
    }
}

impl Key {
    /// VPP's form of `vip`.
    ///
    /// # Errors
    /// See [`Network::new`].
    pub fn new(vip: &Vip) -> Result<Self, Crash> {
        let protocol = if vip.port == 0 { 255 } else { vip.protocol };
        Ok(Self { network: Network::new(&vip.prefix)?, protocol, port: vip.port })
    }

    /// As VPP shows it.
    #[must_use]
    pub fn vip(&self) -> Vip {
        Vip { prefix: self.network.prefix(), protocol: self.protocol, port: self.port }
    }
}
