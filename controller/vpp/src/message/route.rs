//! Looking up routes: whether a VIP's address is VPP's own, and where its traffic is counted.

use super::{Prefix, Reply};
use crate::wire::{Field, Malformed, Reader, list};

/// [`IpRouteLookupV2Reply::source`] of an address on one of VPP's interfaces. It wins over the lb plugin: a VIP on
/// such an address gets no traffic.
pub const SOURCE_INTERFACE: u8 = 4;

fields! {
    /// Looks up a route.
    IpRouteLookupV2 {
        /// 0 is the default table; -3 is the answer for one that does not exist.
        table_id: u32,
        /// Not 0: exactly this prefix, or -6. Else the longest match.
        exact: u8,
        /// Bits beyond the length are ignored.
        prefix: Prefix,
    }

    /// One way to go on from a route.
    Path {
        /// `u32::MAX`: none.
        sw_if_index: u32,
        /// Of the next look-up, if any.
        table_id: u32,
        /// Multicast only.
        rpf_id: u32,
        /// Among paths of one preference.
        weight: u8,
        /// The lowest wins.
        preference: u8,
        /// 0 normal, 1 local, 2 drop...
        kind: u32,
        /// Bit mask.
        flags: u32,
        /// 0 IPv4, 1 IPv6, 2 MPLS...
        protocol: u32,
        /// The next hop, IPv4 in the first four bytes.
        next_hop: [u8; 16],
        /// MPLS.
        via_label: u32,
        /// Of tunnels.
        obj_id: u32,
        /// Of classifiers.
        classify_table: u32,
        /// How much of `label_stack` counts.
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
    /// 0, -6 without such a route, -3 without such a table.
    pub retval: i32,
    /// As asked.
    pub table_id: u32,
    /// The row of `/net/route/to` and `/net/route/via` in the stats segment. Changes when the route is made anew.
    pub stats_index: u32,
    /// The route's own prefix.
    pub prefix: Prefix,
    /// Who made the route, see [`SOURCE_INTERFACE`].
    pub source: u8,
    /// Where it leads, 255 paths at most.
    pub paths: Vec<Path>,
}

impl Reply for IpRouteLookupV2Reply {
    fn retval(&self) -> i32 {
        self.retval
    }
}

/// Written by hand, as the source stands between the count of the paths and the paths.
impl Field for IpRouteLookupV2Reply {
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

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let retval = Field::get(from)?;
        let table_id = Field::get(from)?;
        let stats_index = Field::get(from)?;
        let prefix = Field::get(from)?;
        let count = u8::get(from)?;
        let source = Field::get(from)?;
        let paths = list(from, count.into())?;
        Ok(Self { retval, table_id, stats_index, prefix, source, paths })
    }
}

impl IpRouteLookupV2 {
    /// Looks for exactly `prefix` in the default table.
    #[must_use]
    pub const fn exact(prefix: Prefix) -> Self {
        Self { table_id: 0, exact: 1, prefix }
    }
}
