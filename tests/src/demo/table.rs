//! VPP's table of servers, read from VPP itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use maglev_vpp::message::LbAsV2Dump;
use maglev_vpp::{Error, VppClient};

/// VPP's servers by address. The demo has one VIP, so addresses are unique.
pub type ServerTable = BTreeMap<IpAddr, TableEntry>;

/// One server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// Weight, its share of new flows relative to the others.
    pub weight: u8,
    /// Number of its buckets in the Maglev table.
    pub buckets: u32,
}

/// Reads the table.
///
/// # Errors
/// If VPP does not answer.
pub async fn read(vpp: &VppClient) -> Result<ServerTable, Error> {
    let servers = vpp.dump(&LbAsV2Dump::all()).await?;
    let in_use = servers.into_iter().filter(maglev_vpp::message::LbAsV2Details::is_in_use);
    Ok(in_use.map(|s| (s.address, TableEntry { weight: s.weight, buckets: s.num_buckets })).collect())
}
