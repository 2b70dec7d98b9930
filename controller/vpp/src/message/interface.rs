//! Interfaces: their names and MTUs. A VPP may lack these messages.

use crate::wire::{FixedString, VarString};

fields! {
    /// Lists interfaces.
    SwInterfaceDump {
        /// Interface, or `u32::MAX` for all.
        sw_if_index: u32,
        /// True to select by name.
        has_name_filter: bool,
        /// Part of the name.
        name_filter: VarString,
    }

    /// An interface.
    SwInterfaceDetails {
        /// Interface.
        sw_if_index: u32,
        /// Interface of which it is a part, or itself.
        sup_sw_if_index: u32,
        /// Ethernet address.
        mac: [u8; 6],
        /// 1: enabled; 2: its link is up.
        flags: u32,
        /// 0 hardware, 1 a part of another...
        kind: u32,
        /// Duplex mode of the link.
        link_duplex: u32,
        /// In kbit/s.
        link_speed: u32,
        /// Largest frame of the hardware.
        link_mtu: u16,
        /// Largest packet above the link layer. VPP's default is 9000.
        mtu: u32,
        /// MTU of IPv4; 0 is `mtu`.
        mtu_ip4: u32,
        /// MTU of IPv6; 0 is `mtu`.
        mtu_ip6: u32,
        /// MTU of MPLS; 0 is `mtu`.
        mtu_mpls: u32,
        /// Tags of a part.
        sub_interface: [u8; 49],
        /// Name.
        name: FixedString<64>,
        /// Driver.
        device: FixedString<64>,
        /// Note of an operator.
        tag: FixedString<64>,
    }
}

messages! {
    SwInterfaceDetails = "sw_interface_details", 0x6c22_1fc7;
}

dumps! {
    SwInterfaceDump = "sw_interface_dump", 0xaa61_0c27 => SwInterfaceDetails;
}

impl SwInterfaceDump {
    /// Lists one interface.
    #[must_use]
    pub const fn of(sw_if_index: u32) -> Self {
        Self { sw_if_index, has_name_filter: false, name_filter: VarString(String::new()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{WireField, WireReader};

    /// Offsets behind the number and the context, which the body lacks.
    #[test]
    fn details_have_offsets_of_vpp() {
        let mut bytes = [0; 289];
        bytes[..4].copy_from_slice(&7u32.to_be_bytes());
        bytes[30..32].copy_from_slice(&9216u16.to_be_bytes());
        bytes[32..36].copy_from_slice(&1500u32.to_be_bytes());
        bytes[97..101].copy_from_slice(b"eth0");
        bytes[161..165].copy_from_slice(b"dpdk");
        let details = SwInterfaceDetails::get(&mut WireReader::new(&bytes)).unwrap();
        assert_eq!((details.sw_if_index, details.link_mtu, details.mtu), (7, 9216, 1500));
        assert_eq!((&*details.name.0, &*details.device.0), ("eth0", "dpdk"));
        let mut written = Vec::new();
        details.put(&mut written);
        assert_eq!(written, bytes);
        assert!(SwInterfaceDetails::get(&mut WireReader::new(&bytes[..288])).is_err());
    }
}
