//! What VPP has, what it should have, and the steps from one to the other.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::maglev::table;

/// The protocol number by which VPP marks a VIP for all protocols and ports.
pub const ANY_PROTOCOL: u8 = 255;

/// What VPP knows a VIP by. Sorts in the numeric order of the addresses, IPv4 first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VipKey {
    /// The prefix's address, without host bits.
    pub address: IpAddr,
    /// The prefix's length: 32 or 128 for every VIP of ours.
    pub prefix_len: u8,
    /// The IP protocol number, or [`ANY_PROTOCOL`].
    pub protocol: u8,
    /// The port; 0 with [`ANY_PROTOCOL`].
    pub port: u16,
}

impl VipKey {
    /// A VIP of one address.
    #[must_use]
    pub const fn host(address: IpAddr, protocol: u8, port: u16) -> Self {
        let prefix_len = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix_len, protocol, port }
    }

    /// Whether both are of one prefix, where VPP forbids some combinations.
    #[must_use]
    pub fn same_prefix(&self, other: &Self) -> bool {
        (self.address, self.prefix_len) == (other.address, other.prefix_len)
    }

    /// The protocol as users write it: `any`, `tcp`, `udp`, or its number.
    #[must_use]
    pub fn protocol_name(&self) -> alloc::string::String {
        match self.protocol {
            ANY_PROTOCOL => "any".into(),
            6 => "tcp".into(),
            17 => "udp".into(),
            other => alloc::format!("{other}"),
        }
    }

    /// The prefix as users write it: without its length when that is the whole address.
    #[must_use]
    pub fn prefix(&self) -> alloc::string::String {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix_len == whole {
            alloc::format!("{}", self.address)
        } else {
            alloc::format!("{}/{}", self.address, self.prefix_len)
        }
    }
}

impl fmt::Display for VipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix())?;
        if self.protocol == ANY_PROTOCOL {
            return Ok(());
        }
        write!(f, " {}/{}", self.protocol_name(), self.port)
    }
}

/// How packets travel from VPP to a server.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Encap {
    /// GRE over IPv4.
    Gre4,
    /// GRE over IPv6.
    Gre6,
    /// Direct return by DSCP. Never ours.
    L3dsr,
    /// Address translation over IPv4. Never ours.
    Nat4,
    /// Address translation over IPv6. Never ours.
    Nat6,
}

impl fmt::Display for Encap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gre4 => "gre4",
            Self::Gre6 => "gre6",
            Self::L3dsr => "l3dsr",
            Self::Nat4 => "nat4",
            Self::Nat6 => "nat6",
        })
    }
}

/// The plugin's global settings (`lb_conf`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LbConf {
    /// The outer source address of GRE over IPv4; all ones when none is set.
    pub ipv4_src: Ipv4Addr,
    /// The outer source address of GRE over IPv6; all ones when none is set.
    pub ipv6_src: Ipv6Addr,
    /// A power of two. VPP accepts 0 and dies of it at the next packet.
    pub sticky_buckets_per_core: u32,
    /// In seconds.
    pub flow_timeout: u32,
}

/// What VPP was last seen to have. Servers and VIPs that are removed and only linger are not in it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ActualState {
    /// The global settings.
    pub conf: Option<LbConf>,
    /// The VIPs.
    pub vips: BTreeMap<VipKey, ActualVip>,
}

impl ActualState {
    /// Whether a VIP gives a server weight.
    #[must_use]
    pub fn serves(&self, vip: &VipKey, server: &IpAddr) -> bool {
        self.vips.get(vip).is_some_and(|found| found.serves(server))
    }
}

/// One VIP in VPP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActualVip {
    /// How packets travel to its servers.
    pub encap: Encap,
    /// The length of its new-flow table; `None` where VPP does not tell (its 16 bits cannot hold 65,536 and more).
    pub table_length: Option<u32>,
    /// As far as anybody knows: VPP's API does not tell, only its command line.
    pub src_ip_sticky: Option<bool>,
    /// Its servers.
    pub servers: BTreeMap<IpAddr, ActualAs>,
}

impl ActualVip {
    /// Whether it gives a server weight.
    #[must_use]
    pub fn serves(&self, server: &IpAddr) -> bool {
        self.servers.get(server).is_some_and(|server| server.weight > 0)
    }

    /// Works out how many entries of the new-flow table each server has now, where the table's length is known.
    pub fn recompute_buckets(&mut self) {
        let Some(length) = self.table_length else { return };
        let servers: Vec<_> =
            self.servers.iter().map(|(server, s)| (table::address_bytes(*server), s.weight)).collect();
        for (server, buckets) in self.servers.values_mut().zip(table::bucket_counts(&servers, length)) {
            server.buckets = buckets;
        }
    }

    /// The weight of each server.
    #[must_use]
    pub fn weights(&self) -> Vec<(IpAddr, u8)> {
        self.servers.iter().map(|(server, s)| (*server, s.weight)).collect()
    }
}

/// One server of a VIP in VPP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ActualAs {
    /// Its share of new flows, relative to the other servers'.
    pub weight: u8,
    /// How many entries of the new-flow table are its own.
    pub buckets: u32,
}

/// What a VIP should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DesiredVip {
    /// How packets travel to its servers.
    pub encap: Encap,
    /// Whether flows are told apart by their addresses alone.
    pub src_ip_sticky: bool,
    /// The length that its new-flow table is created with, a power of two.
    pub table_length: u32,
    /// Its servers.
    pub servers: BTreeMap<IpAddr, DesiredAs>,
}

/// What a server of a VIP should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DesiredAs {
    /// Its weight in VPP.
    pub weight: u8,
    /// Whether the flows that it has are to be flushed, once.
    pub flush: bool,
}

/// One call to VPP. Every one of them stops VPP's workers for as long as it takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Creates the VIP.
    CreateVip {
        /// How packets travel to its servers.
        encap: Encap,
        /// Whether flows are told apart by their addresses alone.
        src_ip_sticky: bool,
        /// The length of its new-flow table.
        table_length: u32,
    },
    /// Adds a server.
    AddAs {
        /// The server.
        server: IpAddr,
        /// Its weight.
        weight: u8,
    },
    /// Changes a server's weight.
    SetWeight {
        /// The server.
        server: IpAddr,
        /// The weight that VPP has.
        from: u8,
        /// The weight that it gets.
        to: u8,
        /// Whether its flows are flushed.
        flush: bool,
    },
    /// Removes a server, and flushes its flows.
    RemoveAs {
        /// The server.
        server: IpAddr,
    },
    /// Removes the VIP.
    RemoveVip,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateVip { encap, src_ip_sticky, table_length } => {
                let sticky = if *src_ip_sticky { " src-ip-sticky" } else { "" };
                write!(f, "create vip {encap} table {table_length}{sticky}")
            }
            Self::AddAs { server, weight } => write!(f, "add {server} weight {weight}"),
            Self::SetWeight { server, from, to, flush } => {
                let flush = if *flush { " flush" } else { "" };
                write!(f, "set {server} weight {from} -> {to}{flush}")
            }
            Self::RemoveAs { server } => write!(f, "remove {server} flush"),
            Self::RemoveVip => f.write_str("remove vip"),
        }
    }
}

/// The steps for one VIP, to be made in order, until one fails.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VipPlan {
    /// The VIP.
    pub vip: VipKey,
    /// What is called, in this order; not empty.
    pub steps: Vec<Step>,
}
