//! What the plugin shows of itself: the records of the dumps, and a plainer view for tests.

use std::net::IpAddr;

use maglev_vpp::message::{Encap, FLAG_IN_USE, LbAsV2Details, LbAsV2Dump, LbConfGetReply, LbVipDetails, Vip};

use super::plugin::Plugin;
use super::state::VipState;

/// A VIP, removed ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipView {
    /// Its name.
    pub vip: Vip,
    /// How packets reach its servers.
    pub encap: Encap,
    /// Of the table of new flows.
    pub table_length: u32,
    /// Flows are told apart by addresses alone.
    pub src_ip_sticky: bool,
    /// Removed, and kept until collected.
    pub removed: bool,
    /// In the order of their slots.
    pub servers: Vec<ServerView>,
}

/// A server of a VIP, ghosts included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// Its address.
    pub address: IpAddr,
    /// Its share of new flows.
    pub weight: u8,
    /// Its buckets in the table of new flows.
    pub buckets: u32,
    /// Not removed.
    pub in_use: bool,
    /// How many flows hold on to it.
    pub flows: usize,
}

impl VipView {
    /// The servers in use and their weights.
    #[must_use]
    pub fn weights(&self) -> Vec<(IpAddr, u8)> {
        self.servers
            .iter()
            .filter(|server| server.in_use)
            .map(|server| (server.address, server.weight))
            .collect()
    }
}

impl Plugin {
    /// Every VIP but the hidden one of slot 0, in the order of their slots.
    #[must_use]
    pub fn view(&self) -> Vec<VipView> {
        self.shown_vips().map(|(_, vip)| self.view_of(vip)).collect()
    }

    /// `lb_conf_get`.
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

    /// `lb_vip_dump`, which has no filter that works.
    #[must_use]
    pub fn vip_details(&self) -> Vec<LbVipDetails> {
        self.shown_vips().filter(|(_, vip)| vip.used).map(|(_, vip)| details(vip)).collect()
    }

    /// `lb_as_v2_dump`.
    #[must_use]
    pub fn server_details(&self, dump: &LbAsV2Dump) -> Vec<LbAsV2Details> {
        let bytes = dump.filter.bytes();
        let wanted = |vip: &VipState| {
            let key = &vip.key;
            let name = (key.network.address.0, key.protocol, key.port);
            bytes == [0; 16] || name == (bytes, dump.protocol, dump.port)
        };
        let vips = self.shown_vips().filter(|(_, vip)| wanted(vip));
        vips.flat_map(|(_, vip)| self.servers_of(vip)).collect()
    }

    /// The VIPs of all slots but the first.
    pub(super) fn shown_vips(&self) -> impl Iterator<Item = (usize, &VipState)> {
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
                    flows: self.references(index),
                })
                .collect(),
        }
    }
}

/// With VPP's slips: the length is cut to 16 bits, the target port is swapped, the type is in little-endian order.
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
