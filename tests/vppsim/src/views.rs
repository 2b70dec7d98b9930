//! The plugin's dumps, and a simpler view for tests.

use std::net::IpAddr;

use maglev_vpp::message::{
    FLAG_IN_USE, LbAsV2Details, LbAsV2Dump, LbConfGetReply, LbEncapType, LbVipDetails, Vip,
};

use super::plugin::LbPlugin;
use super::state::VipState;

/// A VIP, possibly removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipView {
    /// Address, protocol and port.
    pub vip: Vip,
    /// Encapsulation towards its servers.
    pub encap: LbEncapType,
    /// Length of the table of new flows.
    pub table_length: u32,
    /// Flows are identified by source address alone.
    pub src_ip_sticky: bool,
    /// Removed, and not collected yet.
    pub removed: bool,
    /// Servers by slot.
    pub servers: Vec<ServerView>,
}

/// A server of a VIP, possibly removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// Address.
    pub address: IpAddr,
    /// Weight for new flows.
    pub weight: u8,
    /// Number of buckets in the table of new flows.
    pub buckets: u32,
    /// False after removal.
    pub in_use: bool,
    /// Number of flows that are pinned to it.
    pub flows: usize,
}

impl VipView {
    /// Returns the servers in use, with their weights.
    #[must_use]
    pub fn weights(&self) -> Vec<(IpAddr, u8)> {
        self.servers
            .iter()
            .filter(|server| server.in_use)
            .map(|server| (server.address, server.weight))
            .collect()
    }
}

impl LbPlugin {
    /// Returns all VIPs by slot, except the hidden one in slot 0.
    #[must_use]
    pub fn view(&self) -> Vec<VipView> {
        self.visible_vips().map(|(_, vip)| self.view_of(vip)).collect()
    }

    /// Answers `lb_conf_get`.
    #[must_use]
    pub fn conf(&self) -> LbConfGetReply {
        LbConfGetReply {
            retval: 0,
            ip4_src: self.conf.ip4_src,
            ip6_src: self.conf.ip6_src,
            sticky_buckets: self.conf.sticky_buckets,
            flow_timeout: self.conf.flow_timeout,
        }
    }

    /// Answers `lb_vip_dump`, whose filter has no effect.
    #[must_use]
    pub fn vip_details(&self) -> Vec<LbVipDetails> {
        self.visible_vips().filter(|(_, vip)| vip.used).map(|(_, vip)| details(vip)).collect()
    }

    /// Answers `lb_as_v2_dump`.
    #[must_use]
    pub fn server_details(&self, dump: &LbAsV2Dump) -> Vec<LbAsV2Details> {
        let bytes = dump.filter.bytes();
        let wanted = |vip: &VipState| {
            let key = &vip.key;
            let name = (key.network.address.0, key.protocol, key.port);
            bytes == [0; 16] || name == (bytes, dump.protocol, dump.port)
        };
        let vips = self.visible_vips().filter(|(_, vip)| wanted(vip));
        vips.flat_map(|(_, vip)| self.servers_of(vip)).collect()
    }

    /// Returns the VIPs of all slots except the first.
    pub(super) fn visible_vips(&self) -> impl Iterator<Item = (usize, &VipState)> {
        self.vips.iter().filter(|(index, _)| *index != 0)
    }

    fn servers_of(&self, vip: &VipState) -> Vec<LbAsV2Details> {
        let buckets = self.buckets(vip).into_iter();
        let servers = buckets.filter_map(|(index, buckets)| Some((self.servers.get(index)?, buckets)));
        servers
            .map(|(server, num_buckets)| LbAsV2Details {
                vip: vip.key.vip(),
                address: server.address.into(),
                flags: if server.used { FLAG_IN_USE } else { 0 },
                in_use_since: server.last_used,
                weight: server.weight,
                num_buckets,
            })
            .collect()
    }

    fn view_of(&self, vip: &VipState) -> VipView {
        let buckets = self.buckets(vip).into_iter();
        let servers = buckets.filter_map(|(index, buckets)| Some((index, self.servers.get(index)?, buckets)));
        VipView {
            vip: vip.key.vip(),
            encap: vip.family.encap,
            table_length: vip.table_length,
            src_ip_sticky: vip.src_ip_sticky,
            removed: !vip.used,
            servers: servers
                .map(|(index, server, buckets)| ServerView {
                    address: server.address.into(),
                    weight: server.weight,
                    buckets,
                    in_use: server.used,
                    flows: self.flow_count(index),
                })
                .collect(),
        }
    }
}

/// Returns the record with VPP's errors: a length cut to 16 bits, a swapped target port, and a little-endian type.
fn details(vip: &VipState) -> LbVipDetails {
    LbVipDetails {
        vip: vip.key.vip(),
        encap: vip.family.encap,
        dscp: vip.dscp_or_type,
        srv_type: u32::from(vip.dscp_or_type).swap_bytes(),
        target_port: vip.target_port.swap_bytes(),
        flow_table_length: vip.table_length as u16,
    }
}
