//! The routes of the lb plugin in VPP's default tables, and their lookup.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maglev_vpp::message::{
    FibPath, IpRouteLookupV2, IpRouteLookupV2Reply, Prefix, SOURCE_INTERFACE, SwInterfaceDetails,
    SwInterfaceDump,
};

use maglev_vpp::stats::CombinedCounter;
use maglev_vpp::wire::FixedString;

use super::crash::{OutOfBounds, error};
use super::slot_pool::SlotPool;
use super::vip_key::{VppAddress, VppPrefix};

/// Sources besides [`SOURCE_INTERFACE`]. The plugin's number depends on the build.
const SOURCE_LB: u8 = 23;
const SOURCE_RECURSIVE: u8 = 18;
const SOURCE_DEFAULT: u8 = 20;

const NORMAL: u32 = 0;
const LOCAL: u32 = 1;
const DROP: u32 = 2;

/// Prefixes that VPP drops by default.
const BUILT_IN: [(IpAddr, u8); 7] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 32),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    (IpAddr::V4(Ipv4Addr::new(240, 0, 0, 0)), 4),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
];

/// Routes, with their sources.
#[derive(Debug)]
pub struct Fib {
    routes: BTreeMap<Prefix, FibRoute>,
    /// Its slots are the stats indexes. VPP shares these numbers with objects other than routes.
    stats: SlotPool<()>,
    /// Interfaces from index 1 on: name and MTU. Index 0 is VPP's `local0`.
    interfaces: Vec<(String, u32)>,
}

#[derive(Debug, Default)]
struct FibRoute {
    stats_index: u32,
    built_in: bool,
    interface: bool,
    /// Interface with this subnet.
    connected: Option<u32>,
    vips: usize,
    servers: usize,
    to: CombinedCounter,
    via: CombinedCounter,
}

impl Default for Fib {
    fn default() -> Self {
        let mut fib = Self { routes: BTreeMap::new(), stats: SlotPool::default(), interfaces: Vec::new() };
        for (address, len) in BUILT_IN {
            fib.route(Prefix { address, len }).built_in = true;
        }
        fib
    }
}

impl Fib {
    /// Adds an interface address.
    pub fn add_interface(&mut self, address: IpAddr) {
        self.route(Prefix::host(address)).interface = true;
    }

    /// Adds an interface with a subnet.
    pub fn add_subnet(&mut self, name: &str, mtu: u32, subnet: Prefix) {
        self.interfaces.push((name.to_owned(), mtu));
        let index = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        self.route(subnet.masked()).connected = Some(index);
    }

    /// Answers a dump of one interface, or of all.
    #[must_use]
    pub fn interface_details(&self, dump: &SwInterfaceDump) -> Vec<SwInterfaceDetails> {
        let all = (1..).zip(&self.interfaces);
        let wanted = all.filter(|(index, _)| [u32::MAX, *index].contains(&dump.sw_if_index));
        wanted.map(|(index, (name, mtu))| interface_details(index, name, *mtu)).collect()
    }

    /// Removes an interface address.
    pub fn remove_interface(&mut self, address: IpAddr) {
        let prefix = Prefix::host(address);
        self.route(prefix).interface = false;
        self.remove_unused(prefix);
    }

    /// Adds a VIP. All ports of a network share one route.
    pub fn add_vip(&mut self, network: VppPrefix) {
        self.route(network.fib_prefix()).vips += 1;
    }

    /// Removes a VIP. See [`Fib::add_vip`].
    pub fn remove_vip(&mut self, network: VppPrefix) {
        self.remove_reference(network.fib_prefix(), |route| &mut route.vips);
    }

    /// Adds a server for one more VIP. Its route leads nowhere until the address resolves.
    pub fn add_server(&mut self, address: VppAddress) -> u32 {
        let route = self.route(Prefix::host(address.into()));
        route.servers += 1;
        route.stats_index
    }

    /// Removes a server of one VIP. See [`Fib::add_server`].
    pub fn remove_server(&mut self, address: VppAddress) {
        self.remove_reference(Prefix::host(address.into()), |route| &mut route.servers);
    }

    /// Counts packets to a VIP's network. Returns true if they reach the VIP.
    pub fn count_to_vip(&mut self, network: VppPrefix, traffic: CombinedCounter) -> bool {
        let Some(route) = self.routes.get_mut(&network.fib_prefix()) else { return false };
        add(&mut route.to, traffic);
        route.winning_source() == SOURCE_LB
    }

    /// Counts packets that the plugin sends to a server.
    pub fn count_to_server(&mut self, server: VppAddress, traffic: CombinedCounter) {
        if let Some(route) = self.routes.get_mut(&Prefix::host(server.into())) {
            add(&mut route.via, traffic);
        }
    }

    /// Returns the counters of all routes by stats index: packets to them, and packets through them.
    #[must_use]
    pub fn counters(&self) -> [Vec<CombinedCounter>; 2] {
        let length = self.stats.all().count();
        let mut counters =
            [vec![CombinedCounter::default(); length], vec![CombinedCounter::default(); length]];
        for route in self.routes.values() {
            let index = route.stats_index as usize;
            (counters[0][index], counters[1][index]) = (route.to, route.via);
        }
        counters
    }

    /// Answers a route lookup.
    ///
    /// # Errors
    /// The prefix is too long.
    pub fn lookup_route(&self, request: &IpRouteLookupV2) -> Result<IpRouteLookupV2Reply, OutOfBounds> {
        VppPrefix::new(&request.prefix)?;
        if request.table_id != 0 {
            return Ok(lookup_failure(error::NO_SUCH_FIB));
        }
        let wanted = request.prefix.masked();
        let found =
            if request.exact == 0 { self.longest_match(&wanted) } else { self.routes.get_key_value(&wanted) };
        let Some((prefix, route)) = found else { return Ok(lookup_failure(error::NO_SUCH_ENTRY)) };
        Ok(IpRouteLookupV2Reply {
            retval: 0,
            table_id: 0,
            stats_index: route.stats_index,
            prefix: *prefix,
            source: route.winning_source(),
            paths: vec![self.path(prefix, route)],
        })
    }

    /// Returns the path of a route. A subnet, and a server in it, are behind its interface.
    fn path(&self, prefix: &Prefix, route: &FibRoute) -> FibPath {
        let (mut kind, mut sw_if_index) = (self.kind(prefix, route), u32::MAX);
        let is_server = route.winning_source() == SOURCE_RECURSIVE;
        let around = self.covering_routes(prefix).filter(|(other, _)| *other != prefix || !is_server);
        let closest = around.max_by_key(|(other, _)| other.len).and_then(|(_, route)| route.connected);
        if let Some(interface) = closest.filter(|_| is_server || route.connected.is_some()) {
            (kind, sw_if_index) = (NORMAL, interface);
        }
        FibPath { sw_if_index, ..path(kind, prefix.address.is_ipv6()) }
    }

    /// Returns the kind of a route's path. A server's own route follows the covering route.
    fn kind(&self, prefix: &Prefix, route: &FibRoute) -> u32 {
        match route.winning_source() {
            SOURCE_INTERFACE => LOCAL,
            SOURCE_LB => NORMAL,
            SOURCE_RECURSIVE => {
                let around = self.covering_routes(prefix).filter(|(other, _)| *other != prefix);
                let closest = around.max_by_key(|(other, _)| other.len);
                if closest.is_some_and(|(_, route)| route.winning_source() == SOURCE_LB) {
                    NORMAL
                } else {
                    DROP
                }
            }
            _ => DROP,
        }
    }

    fn longest_match(&self, wanted: &Prefix) -> Option<(&Prefix, &FibRoute)> {
        self.covering_routes(wanted).max_by_key(|(prefix, _)| prefix.len)
    }

    fn covering_routes(&self, wanted: &Prefix) -> impl Iterator<Item = (&Prefix, &FibRoute)> {
        let covers = |prefix: &Prefix| {
            prefix.address.is_ipv4() == wanted.address.is_ipv4()
                && prefix.len <= wanted.len
                && Prefix { len: prefix.len, ..*wanted }.masked() == *prefix
        };
        self.routes.iter().filter(move |(prefix, _)| covers(prefix))
    }

    fn route(&mut self, prefix: Prefix) -> &mut FibRoute {
        let stats = &mut self.stats;
        self.routes.entry(prefix).or_insert_with(|| FibRoute {
            stats_index: u32::try_from(stats.insert(|_| ())).unwrap_or(u32::MAX),
            ..FibRoute::default()
        })
    }

    fn remove_reference(&mut self, prefix: Prefix, count: impl FnOnce(&mut FibRoute) -> &mut usize) {
        let Some(route) = self.routes.get_mut(&prefix) else { return };
        let count = count(route);
        *count = count.saturating_sub(1);
        self.remove_unused(prefix);
    }

    fn remove_unused(&mut self, prefix: Prefix) {
        let Some(route) = self.routes.get(&prefix) else { return };
        if !route.built_in
            && !route.interface
            && route.connected.is_none()
            && route.vips == 0
            && route.servers == 0
        {
            self.stats.remove(route.stats_index as usize);
            self.routes.remove(&prefix);
        }
    }
}

impl FibRoute {
    /// Returns the source with the highest priority.
    const fn winning_source(&self) -> u8 {
        match self {
            Self { interface: true, .. } | Self { connected: Some(_), .. } => SOURCE_INTERFACE,
            Self { vips: 1.., .. } => SOURCE_LB,
            Self { servers: 1.., .. } => SOURCE_RECURSIVE,
            _ => SOURCE_DEFAULT,
        }
    }
}

fn add(sum: &mut CombinedCounter, traffic: CombinedCounter) {
    sum.packets += traffic.packets;
    sum.bytes += traffic.bytes;
}

fn lookup_failure(retval: i32) -> IpRouteLookupV2Reply {
    let prefix = Prefix { address: Ipv4Addr::UNSPECIFIED.into(), len: 0 };
    IpRouteLookupV2Reply { retval, table_id: 0, stats_index: 0, prefix, source: 0, paths: Vec::new() }
}

fn interface_details(sw_if_index: u32, name: &str, mtu: u32) -> SwInterfaceDetails {
    SwInterfaceDetails {
        sw_if_index,
        sup_sw_if_index: sw_if_index,
        mac: [2, 0, 0, 0, 0, 1],
        flags: 3,
        kind: 0,
        link_duplex: 0,
        link_speed: 0,
        link_mtu: 9000,
        mtu,
        mtu_ip4: 0,
        mtu_ip6: 0,
        mtu_mpls: 0,
        sub_interface: [0; 49],
        name: FixedString(name.to_owned()),
        device: FixedString("simulated".to_owned()),
        tag: FixedString(String::new()),
    }
}

fn path(kind: u32, is_ipv6: bool) -> FibPath {
    FibPath {
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
