//! VPP's internal keys of VIPs: one space of 128-bit addresses, with IPv4 in the last four bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maglev_vpp::message::{Prefix, Vip};

use super::crash::OutOfBounds;

/// An address of either family. If its first 12 bytes are zero, it is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VppAddress(pub [u8; 16]);

/// A prefix in the same space. An IPv4 length counts 96 bits more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VppPrefix {
    /// Address without host bits.
    pub address: VppAddress,
    /// Length, 0..=128.
    pub len: u8,
}

/// The key of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VipKey {
    /// Prefix of the VIP.
    pub network: VppPrefix,
    /// Protocol; always 255 without a port.
    pub protocol: u8,
    /// Port; 0 for all ports.
    pub port: u16,
}

impl From<IpAddr> for VppAddress {
    fn from(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(address) => u128::from(address.to_bits()).to_be_bytes(),
            IpAddr::V6(address) => address.octets(),
        })
    }
}

impl From<VppAddress> for IpAddr {
    fn from(VppAddress(bytes): VppAddress) -> Self {
        let bits = u128::from_be_bytes(bytes);
        match u32::try_from(bits) {
            Ok(bits) => Ipv4Addr::from_bits(bits).into(),
            Err(_) => Ipv6Addr::from_bits(bits).into(),
        }
    }
}

impl VppAddress {
    /// Returns true if VPP treats it as an IPv4 address.
    #[must_use]
    pub fn is_ipv4(self) -> bool {
        IpAddr::from(self).is_ipv4()
    }
}

impl VppPrefix {
    /// Returns VPP's form of `prefix`.
    ///
    /// # Errors
    /// The prefix is too long.
    pub fn new(prefix: &Prefix) -> Result<Self, OutOfBounds> {
        if !prefix.is_valid() {
            return Err(OutOfBounds(format!("a prefix of {prefix}")));
        }
        let masked = prefix.masked();
        let len = if masked.address.is_ipv4() { masked.len + 96 } else { masked.len };
        Ok(Self { address: masked.address.into(), len })
    }

    /// Returns true if VPP treats it as an IPv4 network.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4() && self.len >= 96
    }

    /// Returns the prefix in the form of VPP's command line and routing tables.
    #[must_use]
    pub fn fib_prefix(&self) -> Prefix {
        if self.is_ipv4() {
            self.prefix()
        } else {
            Prefix { address: Ipv6Addr::from(self.address.0).into(), len: self.len }
        }
    }

    /// Returns the prefix in the form of VPP's API. `::/64` becomes `0.0.0.0/64`, because the address alone determines the
    /// family.
    #[must_use]
    pub fn prefix(&self) -> Prefix {
        let len = if self.is_ipv4() { self.len - 96 } else { self.len };
        Prefix { address: self.address.into(), len }
    }
}

impl VipKey {
    /// Returns VPP's key of `vip`.
    ///
    /// # Errors
    /// See [`VppPrefix::new`].
    pub fn new(vip: &Vip) -> Result<Self, OutOfBounds> {
        let protocol = if vip.port == 0 { 255 } else { vip.protocol };
        Ok(Self { network: VppPrefix::new(&vip.prefix)?, protocol, port: vip.port })
    }

    /// Returns the VIP as VPP's API shows it.
    #[must_use]
    pub fn vip(&self) -> Vip {
        Vip { prefix: self.network.prefix(), protocol: self.protocol, port: self.port }
    }
}
