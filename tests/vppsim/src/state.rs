//! The state of the plugin.

use std::net::{Ipv4Addr, Ipv6Addr};

use maglev_vpp::message::LbEncapType;

use super::slot_pool::SlotPool;
use super::vip_key::{VipKey, VppAddress};

/// Seconds between two collections, of the whole plugin and of one VIP.
pub(super) const COLLECTION_INTERVAL: u32 = 60;

/// The global parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LbParameters {
    /// Source address towards IPv4 servers.
    pub ip4_src: Ipv4Addr,
    /// Source address towards IPv6 servers.
    pub ip6_src: Ipv6Addr,
    /// A power of two. Flows at 0 are out of bounds.
    pub sticky_buckets: u32,
    /// Flow timeout in seconds.
    pub flow_timeout: u32,
}

/// A VIP, or the remains of a removed one.
#[derive(Clone, Debug)]
pub(super) struct VipState {
    pub key: VipKey,
    pub family: VipType,
    pub table_length: u32,
    pub src_ip_sticky: bool,
    /// False after removal.
    pub used: bool,
    /// Indexes of the plugin's servers.
    pub servers: SlotPool<usize>,
    /// Packet counters by [`PacketOutcome`]. They stay in the slot until another VIP reuses it.
    pub packets: [u64; 4],
    /// DSCP of L3DSR and service type of NAT share a byte. Other VIPs keep the slot's previous value.
    pub dscp_or_type: u8,
    pub target_port: u16,
    pub last_collection: u32,
}

/// VPP's type of a VIP: its encapsulation, and its address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VipType {
    pub is_ipv4: bool,
    pub encap: LbEncapType,
}

/// The outcome of a packet to a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketOutcome {
    /// It follows an existing flow.
    ExistingFlow,
    /// It starts a flow.
    NewFlow,
    /// The flow table has no room for its flow.
    Untracked,
    /// It is dropped, because the VIP has no server.
    NoServer,
}

/// A server of one VIP, or the remains of a removed one.
#[derive(Clone, Debug)]
pub(super) struct LbServer {
    pub address: VppAddress,
    pub weight: u8,
    /// False after removal.
    pub used: bool,
    /// Uptime at the last removal of a server in this slot.
    pub last_used: u32,
    pub stats_index: u32,
}

/// A flow that is pinned to its server. It occupies the server's slot even when idle.
#[derive(Clone, Copy, Debug)]
pub(super) struct StickyFlow {
    pub vip: usize,
    pub server: usize,
}

impl VipType {
    /// Returns the type that VPP makes of `encap`. An IPv6 VIP with an IPv4-only or unknown encapsulation silently becomes
    /// GRE6.
    pub fn of(key: &VipKey, encap: LbEncapType) -> Self {
        let is_ipv4 = key.network.is_ipv4();
        let encap = match encap {
            LbEncapType::L3dsr | LbEncapType::Nat4 | LbEncapType::Other(_) if !is_ipv4 => LbEncapType::Gre6,
            other => other,
        };
        Self { is_ipv4, encap }
    }

    /// Returns the number of bytes that the encapsulation adds to a packet.
    pub fn overhead(self) -> u64 {
        match self.encap {
            LbEncapType::Gre4 => 24,
            LbEncapType::Gre6 | LbEncapType::Other(_) => 44,
            LbEncapType::L3dsr | LbEncapType::Nat4 | LbEncapType::Nat6 => 0,
        }
    }

    pub fn is_nat(self) -> bool {
        matches!(self.encap, LbEncapType::Nat4 | LbEncapType::Nat6)
    }
}
