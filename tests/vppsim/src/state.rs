//! What the plugin remembers.

use std::net::{Ipv4Addr, Ipv6Addr};

use maglev_vpp::message::Encap;

use super::key::{Address, Key};
use super::pool::Pool;

/// The global parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conf {
    /// Source towards IPv4 servers.
    pub ip4_src: Ipv4Addr,
    /// Source towards IPv6 servers.
    pub ip6_src: Ipv6Addr,
    /// A power of two, or a deadly 0.
    pub sticky_buckets: u32,
    /// In seconds.
    pub flow_timeout: u32,
}

/// A VIP, or what is left of one.
#[derive(Clone, Debug)]
pub(super) struct VipState {
    pub key: Key,
    pub family: Family,
    pub table_length: u32,
    pub src_ip_sticky: bool,
    /// Not removed.
    pub used: bool,
    /// Indexes into the plugin's servers.
    pub servers: Pool<usize>,
    /// By [`Fate`]. They stay in the slot until another VIP takes it.
    pub packets: [u64; 4],
    /// DSCP of L3DSR and service type of NAT share a byte; other VIPs show what the slot held before.
    pub dscp_or_type: u8,
    pub target_port: u16,
    pub last_collection: u32,
}

/// Encapsulation and whether the VIP itself is IPv4: VPP's type of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Family {
    pub is_ipv4: bool,
    pub encap: Encap,
}

/// What becomes of a packet to a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes where its flow goes.
    Next,
    /// It begins a flow.
    First,
    /// It finds no room in the table of flows.
    Untracked,
    /// It is dropped for want of a server.
    NoServer,
}

/// A server of one VIP, or what is left of one.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub address: Address,
    pub weight: u8,
    /// Not removed.
    pub used: bool,
    /// The uptime at the last removal of whoever had this slot.
    pub last_used: u32,
    pub stats_index: u32,
}

/// A flow that sticks to its server. It holds on to the server's slot, also when it has long gone quiet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub vip: usize,
    pub server: usize,
}

impl Family {
    /// An IPv6 VIP with an encapsulation that only IPv4 has, or with none, silently becomes a GRE6 one.
    pub fn of(key: &Key, encap: Encap) -> Self {
        let is_ipv4 = key.network.is_ipv4();
        let encap = match encap {
            Encap::L3dsr | Encap::Nat4 | Encap::Other(_) if !is_ipv4 => Encap::Gre6,
            other => other,
        };
        Self { is_ipv4, encap }
    }

    /// How many bytes longer packets leave than they came.
    pub fn overhead(self) -> u64 {
        match self.encap {
            Encap::Gre4 => 24,
            Encap::Gre6 | Encap::Other(_) => 44,
            Encap::L3dsr | Encap::Nat4 | Encap::Nat6 => 0,
        }
    }

    pub fn is_nat(self) -> bool {
        matches!(self.encap, Encap::Nat4 | Encap::Nat6)
    }
}
