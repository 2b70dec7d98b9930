//! The lb plugin without packets: the effects and return values of each call, and the stale state that it leaves.
//!
//! Pure: the caller passes the time as VPP's uptime in whole seconds. Each method that models an API call returns the call's
//! return value, or the [`OutOfBounds`] that ends the simulator.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maglev_vpp::message::{KEEP, LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, LbConf, LbEncapType, Vip};
use maglev_vpp::stats::{CombinedCounter, STRAY_INDEX};

use super::crash::{CallResult, OutOfBounds, error};
use super::fib::Fib;
use super::slot_pool::SlotPool;
use super::state::{
    COLLECTION_INTERVAL, LbParameters, LbServer, PacketOutcome, StickyFlow, VipState, VipType,
};
use super::vip_key::{VipKey, VppAddress, VppPrefix};
use maglev_core::maglev::table;

/// Lengths from here on exceed VPP's memory.
const TABLE_TOO_LONG: u32 = 1 << 30;
/// `type` of a NAT VIP on each of VPP's own addresses. VPP reads the field in the wrong byte order.
const NODEPORT: u32 = 0x0100_0000;

/// The state of the plugin.
#[derive(Debug)]
pub struct LbPlugin {
    pub(super) conf: LbParameters,
    pub(super) vips: SlotPool<VipState>,
    pub(super) servers: SlotPool<LbServer>,
    pub(super) flows: Vec<StickyFlow>,
    pub(super) fib: Fib,
    /// VPP discards the flow tables at the next packet.
    flow_table_resized: bool,
    /// (server, target port) of NAT VIPs.
    pub(super) nat: BTreeSet<(VppAddress, u16)>,
    node_ports: BTreeSet<u16>,
    pub(super) next_collection: u32,
}

impl Default for LbPlugin {
    fn default() -> Self {
        let conf = LbParameters {
            ip4_src: Ipv4Addr::BROADCAST,
            ip6_src: Ipv6Addr::from_bits(u128::MAX),
            sticky_buckets: 1024,
            flow_timeout: 40,
        };
        let mut plugin = Self {
            conf,
            vips: SlotPool::default(),
            servers: SlotPool::default(),
            flows: Vec::new(),
            fib: Fib::default(),
            flow_table_resized: false,
            nat: BTreeSet::new(),
            node_ports: BTreeSet::new(),
            next_collection: COLLECTION_INTERVAL,
        };
        plugin.reserve_first_slots();
        plugin
    }
}

impl LbPlugin {
    /// Handles `lb_conf`.
    pub fn configure(&mut self, request: &LbConf) -> i32 {
        let kept = |new, old| if new == KEEP { old } else { new };
        let sticky_buckets = kept(request.sticky_buckets, self.conf.sticky_buckets);
        if !is_power_of_two_or_zero(sticky_buckets) {
            return error::INVALID_MEMORY_SIZE;
        }
        self.flow_table_resized |= sticky_buckets != self.conf.sticky_buckets;
        self.conf = LbParameters {
            ip4_src: request.ip4_src,
            ip6_src: request.ip6_src,
            sticky_buckets,
            flow_timeout: kept(request.flow_timeout, self.conf.flow_timeout),
        };
        0
    }

    /// Handles `lb_add_del_vip_v2`.
    ///
    /// # Errors
    /// See [`OutOfBounds`].
    pub fn add_del_vip(&mut self, request: &LbAddDelVipV2, now: u32) -> CallResult {
        let key = VipKey::new(&request.vip)?;
        if request.is_del { self.delete_vip(&key, now) } else { self.add_vip(key, request, now) }
    }

    /// Handles `lb_add_del_as_v2`.
    ///
    /// # Errors
    /// See [`OutOfBounds`].
    pub fn add_del_as(&mut self, request: &LbAddDelAsV2, now: u32) -> CallResult {
        let Some(vip) = self.find_vip(&VipKey::new(&request.vip)?) else { return Ok(error::NO_SUCH_ENTRY) };
        let address = request.address.into();
        if request.is_del {
            let Some(server) = self.find_server(vip, address) else { return Ok(error::NO_SUCH_ENTRY) };
            self.remove_servers(vip, &[server], request.is_flush, now)?;
        } else {
            let retval = self.add_server(vip, address, request)?;
            if retval != 0 {
                return Ok(retval);
            }
            self.collect(vip, now)?;
        }
        Ok(0)
    }

    /// Handles `lb_as_set_weight`.
    ///
    /// # Errors
    /// See [`OutOfBounds`].
    pub fn set_weight(&mut self, request: &LbAsSetWeight) -> CallResult {
        let vip = self.find_vip(&VipKey::new(&request.vip)?);
        let found = vip.and_then(|vip| Some((vip, self.find_server(vip, request.address.into())?)));
        let Some((vip, index)) = found else { return Ok(error::NO_SUCH_ENTRY) };
        match self.servers.get_any_mut(index) {
            Some(server) if server.used => server.weight = request.weight,
            _ => return Ok(error::NO_SUCH_ENTRY),
        }
        if request.is_flush {
            self.flush(vip, index);
        }
        Ok(0)
    }

    /// Handles `lb_flush_vip`. For an unknown VIP VPP may flush another; this does nothing.
    ///
    /// # Errors
    /// See [`OutOfBounds`].
    pub fn flush_vip(&mut self, vip: &Vip) -> CallResult {
        if let Some(vip) = self.find_vip(&VipKey::new(vip)?) {
            self.flows.retain(|flow| flow.vip != vip);
        }
        Ok(0)
    }

    /// Counts a packet of a new flow to `vip` whose bucket belongs to `address`. Returns false without such a server.
    ///
    /// # Errors
    /// See [`OutOfBounds`].
    pub fn add_flow(&mut self, vip: &Vip, address: IpAddr) -> Result<bool, OutOfBounds> {
        if self.conf.sticky_buckets == 0 {
            return Err(OutOfBounds("a packet found no sticky bucket".into()));
        }
        if std::mem::take(&mut self.flow_table_resized) {
            self.flows.clear();
        }
        let key = VipKey::new(vip)?;
        let found = self.find_vip(&key).and_then(|vip| Some((vip, self.find_server(vip, address.into())?)));
        let Some((index, server)) = found else { return Ok(false) };
        self.flows.push(StickyFlow { vip: index, server });
        self.count(vip, PacketOutcome::NewFlow, Some(address), CombinedCounter { packets: 1, bytes: 100 })
    }

    /// Counts packets to `vip` with this outcome, at `server` unless they are dropped. It adds no flow. Returns false if they
    /// do not reach the VIP: a VIP on an interface address gets no traffic.
    ///
    /// # Errors
    /// See [`OutOfBounds`].
    pub fn count(
        &mut self,
        vip: &Vip,
        outcome: PacketOutcome,
        server: Option<IpAddr>,
        traffic: CombinedCounter,
    ) -> Result<bool, OutOfBounds> {
        let key = VipKey::new(vip)?;
        let Some(index) = self.find_vip(&key) else { return Ok(false) };
        if !self.fib.count_to_vip(key.network, traffic) {
            return Ok(false);
        }
        let Some(state) = self.vips.get_any_mut(index) else { return Ok(false) };
        state.packets[outcome as usize] += traffic.packets;
        if let Some(server) = server {
            let bytes = traffic.bytes + state.family.overhead() * traffic.packets;
            self.fib.count_to_server(server.into(), CombinedCounter { bytes, ..traffic });
        }
        Ok(true)
    }

    /// Counts strays: packets to the address of a VIP, of no VIP's protocol and port. The hidden VIP takes and drops them.
    pub fn count_strays(&mut self, outcome: PacketOutcome, packets: u64) {
        if let Some(hidden) = self.vips.get_any_mut(STRAY_INDEX as usize) {
            hidden.packets[outcome as usize] += packets;
        }
    }

    /// Adds an interface address.
    pub fn add_interface(&mut self, address: IpAddr) {
        self.fib.add_interface(address);
    }

    /// Removes an interface address.
    pub fn remove_interface(&mut self, address: IpAddr) {
        self.fib.remove_interface(address);
    }

    /// Returns the number of buckets of each server of `vip`. A removed server has none.
    pub(super) fn buckets(&self, vip: &VipState) -> Vec<(usize, u32)> {
        let (indexes, servers): (Vec<usize>, Vec<table::WeightedServer>) = vip
            .servers
            .iter()
            .filter_map(|(_, index)| Some((*index, self.servers.get(*index)?)))
            .map(|(index, server)| (index, (server.address.0, if server.used { server.weight } else { 0 })))
            .unzip();
        indexes.into_iter().zip(table::bucket_counts(&servers, vip.table_length)).collect()
    }

    /// Returns the number of flows that occupy a server's slot.
    pub(super) fn flow_count(&self, server: usize) -> usize {
        self.flows.iter().filter(|flow| flow.server == server).count()
    }

    fn add_vip(&mut self, key: VipKey, request: &LbAddDelVipV2, now: u32) -> CallResult {
        let family = VipType::of(&key, request.encap);
        let retval = self.check_new_vip(&key, family, request.new_flows_table_length);
        if retval != 0 {
            return Ok(retval);
        }
        let table_length = request.new_flows_table_length;
        if table_length == 0 || table_length >= TABLE_TOO_LONG {
            return Err(OutOfBounds(format!("a table of new flows of length {table_length}")));
        }
        self.vips.insert(|old| {
            let (dscp_or_type, target_port) = match (family.encap, old) {
                (LbEncapType::L3dsr, old) => (request.dscp & 0x3f, old.map_or(0, |old| old.target_port)),
                (LbEncapType::Nat4 | LbEncapType::Nat6, _) => {
                    (u8::from(request.srv_type == NODEPORT), request.target_port)
                }
                (_, old) => old.map_or((0, 0), |old| (old.dscp_or_type, old.target_port)),
            };
            VipState {
                key,
                family,
                table_length,
                src_ip_sticky: request.src_ip_sticky,
                used: true,
                servers: SlotPool::default(),
                packets: [0; 4],
                dscp_or_type,
                target_port,
                last_collection: now,
            }
        });
        self.fib.add_vip(key.network);
        let node_port = family.is_nat() && request.srv_type == NODEPORT;
        // Too late to reject: the VIP exists already.
        Ok(if node_port && !self.node_ports.insert(key.port) { error::VALUE_EXIST } else { 0 })
    }

    /// Checks a new VIP, in VPP's order.
    fn check_new_vip(&self, key: &VipKey, family: VipType, table_length: u32) -> i32 {
        let mut neighbours =
            self.vips.iter().map(|(_, vip)| vip).filter(|vip| vip.used && vip.key.network == key.network);
        let collides = |vip: &VipState| vip.key == *key || (vip.key.port == 0) != (key.port == 0);
        if neighbours.clone().any(collides) {
            return error::VALUE_EXIST;
        }
        if neighbours.any(|vip| vip.family != family) {
            return error::INVALID_ARGUMENT;
        }
        if !is_power_of_two_or_zero(table_length) {
            return error::INVALID_MEMORY_SIZE;
        }
        if key.network.is_ipv4() && matches!(family.encap, LbEncapType::Nat6 | LbEncapType::Other(_)) {
            return error::INVALID_ADDRESS_FAMILY;
        }
        0
    }

    fn delete_vip(&mut self, key: &VipKey, now: u32) -> CallResult {
        let Some(index) = self.find_vip(key) else { return Ok(error::NO_SUCH_ENTRY) };
        let servers: Vec<usize> =
            self.vips.get(index).map_or(Vec::new(), |vip| vip.servers.iter().map(|(_, i)| *i).collect());
        if !servers.is_empty() {
            self.remove_servers(index, &servers, false, now)?;
        }
        if let Some(vip) = self.vips.get_any_mut(index) {
            vip.used = false;
        }
        self.fib.remove_vip(key.network);
        Ok(0)
    }

    fn add_server(&mut self, vip: usize, address: VppAddress, request: &LbAddDelAsV2) -> CallResult {
        if let Some(index) = self.find_server(vip, address) {
            let Some(server) = self.servers.get_any_mut(index).filter(|server| !server.used) else {
                return Ok(error::VALUE_EXIST);
            };
            (server.used, server.weight) = (true, request.weight);
            if request.is_flush {
                self.flush(vip, index);
            }
            return Ok(0);
        }
        let Some(state) = self.vips.get_any_mut(vip) else { return Ok(error::NO_SUCH_ENTRY) };
        if address.is_ipv4() != state.family.encap.is_ipv4() {
            return Ok(error::INVALID_ADDRESS_FAMILY);
        }
        if state.family.is_nat() {
            if state.key.port == 0 {
                return Err(OutOfBounds("a server of a NAT VIP of all ports".into()));
            }
            self.nat.insert((address, state.target_port));
        }
        let stats_index = self.fib.add_server(address);
        let index = self.servers.insert(|old| LbServer {
            address,
            weight: request.weight,
            used: true,
            last_used: old.map_or(0, |old| old.last_used),
            stats_index,
        });
        state.servers.insert(|_| index);
        Ok(0)
    }

    /// Collects first, then marks. The collection may free a server that is then marked, which leaves the mark in its slot.
    fn remove_servers(
        &mut self,
        vip: usize,
        servers: &[usize],
        is_flush: bool,
        now: u32,
    ) -> Result<(), OutOfBounds> {
        self.collect(vip, now)?;
        for index in servers {
            if let Some(server) = self.servers.get_any_mut(*index) {
                (server.used, server.last_used) = (false, now);
            }
            if is_flush {
                self.flush(vip, *index);
            }
        }
        Ok(())
    }

    fn flush(&mut self, vip: usize, server: usize) {
        self.flows.retain(|flow| (flow.vip, flow.server) != (vip, server));
    }

    fn find_vip(&self, key: &VipKey) -> Option<usize> {
        self.vips.iter().find(|(_, vip)| vip.used && vip.key == *key).map(|(index, _)| index)
    }

    fn find_server(&self, vip: usize, address: VppAddress) -> Option<usize> {
        let indexes = self.vips.get(vip)?.servers.iter().map(|(_, index)| *index);
        let mut servers = indexes.filter_map(|index| Some((index, self.servers.get(index)?)));
        servers.find(|(_, server)| server.address == address).map(|(index, _)| index)
    }

    /// Reserves slot 0 of both pools, as VPP does for "none".
    fn reserve_first_slots(&mut self) {
        let none = VppAddress([0; 16]);
        let network = VppPrefix { address: none, len: 128 };
        let key = VipKey { network, protocol: 255, port: 0 };
        self.vips.insert(|_| VipState {
            key,
            family: VipType { is_ipv4: true, encap: LbEncapType::Gre4 },
            table_length: 1,
            src_ip_sticky: false,
            used: false,
            servers: SlotPool::default(),
            packets: [0; 4],
            dscp_or_type: 0,
            target_port: 0,
            last_collection: 0,
        });
        self.servers.insert(|_| LbServer {
            address: none,
            weight: 0,
            used: false,
            last_used: 0,
            stats_index: 0,
        });
    }
}

const fn is_power_of_two_or_zero(n: u32) -> bool {
    n & n.wrapping_sub(1) == 0
}

#[cfg(test)]
mod tests;
