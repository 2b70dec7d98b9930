//! Reads VPP's surroundings: the interfaces towards servers with their MTUs, and the subnets that contain VIPs.
//!
//! Each look-up stops VPP's workers, so a round asks for a few addresses, and the results are kept for long.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use maglev_core::dataplane::{ActualState, VipKey};
use maglev_core::surroundings::Surroundings;
use maglev_vpp::message::{
    FibPath, IpRouteLookupV2, IpRouteLookupV2Reply, Prefix, SOURCE_INTERFACE, SwInterfaceDetails,
    SwInterfaceDump,
};
use maglev_vpp::{Error, VppClient};
use tokio::time::Instant;

/// Time for which results are kept.
const KEEP: Duration = Duration::from_secs(600);
/// Largest number of addresses, and of interfaces, in one round.
const BATCH: usize = 8;
/// Largest number of routes that lead to one another.
const MAX_DEPTH: usize = 3;
/// Interface of a path without one.
const NO_INTERFACE: u32 = u32::MAX;

/// Results so far.
#[derive(Debug, Default)]
pub struct SurroundingsReader {
    /// Interfaces towards each server.
    servers: BTreeMap<IpAddr, BTreeSet<u32>>,
    /// Subnet of each VIP's address.
    subnets: BTreeMap<IpAddr, Option<Prefix>>,
    /// Name and MTU of interfaces; `None` if VPP does not return them.
    interfaces: BTreeMap<u32, Option<(String, u32)>>,
    /// End of the time for which complete results are kept.
    expires: Option<Instant>,
}

impl SurroundingsReader {
    /// Asks for a few missing results. Returns the surroundings of all VIPs once they are complete.
    ///
    /// # Errors
    /// VPP is lost.
    pub async fn read(
        &mut self,
        client: &VppClient,
        actual: &ActualState,
    ) -> Result<Option<BTreeMap<VipKey, Surroundings>>, Error> {
        let now = Instant::now();
        if self.expires.is_some_and(|expires| expires <= now) {
            *self = Self::default();
        }
        let servers: BTreeSet<IpAddr> =
            actual.vips.values().flat_map(|found| found.servers.keys()).copied().collect();
        let vips: BTreeSet<IpAddr> = actual.vips.keys().map(|vip| vip.address).collect();
        self.servers.retain(|server, _| servers.contains(server));
        self.subnets.retain(|vip, _| vips.contains(vip));
        let missing: Vec<_> = servers.iter().filter(|server| !self.servers.contains_key(server)).collect();
        for server in missing.iter().take(BATCH) {
            self.servers.insert(**server, egress(client, **server).await?);
        }
        let unknown: Vec<_> = vips.iter().filter(|vip| !self.subnets.contains_key(vip)).collect();
        for vip in unknown.iter().take(BATCH) {
            self.subnets.insert(**vip, connected_subnet(client, **vip).await?);
        }
        let used: BTreeSet<u32> = self.servers.values().flatten().copied().collect();
        let unread: Vec<_> = used.iter().filter(|index| !self.interfaces.contains_key(index)).collect();
        for index in unread.iter().take(BATCH) {
            self.interfaces.insert(**index, interface(client, **index).await?);
        }
        if missing.len().max(unknown.len()).max(unread.len()) > BATCH {
            return Ok(None);
        }
        self.expires.get_or_insert(now + KEEP);
        let keys = actual.vips.iter();
        Ok(Some(keys.map(|(vip, found)| (*vip, self.of_vip(vip, found.servers.keys()))).collect()))
    }

    fn of_vip<'a>(&self, vip: &VipKey, servers: impl Iterator<Item = &'a IpAddr>) -> Surroundings {
        let indexes = servers.filter_map(|server| self.servers.get(server)).flatten();
        Surroundings {
            mtus: indexes.filter_map(|index| self.interfaces.get(index)?.clone()).collect(),
            subnet: self.subnets.get(&vip.address).copied().flatten().map(|subnet| subnet.to_string()),
        }
    }
}

/// Returns the interfaces by which VPP reaches an address.
async fn egress(client: &VppClient, address: IpAddr) -> Result<BTreeSet<u32>, Error> {
    let (mut found, mut next) = (BTreeSet::new(), vec![address]);
    for _ in 0..MAX_DEPTH {
        let Some(address) = next.pop() else { break };
        let Some(route) = look_up(client, Prefix::host(address)).await? else { continue };
        let with_interface = route.paths.iter().filter(|path| path.sw_if_index != NO_INTERFACE);
        found.extend(with_interface.map(|path| path.sw_if_index));
        let recursive = route.paths.iter().filter(|path| path.sw_if_index == NO_INTERFACE);
        next.extend(recursive.filter_map(FibPath::gateway).filter(|gateway| *gateway != address));
    }
    Ok(found)
}

/// Returns the subnet of one of VPP's interfaces that contains the address and is longer than it.
async fn connected_subnet(client: &VppClient, address: IpAddr) -> Result<Option<Prefix>, Error> {
    let host = Prefix::host(address);
    let around = Prefix { len: host.len - 1, ..host };
    let route = look_up(client, around).await?;
    Ok(route.filter(|route| route.source == SOURCE_INTERFACE).map(|route| route.prefix))
}

async fn look_up(client: &VppClient, prefix: Prefix) -> Result<Option<IpRouteLookupV2Reply>, Error> {
    match client.request(&IpRouteLookupV2::longest_match(prefix)).await {
        Ok(reply) => Ok(Some(reply)),
        Err(Error::Refused { .. }) => Ok(None),
        Err(lost) => Err(lost),
    }
}

/// Returns the name and the MTU of an interface. A VPP without the message has none.
async fn interface(client: &VppClient, index: u32) -> Result<Option<(String, u32)>, Error> {
    match client.dump(&SwInterfaceDump::of(index)).await {
        Ok(records) => {
            let found = records.into_iter().find(|found| found.sw_if_index == index);
            Ok(found.map(|SwInterfaceDetails { name, mtu, .. }| (name.0, mtu)))
        }
        Err(Error::Unsupported { .. }) => Ok(None),
        Err(lost) => Err(lost),
    }
}
