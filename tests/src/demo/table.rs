//! VPP's table of servers, read from VPP itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use maglev_vpp::message::LbAsV2Dump;
use maglev_vpp::{Client, Error};

/// The servers that VPP has, by address. The demo has one VIP, so no address is there twice.
pub type Table = BTreeMap<IpAddr, Entry>;

/// One server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its share of new flows, relative to the others.
    pub weight: u8,
    /// How many buckets of the Maglev table are its own.
    pub buckets: u32,
}

/// Asks VPP.
///
/// # Errors
/// VPP does not answer.
pub async fn read(vpp: &Client) -> Result<Table, Error> {
    let servers = vpp.dump(&LbAsV2Dump::all()).await?;
    let in_use = servers.into_iter().filter(maglev_vpp::message::LbAsV2Details::in_use);
    Ok(in_use.map(|s| (s.address, Entry { weight: s.weight, buckets: s.num_buckets })).collect())
}
