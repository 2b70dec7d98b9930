//! Route lookups: they show address conflicts of VIPs, and the stats indexes of routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Prefix, ReplyMessage};
use crate::wire::{MalformedMessage, WireField, WireReader, list};

/// [`IpRouteLookupV2Reply::source`] of an address on an interface of VPP. It takes precedence over the lb plugin: a VIP on
/// such an address gets no traffic.
pub const SOURCE_INTERFACE: u8 = 4;

fields! {
    /// Looks up a route.
    IpRouteLookupV2 {
        /// 0 is the default table. VPP replies -3 for a table that does not exist.
        table_id: u32,
        /// Not 0: exactly this prefix, or -6. 0: the longest match.
        exact: u8,
        /// Bits beyond the length are ignored.
        prefix: Prefix,
    }

    /// A path of a route.
    FibPath {
        /// Interface, or `u32::MAX`.
        sw_if_index: u32,
        /// Table of the next lookup.
        table_id: u32,
        /// Multicast only.
        rpf_id: u32,
        /// Share among paths of one preference.
        weight: u8,
        /// The lowest wins.
        preference: u8,
        /// 0 normal, 1 local, 2 drop...
        kind: u32,
        /// Bit mask.
        flags: u32,
        /// 0 IPv4, 1 IPv6, 2 MPLS...
        protocol: u32,
        /// Next hop, with IPv4 in the first four bytes.
        next_hop: [u8; 16],
        /// MPLS.
        via_label: u32,
        /// Tunnels only.
        obj_id: u32,
        /// Classifiers only.
        classify_table: u32,
        /// Number of labels in `label_stack`.
        labels: u8,
        /// 16 labels of 7 bytes.
        label_stack: [u8; 112],
    }
}

requests! {
    IpRouteLookupV2 = "ip_route_lookup_v2", 0x710d_6471 => IpRouteLookupV2Reply;
}

messages! {
    IpRouteLookupV2Reply = "ip_route_lookup_v2_reply", 0x84cc_9e03;
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpRouteLookupV2Reply {
    /// 0, -6 if there is no such route, -3 if there is no such table.
    pub retval: i32,
    /// Table of the request.
    pub table_id: u32,
    /// Index in `/net/route/to` and `/net/route/via` of the stats segment. It changes when VPP recreates the route.
    pub stats_index: u32,
    /// Prefix of the route.
    pub prefix: Prefix,
    /// Origin of the route, see [`SOURCE_INTERFACE`].
    pub source: u8,
    /// Paths, at most 255.
    pub paths: Vec<FibPath>,
}

impl FibPath {
    /// Returns the address of the next hop, if the path has one.
    #[must_use]
    pub fn gateway(&self) -> Option<IpAddr> {
        let address: IpAddr = match self.protocol {
            0 => Ipv4Addr::from(*self.next_hop.first_chunk()?).into(),
            1 => Ipv6Addr::from(self.next_hop).into(),
            _ => return None,
        };
        (!address.is_unspecified()).then_some(address)
    }
}

impl ReplyMessage for IpRouteLookupV2Reply {
    fn retval(&self) -> i32 {
        self.retval
    }
}

/// Written by hand, because the source stands between the count and the paths.
impl WireField for IpRouteLookupV2Reply {
    fn put(&self, out: &mut Vec<u8>) {
        let paths = &self.paths[..self.paths.len().min(usize::from(u8::MAX))];
        self.retval.put(out);
        self.table_id.put(out);
        self.stats_index.put(out);
        self.prefix.put(out);
        (paths.len() as u8).put(out);
        self.source.put(out);
        paths.iter().for_each(|path| path.put(out));
    }

    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        let retval = WireField::get(from)?;
        let table_id = WireField::get(from)?;
        let stats_index = WireField::get(from)?;
        let prefix = WireField::get(from)?;
        let count = u8::get(from)?;
        let source = WireField::get(from)?;
        let paths = list(from, count.into())?;
        Ok(Self { retval, table_id, stats_index, prefix, source, paths })
    }
}

impl IpRouteLookupV2 {
    /// Looks up the longest match of `prefix`, in the default table.
    #[must_use]
    pub const fn longest_match(prefix: Prefix) -> Self {
        Self { table_id: 0, exact: 0, prefix }
    }

    /// Looks exactly `prefix` up, in the default table.
    #[must_use]
    pub const fn exact(prefix: Prefix) -> Self {
        Self { table_id: 0, exact: 1, prefix }
    }
}
