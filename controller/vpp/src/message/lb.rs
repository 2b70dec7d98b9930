//! The lb plugin.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{LbEncapType, Prefix, Vip, VipFilter};

/// Value in [`LbConf`] that keeps the current setting.
pub const KEEP: u32 = u32::MAX;

/// Flag in [`LbAsV2Details::flags`] of an application server in use. A record without it is a ghost: a removed server that
/// VPP has not collected yet.
pub const FLAG_IN_USE: u8 = 1;

/// Largest accepted new-flow table. VPP takes 2^24 buckets, and runs out of memory and dies with 2^30.
pub const MAX_TABLE_LENGTH: u32 = 1 << 24;

fields! {
    /// Sets the global parameters, all at once.
    LbConf {
        /// Source of the packets sent to IPv4 servers.
        ip4_src: Ipv4Addr,
        /// Source of the packets sent to IPv6 servers.
        ip6_src: Ipv6Addr,
        /// Buckets of 4 flows per thread: a power of two, or [`KEEP`]. Never 0. A change drops all flows.
        sticky_buckets: u32,
        /// Seconds after which VPP drops an idle flow, or [`KEEP`].
        flow_timeout: u32,
    }

    /// Requests the global parameters.
    LbConfGet {}

    /// Adds or deletes a VIP. A VIP cannot be changed.
    LbAddDelVipV2 {
        /// -81 if it exists, or conflicts with one of all ports; -6 for the deletion of one that does not exist.
        vip: Vip,
        /// -73 if another port of the prefix has a different one.
        encap: LbEncapType,
        /// L3DSR only.
        dscp: u8,
        /// NAT only. VPP reads it in host order, so 1 is not NODEPORT.
        srv_type: u32,
        /// NAT only.
        target_port: u16,
        /// Ignored by VPP.
        node_port: u16,
        /// A power of two; others are refused with -70. Never 0.
        new_flows_table_length: u32,
        /// Identify flows by addresses alone.
        src_ip_sticky: bool,
        /// Delete the VIP. VPP ignores the encapsulation and the length.
        is_del: bool,
    }

    /// Adds or deletes an application server of a VIP.
    LbAddDelAsV2 {
        /// -6 if it does not exist.
        vip: Vip,
        /// -97 if its family differs from that of the encapsulation; -81 if it exists (VPP keeps its weight); -6 for the
        /// deletion of one that does not exist.
        address: IpAddr,
        /// Share of new flows.
        weight: u8,
        /// Delete the server.
        is_del: bool,
        /// Drop its flows.
        is_flush: bool,
    }

    /// Changes the share of new flows of an application server.
    LbAsSetWeight {
        /// -6 if it does not exist.
        vip: Vip,
        /// -6 if it does not exist or is a ghost.
        address: IpAddr,
        /// 0 drains the server: flows continue, new ones go elsewhere.
        weight: u8,
        /// Drop its flows.
        is_flush: bool,
    }

    /// Drops all flows of a VIP. For a VIP that does not exist, VPP also replies 0, and may drop the flows of another.
    LbFlushVip {
        /// Must exist.
        vip: Vip,
    }

    /// Lists all VIPs except removed ones. VPP ignores the filter.
    LbVipDump {
        /// Unused.
        prefix: Prefix,
        /// Unused.
        matcher_le: u8,
        /// Unused.
        matcher_ge: u8,
        /// Unused.
        protocol: u8,
        /// Unused.
        port: u16,
    }

    /// A VIP.
    LbVipDetails {
        /// Identity of the VIP.
        vip: Vip,
        /// Encapsulation to its servers.
        encap: LbEncapType,
        /// L3DSR only, else garbage.
        dscp: u8,
        /// NAT only, and in little-endian order; else garbage.
        srv_type: u32,
        /// NAT only, and byte-swapped; else garbage.
        target_port: u16,
        /// Low 16 bits of the length: 0 for 65,536 and more.
        flow_table_length: u16,
    }

    /// Lists application servers, including ghosts and those of removed VIPs.
    LbAsV2Dump {
        /// The VIP.
        filter: VipFilter,
        /// 255 for a VIP of all ports.
        protocol: u8,
        /// Port of the VIP.
        port: u16,
    }

    /// An application server of a VIP.
    LbAsV2Details {
        /// The VIP, possibly removed.
        vip: Vip,
        /// The server.
        address: IpAddr,
        /// See [`FLAG_IN_USE`].
        flags: u8,
        /// Time of the last removal, despite its name, in seconds since VPP's start. After reuse of a slot, the removal of the
        /// slot's previous server.
        in_use_since: u32,
        /// Share of new flows.
        weight: u8,
        /// Number of its buckets in the new-flow table.
        num_buckets: u32,
    }
}

replies! {
    /// The parameters are set.
    LbConfReply = "lb_conf_reply", 0xe8d4_e804 {}

    /// The global parameters, see [`LbConf`].
    LbConfGetReply = "lb_conf_get_reply", 0x9234_27ac {
        /// 255.255.255.255 until set.
        ip4_src: Ipv4Addr,
        /// All ones until set.
        ip6_src: Ipv6Addr,
        /// 1024 until set.
        sticky_buckets: u32,
        /// 40 until set.
        flow_timeout: u32,
    }

    /// The VIP is added or deleted.
    LbAddDelVipV2Reply = "lb_add_del_vip_v2_reply", 0xe8d4_e804 {}

    /// The server is added or deleted.
    LbAddDelAsV2Reply = "lb_add_del_as_v2_reply", 0xe8d4_e804 {}

    /// The weight is set.
    LbAsSetWeightReply = "lb_as_set_weight_reply", 0xe8d4_e804 {}

    /// The flows are dropped.
    LbFlushVipReply = "lb_flush_vip_reply", 0xe8d4_e804 {}
}

requests! {
    LbConf = "lb_conf", 0x56cd_3261 => LbConfReply, hazard: LbConf::excess;
    LbConfGet = "lb_conf_get", 0x5107_7d14 => LbConfGetReply;
    LbAddDelVipV2 = "lb_add_del_vip_v2", 0x7c52_0e0f => LbAddDelVipV2Reply, hazard: LbAddDelVipV2::excess;
    LbAddDelAsV2 = "lb_add_del_as_v2", 0x2f1d_3b0e => LbAddDelAsV2Reply, hazard: LbAddDelAsV2::excess;
    LbAsSetWeight = "lb_as_set_weight", 0x2d89_bdbd => LbAsSetWeightReply, hazard: LbAsSetWeight::excess;
    LbFlushVip = "lb_flush_vip", 0x1063_f819 => LbFlushVipReply, hazard: LbFlushVip::excess;
}

dumps! {
    LbVipDump = "lb_vip_dump", 0x5611_0cb7 => LbVipDetails;
    LbAsV2Dump = "lb_as_v2_dump", 0x1063_f819 => LbAsV2Details;
}

messages! {
    LbVipDetails = "lb_vip_details", 0x1329_ec9b;
    LbAsV2Details = "lb_as_v2_details", 0x9006_4aae;
}

impl LbConf {
    fn excess(&self) -> Option<&'static str> {
        (self.sticky_buckets == 0).then_some("no sticky buckets")
    }
}

impl LbAddDelVipV2 {
    /// Adds a VIP.
    #[must_use]
    pub const fn add(vip: Vip, encap: LbEncapType, new_flows_table_length: u32, src_ip_sticky: bool) -> Self {
        Self { encap, new_flows_table_length, src_ip_sticky, is_del: false, ..Self::delete(vip) }
    }

    /// Deletes a VIP and its servers. Their flows and the ghosts stay unless flushed before.
    #[must_use]
    pub const fn delete(vip: Vip) -> Self {
        Self {
            vip,
            encap: LbEncapType::Gre4,
            dscp: 0,
            srv_type: 0,
            target_port: 0,
            node_port: 0,
            new_flows_table_length: 0,
            src_ip_sticky: false,
            is_del: true,
        }
    }

    fn excess(&self) -> Option<&'static str> {
        let nat = matches!(self.encap, LbEncapType::Nat4 | LbEncapType::Nat6);
        match self.new_flows_table_length {
            _ if self.is_del => self.vip.excess(),
            0 => Some("a table of new flows without a bucket"),
            length if length > MAX_TABLE_LENGTH => Some("a table of new flows larger than VPP's memory"),
            _ if nat && self.vip.port == 0 => Some("NAT without a port"),
            _ => self.vip.excess(),
        }
    }
}

impl LbAddDelAsV2 {
    /// Adds a server, or reactivates a removed one.
    #[must_use]
    pub const fn add(vip: Vip, address: IpAddr, weight: u8) -> Self {
        Self { vip, address, weight, is_del: false, is_flush: false }
    }

    /// Removes a server. Without `is_flush` it stays as a ghost while one of its flows occupies an entry.
    #[must_use]
    pub const fn delete(vip: Vip, address: IpAddr, is_flush: bool) -> Self {
        Self { vip, address, weight: 0, is_del: true, is_flush }
    }

    fn excess(&self) -> Option<&'static str> {
        self.vip.excess()
    }
}

impl LbAsSetWeight {
    fn excess(&self) -> Option<&'static str> {
        self.vip.excess()
    }
}

impl LbFlushVip {
    fn excess(&self) -> Option<&'static str> {
        self.vip.excess()
    }
}

impl LbVipDump {
    /// Lists all VIPs.
    #[must_use]
    pub const fn all() -> Self {
        let prefix = Prefix { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), len: 0 };
        Self { prefix, matcher_le: 0, matcher_ge: 0, protocol: 255, port: 0 }
    }
}

impl LbAsV2Dump {
    /// Lists the servers of all VIPs.
    #[must_use]
    pub const fn all() -> Self {
        Self { filter: VipFilter::ALL, protocol: 0, port: 0 }
    }

    /// Lists the servers of `vip`, and of VIPs that differ in the prefix length only. For `0.0.0.0` and `::`, VPP cannot
    /// filter and lists all servers. So callers must compare the VIP of each record.
    #[must_use]
    pub fn of_vip(vip: &Vip) -> Self {
        let protocol = if vip.port == 0 { 255 } else { vip.protocol };
        Self { filter: VipFilter::of(vip.prefix), protocol, port: vip.port }
    }
}

impl LbAsV2Details {
    /// True for a server in use, false for a ghost.
    #[must_use]
    pub const fn is_in_use(&self) -> bool {
        self.flags & FLAG_IN_USE != 0
    }
}
