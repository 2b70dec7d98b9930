//! The routes that the lb plugin makes in VPP's default tables, and what a look-up says of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maglev_vpp::message::{IpRouteLookupV2, IpRouteLookupV2Reply, Path, Prefix, SOURCE_INTERFACE};

use super::key::{Address, Network};
use super::plugin::{Crash, error};
use super::pool::Pool;

/// Sources beyond [`SOURCE_INTERFACE`]. That of the plugin depends on the build.
const SOURCE_LB: u8 = 23;
const SOURCE_RECURSIVE: u8 = 18;
const SOURCE_DEFAULT: u8 = 20;

const NORMAL: u32 = 0;
const LOCAL: u32 = 1;
const DROP: u32 = 2;

/// Routes, and why they are there.
#[derive(Debug, Default)]
pub struct Fib {
    routes: BTreeMap<Network, Route>,
    /// Its slots are the stats indexes. VPP shares their numbers among more objects than routes.
    stats: Pool<()>,
}

#[derive(Debug, Default)]
struct Route {
    stats_index: u32,
    interface: bool,
    vips: usize,
    servers: usize,
}

/// What a look-up found.
struct Found {
    network: Network,
    stats_index: u32,
    source: u8,
    /// What becomes of packets.
    kind: u32,
}

impl Fib {
    /// An address of one of VPP's interfaces.
    pub fn add_interface(&mut self, address: IpAddr) {
        self.route(Network::host(address.into())).interface = true;
    }

    /// A VIP. All ports of a network share its route.
    pub fn add_vip(&mut self, network: Network) {
        self.route(network).vips += 1;
    }

    /// See [`Fib::add_vip`].
    pub fn remove_vip(&mut self, network: Network) {
        self.release(network, |route| &mut route.vips);
    }

    /// A server, of however many VIPs. Its route leads nowhere until the address resolves.
    pub fn add_server(&mut self, address: Address) -> u32 {
        let route = self.route(Network::host(address));
        route.servers += 1;
        route.stats_index
    }

    /// See [`Fib::add_server`].
    pub fn remove_server(&mut self, address: Address) {
        self.release(Network::host(address), |route| &mut route.servers);
    }

    /// Answers a look-up.
    ///
    /// # Errors
    /// See [`Network::new`].
    pub fn look_up(&self, request: &IpRouteLookupV2) -> Result<IpRouteLookupV2Reply, Crash> {
        let wanted = Network::new(&request.prefix)?;
        if request.table_id != 0 {
            return Ok(nothing(error::NO_SUCH_FIB));
        }
        let best = if request.exact == 0 { self.longest_match(wanted) } else { self.exact_match(wanted) };
        let Some(Found { network, stats_index, source, kind }) = best else {
            return Ok(nothing(error::NO_SUCH_ENTRY));
        };
        let is_ipv6 = request.prefix.address.is_ipv6();
        let (prefix, paths) = (shown(network, is_ipv6), vec![path(kind, is_ipv6)]);
        Ok(IpRouteLookupV2Reply { retval: 0, table_id: 0, stats_index, prefix, source, paths })
    }

    fn exact_match(&self, wanted: Network) -> Option<Found> {
        match self.routes.get(&wanted) {
            Some(route) => Some(route.describe(wanted)),
            None if wanted == default_of(wanted) => self.longest_match(wanted),
            None => None,
        }
    }

    fn longest_match(&self, wanted: Network) -> Option<Found> {
        self.routes
            .iter()
            .filter(|(network, _)| network.contains(&wanted))
            .max_by_key(|(network, _)| network.len)
            .map(|(network, route)| route.describe(*network))
            .or_else(|| {
                let network = default_of(wanted);
                Some(Found { network, stats_index: 0, source: SOURCE_DEFAULT, kind: DROP })
            })
    }

    fn route(&mut self, network: Network) -> &mut Route {
        let stats = &mut self.stats;
        self.routes.entry(network).or_insert_with(|| Route {
            stats_index: u32::try_from(stats.insert(|_| ())).unwrap_or(u32::MAX),
            ..Route::default()
        })
    }

    fn release(&mut self, network: Network, count: impl FnOnce(&mut Route) -> &mut usize) {
        let Some(route) = self.routes.get_mut(&network) else { return };
        let count = count(route);
        *count = count.saturating_sub(1);
        if !route.interface && route.vips == 0 && route.servers == 0 {
            self.stats.remove(route.stats_index as usize);
            self.routes.remove(&network);
        }
    }
}

impl Route {
    fn describe(&self, network: Network) -> Found {
        let (source, kind) = match self {
            Self { interface: true, .. } => (SOURCE_INTERFACE, LOCAL),
            Self { vips: 1.., .. } => (SOURCE_LB, NORMAL),
            _ => (SOURCE_RECURSIVE, DROP),
        };
        Found { network, stats_index: self.stats_index, source, kind }
    }
}

fn default_of(wanted: Network) -> Network {
    Network { address: Address([0; 16]), len: if wanted.is_ipv4() { 96 } else { 0 } }
}

/// The table tells the family of a route, where a VIP goes by its address.
fn shown(network: Network, is_ipv6: bool) -> Prefix {
    if is_ipv6 {
        Prefix { address: Ipv6Addr::from(network.address.0).into(), len: network.len }
    } else {
        network.prefix()
    }
}

fn nothing(retval: i32) -> IpRouteLookupV2Reply {
    let prefix = Prefix { address: Ipv4Addr::UNSPECIFIED.into(), len: 0 };
    IpRouteLookupV2Reply { retval, table_id: 0, stats_index: 0, prefix, source: 0, paths: Vec::new() }
}

fn path(kind: u32, is_ipv6: bool) -> Path {
    Path {
        sw_if_index: u32::MAX,
        table_id: 0,
        rpf_id: 0,
        weight: 1,
        preference: 0,
        kind,
        flags: 0,
        protocol: u32::from(is_ipv6),
        next_hop: [0; 16],
        via_label: 0,
        obj_id: 0,
        classify_table: 0,
        labels: 0,
        label_stack: [0; 112],
    }
}
