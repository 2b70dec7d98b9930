//! VPP's surroundings of a VIP: the interfaces towards its servers, and the subnet that has its address.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::dataplane::{Encap, VipKey};

/// MTU of VPP's interfaces unless somebody sets it.
pub const DEFAULT_MTU: u32 = 9000;
/// Largest packet of most clients.
const CLIENT_PACKET: u32 = 1500;

/// Interfaces and subnet of one VIP.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Surroundings {
    /// MTUs of VPP's interfaces towards the servers, by interface.
    pub mtus: BTreeMap<String, u32>,
    /// Prefix of an interface of VPP that contains the VIP.
    pub subnet: Option<String>,
}

impl Surroundings {
    /// Returns the conditions that may lose packets of `vip`. VPP does not count such losses.
    #[must_use]
    pub fn notes(&self, vip: &VipKey, encap: Encap) -> Vec<String> {
        let mtus = self.mtus.iter().filter_map(|(name, mtu)| mtu_note(name, *mtu, encap));
        mtus.chain(self.subnet.as_deref().map(|subnet| subnet_note(subnet, vip))).collect()
    }
}

fn mtu_note(name: &str, mtu: u32, encap: Encap) -> Option<String> {
    let overhead = encap.overhead();
    let room = mtu.saturating_sub(overhead);
    let effect = match encap {
        _ if mtu == DEFAULT_MTU => {
            "VPP's default: if its link carries less, large packets are lost and not counted".into()
        }
        _ if overhead == 0 || room >= CLIENT_PACKET => return None,
        Encap::Gre4 => format!("packets of more than {room} bytes leave VPP in fragments"),
        _ => format!("VPP drops packets of more than {room} bytes, and no client learns of it"),
    };
    Some(format!("VPP's interface {name} towards the servers has an MTU of {mtu}: {effect}"))
}

fn subnet_note(subnet: &str, vip: &VipKey) -> String {
    let protocol = if vip.address.is_ipv4() { "ARP requests" } else { "neighbour solicitations" };
    format!(
        "{subnet}, a subnet of VPP's interface, contains the VIP, but VPP answers no {protocol} for it: its routers need a route"
    )
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn notes(mtu: u32, encap: Encap) -> Vec<String> {
        let vip = VipKey::host(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 80)), 6, 80);
        Surroundings { mtus: [("eth0".into(), mtu)].into(), subnet: None }.notes(&vip, encap)
    }

    #[test]
    fn mtu_with_room_has_no_note() {
        for (mtu, encap) in
            [(1524, Encap::Gre4), (1544, Encap::Gre6), (8999, Encap::Gre6), (1500, Encap::L3dsr)]
        {
            assert_eq!(notes(mtu, encap), Vec::<String>::new(), "{mtu} {encap}");
        }
    }

    #[test]
    fn default_or_narrow_mtu_is_noted() {
        for (mtu, encap, effect) in [
            (9000, Encap::Gre4, "VPP's default"),
            (1523, Encap::Gre4, "more than 1499 bytes leave VPP in fragments"),
            (1500, Encap::Gre6, "drops packets of more than 1456 bytes"),
            (0, Encap::Gre6, "drops packets of more than 0 bytes"),
        ] {
            let notes = notes(mtu, encap);
            assert!(matches!(&*notes, [note] if note.contains(effect)), "{mtu} {encap}: {notes:?}");
        }
    }

    #[test]
    fn connected_subnet_is_noted() {
        let vip = VipKey::host(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 80)), 6, 80);
        let found = Surroundings { subnet: Some("198.51.100.0/24".into()), ..Surroundings::default() };
        assert!(found.notes(&vip, Encap::Gre4)[0].starts_with("198.51.100.0/24, a subnet"));
    }
}
