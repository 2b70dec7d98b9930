//! Data that a task publishes for the daemon's clients. A leaf module: producers and consumers both depend on it, and it
//! depends on neither.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use maglev_core::dataplane::{ActualState, VipKey};
use maglev_vpp::stats::CombinedCounter;

/// Status of persistence.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PersistStatus {
    /// Newest write on disk.
    pub number: u64,
    /// Newest write attempted.
    pub attempted: u64,
    /// Reason for which a restart would lose writes after `number`; empty if none is known.
    pub error: String,
}

/// State of VPP, read for a client.
#[derive(Clone, Debug)]
pub struct VppReading {
    /// Observed state.
    pub actual: ActualState,
    /// Flows of each VIP's servers, expired ones included, as far as VPP reports them.
    pub flows: BTreeMap<(VipKey, IpAddr), u64>,
}

/// Traffic counters of VPP's VIPs and servers. Keys are those of the [`ActualState`] at the time.
#[derive(Clone, Debug)]
pub struct TrafficCounters {
    /// Time of the read.
    pub at: SystemTime,
    /// Received traffic per VIP.
    pub vips: BTreeMap<VipKey, VipCounters>,
    /// Sent traffic per server, of all VIPs together.
    pub servers: BTreeMap<IpAddr, CombinedCounter>,
    /// Packets to addresses of VIPs that belong to no VIP, all dropped; `None` before VPP's first VIP.
    pub strays: Option<u64>,
}

/// Received traffic of a VIP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VipCounters {
    /// Packets by kind; `None` if their index is unknown.
    pub packets: Option<VipPackets>,
    /// Traffic of the VIP's prefix, all ports together.
    pub route: Option<CombinedCounter>,
    /// Sum of its servers' weights in VPP. At 0, VPP drops its untracked packets, too.
    pub weight: u32,
}

/// Packets of a VIP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VipPackets {
    /// Packets of existing flows.
    pub next: u64,
    /// First packets of flows.
    pub first: u64,
    /// Packets without room in the flow table.
    pub untracked: u64,
    /// Packets dropped without a server.
    pub no_server: u64,
}
