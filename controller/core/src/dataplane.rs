//! The actual and the desired state of VPP, and the steps between them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::maglev::table;

/// Protocol number of a VIP for all protocols and ports.
pub const ANY_PROTOCOL: u8 = 255;

/// VPP's key of a VIP. Sorts by address, IPv4 first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VipKey {
    /// Address of the prefix, without host bits.
    pub address: IpAddr,
    /// Length of the prefix: 32 or 128 for a configured VIP.
    pub prefix_len: u8,
    /// IP protocol number, or [`ANY_PROTOCOL`].
    pub protocol: u8,
    /// Port; 0 with [`ANY_PROTOCOL`].
    pub port: u16,
}

impl VipKey {
    /// Returns the key of a VIP with one address.
    #[must_use]
    pub const fn host(address: IpAddr, protocol: u8, port: u16) -> Self {
        let prefix_len = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix_len, protocol, port }
    }

    /// Reports whether both have the same prefix, where VPP rejects some combinations.
    #[must_use]
    pub fn same_prefix(&self, other: &Self) -> bool {
        (self.address, self.prefix_len) == (other.address, other.prefix_len)
    }

    /// Returns the protocol as users write it: `any`, `tcp`, `udp`, or its number.
    #[must_use]
    pub fn protocol_name(&self) -> alloc::string::String {
        match self.protocol {
            ANY_PROTOCOL => "any".into(),
            6 => "tcp".into(),
            17 => "udp".into(),
            other => alloc::format!("{other}"),
        }
    }

    /// Returns the prefix as users write it: without the length of a single address.
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

/// Encapsulation of packets from VPP to a server.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Encap {
    /// GRE over IPv4.
    Gre4,
    /// GRE over IPv6.
    Gre6,
    /// Direct return by DSCP. Never configured here.
    L3dsr,
    /// Address translation over IPv4. Never configured here.
    Nat4,
    /// Address translation over IPv6. Never configured here.
    Nat6,
}

impl Encap {
    /// Returns the number of bytes that it adds to a packet.
    #[must_use]
    pub const fn overhead(self) -> u32 {
        match self {
            Self::Gre4 => 24,
            Self::Gre6 => 44,
            Self::L3dsr | Self::Nat4 | Self::Nat6 => 0,
        }
    }

    /// Reports whether VPP accepts a server with that address.
    #[must_use]
    pub const fn carries(self, server: IpAddr) -> bool {
        matches!(self, Self::Gre6 | Self::Nat6) == server.is_ipv6()
    }
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

/// Global settings of the plugin (`lb_conf`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LbConf {
    /// Outer source address of GRE over IPv4; all ones if unset.
    pub ipv4_src: Ipv4Addr,
    /// Outer source address of GRE over IPv6; all ones if unset.
    pub ipv6_src: Ipv6Addr,
    /// A power of two.
    pub sticky_buckets_per_core: u32,
    /// In seconds.
    pub flow_timeout: u32,
}

/// Memory of a VPP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VppMemory {
    /// Size of its main heap, in bytes.
    pub total: u64,
    /// Free part of it, in bytes.
    pub free: u64,
    /// Number of its worker threads; 0 if the main thread forwards.
    pub workers: u32,
}

/// State of VPP as read. Removed VIPs and servers that VPP still lists until its garbage collection are left out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ActualState {
    /// Global settings.
    pub conf: Option<LbConf>,
    /// VIPs.
    pub vips: BTreeMap<VipKey, ActualVip>,
}

impl ActualState {
    /// Reports whether a VIP gives a server weight.
    #[must_use]
    pub fn serves(&self, vip: &VipKey, server: &IpAddr) -> bool {
        self.vips.get(vip).is_some_and(|found| found.serves(server))
    }

    /// Applies the changes from the observation `before` to the later one `after`, of the same VPP.
    pub fn apply_changes(&mut self, before: &Self, after: &Self) {
        if before.conf != after.conf {
            self.conf = after.conf;
        }
        for vip in before.vips.keys().filter(|vip| !after.vips.contains_key(vip)) {
            self.vips.remove(vip);
        }
        for (vip, found) in after.vips.iter().filter(|(vip, found)| before.vips.get(vip) != Some(found)) {
            self.vips.insert(*vip, found.clone());
        }
    }
}

/// One VIP in VPP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActualVip {
    /// Encapsulation of packets to its servers.
    pub encap: Encap,
    /// Length of its new-flow table; `None` if VPP cannot report it (16 bits do not hold 65,536 and more).
    pub table_length: Option<u32>,
    /// src-ip-sticky, if known: VPP's API does not report it, only its command line.
    pub src_ip_sticky: Option<bool>,
    /// Servers.
    pub servers: BTreeMap<IpAddr, ActualAs>,
}

impl ActualVip {
    /// Reports whether it gives a server weight.
    #[must_use]
    pub fn serves(&self, server: &IpAddr) -> bool {
        self.servers.get(server).is_some_and(|server| server.weight > 0)
    }

    /// Recomputes the buckets of each server, if the length of the table is known.
    pub fn recompute_buckets(&mut self) {
        let Some(length) = self.table_length else { return };
        let servers: Vec<_> =
            self.servers.iter().map(|(server, s)| (table::address_bytes(*server), s.weight)).collect();
        for (server, buckets) in self.servers.values_mut().zip(table::bucket_counts(&servers, length)) {
            server.buckets = buckets;
        }
    }

    /// Returns the weight of each server.
    #[must_use]
    pub fn weights(&self) -> Vec<(IpAddr, u8)> {
        self.servers.iter().map(|(server, s)| (*server, s.weight)).collect()
    }
}

/// One server of a VIP in VPP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ActualAs {
    /// Share of new flows, relative to the other servers'.
    pub weight: u8,
    /// Number of its entries in the new-flow table.
    pub buckets: u32,
}

/// Desired state of a VIP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DesiredVip {
    /// Encapsulation of packets to its servers.
    pub encap: Encap,
    /// True if a flow is identified by its addresses alone.
    pub src_ip_sticky: bool,
    /// Length with which its new-flow table is created, a power of two.
    pub table_length: u32,
    /// Servers.
    pub servers: BTreeMap<IpAddr, DesiredAs>,
}

/// Desired state of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DesiredAs {
    /// Weight in VPP.
    pub weight: u8,
    /// True if its flows are flushed, once.
    pub flush: bool,
}

/// One call to VPP. Each call stops VPP's workers while it runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Creates the VIP.
    CreateVip {
        /// Encapsulation of packets to its servers.
        encap: Encap,
        /// True if a flow is identified by its addresses alone.
        src_ip_sticky: bool,
        /// Length of its new-flow table.
        table_length: u32,
    },
    /// Adds a server.
    AddAs {
        /// The server.
        server: IpAddr,
        /// Weight.
        weight: u8,
    },
    /// Changes a server's weight.
    SetWeight {
        /// The server.
        server: IpAddr,
        /// Weight before.
        from: u8,
        /// Weight after.
        to: u8,
        /// True if its flows are flushed.
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

/// Steps for one VIP, applied in order until one fails.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VipPlan {
    /// The VIP.
    pub vip: VipKey,
    /// Steps in order; not empty.
    pub steps: Vec<Step>,
}
