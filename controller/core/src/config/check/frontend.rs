//! Rules for frontends, alone and together.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use maglev_ipc::text::is_unprintable;

use super::super::file::{self, Maglev, Protocol};
use super::super::{Frontend, Pool};
use super::{Scope, value};
use crate::Name;
use crate::dataplane::{ANY_PROTOCOL, Encap, VipKey};

/// Longest description.
const MAX_DESCRIPTION: usize = 256;
/// Bounds of a new-flow table. VPP's heap bounds the tables of all frontends together.
const MIN_TABLE: u32 = 64;
const MAX_TABLE: u32 = 1 << 20;
const MAX_WEIGHT: u32 = 100;
const DEFAULT_WEIGHT: u32 = 100;

/// Returns the name of the first frontend with a backend of this address family.
pub fn first_with(file: &Maglev, of_family: fn(&IpAddr) -> bool) -> Option<&str> {
    // Most configurations use one family; skip the search for the other.
    if !file.backends.0.values().any(|b| b.address.is_some_and(|address| of_family(&address.0))) {
        return None;
    }
    let is_used = |frontend: &file::Frontend| {
        let names = frontend.pools.iter().flat_map(|pool| pool.backends.0.keys());
        names.filter_map(|name| address_of(file, name)).any(|address| of_family(&address))
    };
    file.frontends.0.iter().find(|(_, frontend)| is_used(frontend)).map(|(name, _)| name.as_str())
}

fn address_of(file: &Maglev, backend: &str) -> Option<IpAddr> {
    file.backends.0.get(backend)?.address.map(|address| address.0)
}

/// Frontends checked so far.
pub struct Frontends<'a> {
    file: &'a Maglev,
    /// The frontend of each VIP address, over all frontends.
    addresses: BTreeMap<IpAddr, &'a str>,
    seen: BTreeMap<VipKey, (&'a str, Option<Encap>)>,
}

impl<'a> Frontends<'a> {
    pub fn new(file: &'a Maglev) -> Self {
        let with_address = |(name, frontend): (&'a String, &file::Frontend)| {
            frontend.address.map(|address| (address.0, name.as_str()))
        };
        // The first by name wins, as in the comparison of two frontends.
        let addresses = file.frontends.0.iter().rev().filter_map(with_address).collect();
        Self { file, addresses, seen: BTreeMap::new() }
    }

    pub fn check(
        &mut self,
        scope: &mut Scope<'_>,
        name: &'a str,
        frontend: &'a file::Frontend,
    ) -> Option<Frontend> {
        let description = description(&mut scope.at("description"), frontend.description.as_deref());
        let address = value::required_address(&mut scope.at("address"), frontend.address);
        let service = service(scope, frontend);
        let table_length = value::optional(frontend.table_length, |length| {
            value::power_of_two(&mut scope.at("table-length"), length, MIN_TABLE..=MAX_TABLE)
        });
        let weight_step = value::optional(frontend.weight_step, |step| {
            value::integer(&mut scope.at("weight-step"), Some(step), 1, 1..=MAX_WEIGHT)
        });
        let mut servers =
            Servers { frontends: self, pool_of: BTreeMap::new(), by_address: BTreeMap::new(), first: None };
        let pools = pools(&mut scope.at("pools"), frontend, &mut servers);
        let encap = servers.encap();

        let vip =
            address.zip(service).map(|(address, (protocol, port))| VipKey::host(address, protocol, port));
        let vip = vip.and_then(|vip| self.beside_others(scope, name, vip, encap));
        Some(Frontend {
            description: description?,
            vip: vip?,
            encap: encap?,
            src_ip_sticky: frontend.src_ip_sticky.unwrap_or(false),
            flush_on_down: frontend.flush_on_down.unwrap_or(true),
            table_length: table_length?,
            weight_step: weight_step?.and_then(|step| u8::try_from(step).ok()),
            pools: pools?,
        })
    }

    /// Checks a VIP against those on the same address, by VPP's rules.
    fn beside_others(
        &mut self,
        scope: &mut Scope<'_>,
        name: &'a str,
        vip: VipKey,
        encap: Option<Encap>,
    ) -> Option<VipKey> {
        if let Some((other, _)) = self.seen.get(&vip) {
            return scope.refuse(format!("has the address, protocol and port of frontend {other}: {vip}"));
        }
        let all_ports = VipKey::host(vip.address, ANY_PROTOCOL, 0);
        let per_port = self.seen.range(VipKey::host(vip.address, 0, 0)..all_ports).next();
        if vip == all_ports
            && let Some((one, (other, _))) = per_port
        {
            return scope.refuse(format!("has all ports of {}, but frontend {other} has {one}", vip.address));
        }
        if let Some((other, _)) = self.seen.get(&all_ports) {
            return scope.refuse(format!("has {vip}, but frontend {other} has all ports of {}", vip.address));
        }
        if let (Some(own), Some((_, (other, Some(theirs))))) = (encap, per_port)
            && own != *theirs
        {
            return scope.refuse(format!(
                "has {} backends, but frontend {other} on the same address has {} ones, which VPP cannot do",
                family_of(own),
                family_of(*theirs),
            ));
        }
        self.seen.insert(vip, (name, encap));
        Some(vip)
    }
}

fn description(scope: &mut Scope<'_>, text: Option<&str>) -> Option<String> {
    // A folded scalar (`description: >`) ends with a newline.
    let text = text.unwrap_or_default().trim_end_matches('\n');
    if text.chars().count() > MAX_DESCRIPTION || text.contains(is_unprintable) {
        return scope.refuse(format!("must be one line of at most {MAX_DESCRIPTION} characters"));
    }
    Some(text.to_owned())
}

/// Returns the protocol number and the port.
fn service(scope: &mut Scope<'_>, frontend: &file::Frontend) -> Option<(u8, u16)> {
    match (frontend.protocol, frontend.port) {
        (None, None) => Some((ANY_PROTOCOL, 0)),
        (None, Some(_)) => scope.at("protocol").refuse("required, since port is given"),
        (Some(_), None) => scope.at("port").refuse("required, since protocol is given"),
        (Some(Protocol::Tcp), Some(port)) => value::port(&mut scope.at("port"), port).map(|port| (6, port)),
        (Some(Protocol::Udp), Some(port)) => value::port(&mut scope.at("port"), port).map(|port| (17, port)),
    }
}

fn pools<'a>(
    scope: &mut Scope<'_>,
    frontend: &'a file::Frontend,
    servers: &mut Servers<'a, '_>,
) -> Option<Vec<Pool>> {
    if frontend.pools.is_empty() {
        return scope.refuse("required: at least one");
    }
    let mut index_of = BTreeMap::new();
    let mut pools = Vec::new();
    for (index, pool) in frontend.pools.iter().enumerate() {
        let mut scope = scope.nth(index);
        let name = match pool.name.as_deref() {
            None => scope.at("name").refuse("required"),
            Some(name) => match index_of.get(name) {
                Some(first) => scope.at("name").refuse(format!("{name} is already pools[{first}]")),
                None => {
                    index_of.insert(name, index);
                    value::name(&mut scope.at("name"), name).map(|()| Name::from(name))
                }
            },
        };
        let backends = members(&mut scope.at("backends"), index, pool, servers);
        pools.push(name.zip(backends).map(|(name, backends)| Pool { name, backends }));
    }
    pools.into_iter().collect()
}

fn members<'a>(
    scope: &mut Scope<'_>,
    index: usize,
    pool: &'a file::Pool,
    servers: &mut Servers<'a, '_>,
) -> Option<BTreeMap<Name, u8>> {
    if pool.backends.0.is_empty() {
        return scope.refuse("required: at least one");
    }
    super::each(scope, &pool.backends, |scope, name, member| {
        let added = servers.add(scope, index, name);
        let weight = value::integer(&mut scope.at("weight"), member.weight, DEFAULT_WEIGHT, 0..=MAX_WEIGHT);
        added.and(weight).and_then(|weight| u8::try_from(weight).ok())
    })
}

/// Servers of one frontend.
struct Servers<'a, 'f> {
    frontends: &'f Frontends<'a>,
    pool_of: BTreeMap<&'a str, usize>,
    by_address: BTreeMap<IpAddr, &'a str>,
    first: Option<(&'a str, IpAddr)>,
}

impl<'a> Servers<'a, '_> {
    /// Adds a backend, if it is compatible with the others.
    fn add(&mut self, scope: &mut Scope<'_>, pool: usize, name: &'a str) -> Option<()> {
        if let Some(first) = self.pool_of.get(name) {
            return scope.refuse(format!("is already in pools[{first}]"));
        }
        self.pool_of.insert(name, pool);
        let Some(backend) = self.frontends.file.backends.0.get(name) else {
            return scope.refuse("no such backend");
        };
        let address = backend.address?.0;
        let (first, of_first) = *self.first.get_or_insert((name, address));
        if of_first.is_ipv4() != address.is_ipv4() {
            let (own, others) = (family(address), family(of_first));
            return scope.refuse(format!(
                "is {own}, but {first} is {others}: the backends of a frontend are of one family"
            ));
        }
        if let Some(other) = self.by_address.insert(address, name) {
            return scope.refuse(format!("has the address of {other}: {address}"));
        }
        if let Some(frontend) = self.frontends.addresses.get(&address) {
            return scope.refuse(format!("has the address of frontend {frontend}: {address}"));
        }
        Some(())
    }

    /// Returns the encapsulation for the backends' address family.
    fn encap(&self) -> Option<Encap> {
        self.first.map(|(_, address)| if address.is_ipv4() { Encap::Gre4 } else { Encap::Gre6 })
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn family_of(encap: Encap) -> &'static str {
    if encap == Encap::Gre4 { "IPv4" } else { "IPv6" }
}
