//! The routes that the lb plugin makes in VPP's default tables, and what a look-up says of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maglev_vpp::message::{IpRouteLookupV2, IpRouteLookupV2Reply, Path, Prefix, SOURCE_INTERFACE};

use maglev_vpp::stats::Traffic;

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

/// What VPP drops from the start.
const BUILT_IN: [(IpAddr, u8); 7] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 32),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    (IpAddr::V4(Ipv4Addr::new(240, 0, 0, 0)), 4),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
];

/// Routes, and why they are there.
#[derive(Debug)]
pub struct Fib {
    routes: BTreeMap<Prefix, Route>,
    /// Its slots are the stats indexes. VPP shares their numbers among more objects than routes.
    stats: Pool<()>,
}

#[derive(Debug, Default)]
struct Route {
    stats_index: u32,
    built_in: bool,
    interface: bool,
    vips: usize,
    servers: usize,
    to: Traffic,
    via: Traffic,
}

impl Default for Fib {
    fn default() -> Self {
        let mut fib = Self { routes: BTreeMap::new(), stats: Pool::default() };
        for (address, len) in BUILT_IN {
            fib.route(Prefix { address, len }).built_in = true;
        }
        fib
    }
}

impl Fib {
    /// An address of one of VPP's interfaces.
    pub fn add_interface(&mut self, address: IpAddr) {
        self.route(Prefix::host(address)).interface = true;
    }

    /// It is none any more.
    pub fn remove_interface(&mut self, address: IpAddr) {
        let prefix = Prefix::host(address);
        self.route(prefix).interface = false;
        self.forget_unused(prefix);
    }

    /// A VIP. All ports of a network share its route.
    pub fn add_vip(&mut self, network: Network) {
        self.route(network.proper_prefix()).vips += 1;
    }

    /// See [`Fib::add_vip`].
    pub fn remove_vip(&mut self, network: Network) {
        self.release(network.proper_prefix(), |route| &mut route.vips);
    }

    /// A server, of however many VIPs. Its route leads nowhere until the address resolves.
    pub fn add_server(&mut self, address: Address) -> u32 {
        let route = self.route(Prefix::host(address.into()));
        route.servers += 1;
        route.stats_index
    }

    /// See [`Fib::add_server`].
    pub fn remove_server(&mut self, address: Address) {
        self.release(Prefix::host(address.into()), |route| &mut route.servers);
    }

    /// Counts packets that arrive for a VIP's network. Says whether they go to the VIP.
    pub fn arrive(&mut self, network: Network, traffic: Traffic) -> bool {
        let Some(route) = self.routes.get_mut(&network.proper_prefix()) else { return false };
        add(&mut route.to, traffic);
        route.best_source() == SOURCE_LB
    }

    /// Counts packets that the plugin sends to a server.
    pub fn pass(&mut self, server: Address, traffic: Traffic) {
        if let Some(route) = self.routes.get_mut(&Prefix::host(server.into())) {
            add(&mut route.via, traffic);
        }
    }

    /// The counters of all routes by their stats index, of what arrived for them and what passed through them.
    #[must_use]
    pub fn counters(&self) -> [Vec<Traffic>; 2] {
        let length = self.stats.all().count();
        let mut counters = [vec![Traffic::default(); length], vec![Traffic::default(); length]];
        for route in self.routes.values() {
            let index = route.stats_index as usize;
            (counters[0][index], counters[1][index]) = (route.to, route.via);
        }
        counters
    }

    /// Answers a look-up.
    ///
    /// # Errors
    /// VPP does not check the length of the prefix.
    pub fn look_up(&self, request: &IpRouteLookupV2) -> Result<IpRouteLookupV2Reply, Crash> {
        Network::new(&request.prefix)?;
        if request.table_id != 0 {
            return Ok(nothing(error::NO_SUCH_FIB));
        }
        let wanted = request.prefix.masked();
        let found =
            if request.exact == 0 { self.longest_match(&wanted) } else { self.routes.get_key_value(&wanted) };
        let Some((prefix, route)) = found else { return Ok(nothing(error::NO_SUCH_ENTRY)) };
        Ok(IpRouteLookupV2Reply {
            retval: 0,
            table_id: 0,
            stats_index: route.stats_index,
            prefix: *prefix,
            source: route.best_source(),
            paths: vec![path(self.kind(prefix, route), wanted.address.is_ipv6())],
        })
    }

    /// What becomes of packets. A server's own route leads where the route around it does.
    fn kind(&self, prefix: &Prefix, route: &Route) -> u32 {
        match route.best_source() {
            SOURCE_INTERFACE => LOCAL,
            SOURCE_LB => NORMAL,
            SOURCE_RECURSIVE => {
                let around = self.covering(prefix).filter(|(other, _)| *other != prefix);
                let closest = around.max_by_key(|(other, _)| other.len);
                if closest.is_some_and(|(_, route)| route.best_source() == SOURCE_LB) { NORMAL } else { DROP }
            }
            _ => DROP,
        }
    }

    fn longest_match(&self, wanted: &Prefix) -> Option<(&Prefix, &Route)> {
        self.covering(wanted).max_by_key(|(prefix, _)| prefix.len)
    }

    fn covering(&self, wanted: &Prefix) -> impl Iterator<Item = (&Prefix, &Route)> {
        let covers = |prefix: &Prefix| {
            prefix.address.is_ipv4() == wanted.address.is_ipv4()
                && prefix.len <= wanted.len
                && Prefix { len: prefix.len, ..*wanted }.masked() == *prefix
        };
        self.routes.iter().filter(move |(prefix, _)| covers(prefix))
    }

    fn route(&mut self, prefix: Prefix) -> &mut Route {
        let stats = &mut self.stats;
        self.routes.entry(prefix).or_insert_with(|| Route {
            stats_index: u32::try_from(stats.insert(|_| ())).unwrap_or(u32::MAX),
            ..Route::default()
        })
    }

    fn release(&mut self, prefix: Prefix, count: impl FnOnce(&mut Route) -> &mut usize) {
        let Some(route) = self.routes.get_mut(&prefix) else { return };
        let count = count(route);
        *count = count.saturating_sub(1);
        self.forget_unused(prefix);
    }

    fn forget_unused(&mut self, prefix: Prefix) {
        let Some(route) = self.routes.get(&prefix) else { return };
        if !route.built_in && !route.interface && route.vips == 0 && route.servers == 0 {
            self.stats.remove(route.stats_index as usize);
            self.routes.remove(&prefix);
        }
    }
}

impl Route {
    /// Of its sources, the one that wins.
    const fn best_source(&self) -> u8 {
        match self {
            Self { interface: true, .. } => SOURCE_INTERFACE,
            Self { vips: 1.., .. } => SOURCE_LB,
            Self { servers: 1.., .. } => SOURCE_RECURSIVE,
            _ => SOURCE_DEFAULT,
        }
    }
}

fn add(sum: &mut Traffic, traffic: Traffic) {
    sum.packets += traffic.packets;
    sum.bytes += traffic.bytes;
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
