//! Rules for `vpp.lb`.

use alloc::format;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use maglev_time::TextDuration;

use super::super::file::{self, Address, Maglev};
use super::super::{ForeignVips, Lb};
use super::{Scope, frontend, value};
use crate::dataplane::LbConf;

/// Bound on buckets: 4 flows and 64 bytes each, for every VPP worker. VPP's heap bounds them further.
const MAX_BUCKETS: u32 = 1 << 22;

pub fn lb(scope: &mut Scope<'_>, file: &Maglev) -> Option<Lb> {
    let lb = &file.vpp.lb;
    let some = Duration::from_millis(1)..=Duration::MAX;
    let half_a_minute = Duration::from_secs(30);
    let sync_interval = value::span(&mut scope.at("sync-interval"), lb.sync_interval, half_a_minute, some);
    let ipv4_src = source4(&mut scope.at("ipv4-src-address"), lb.ipv4_src_address, file);
    let ipv6_src = source6(&mut scope.at("ipv6-src-address"), lb.ipv6_src_address, file);
    let buckets = lb.sticky_buckets_per_core.unwrap_or(65536);
    let buckets = value::power_of_two(&mut scope.at("sticky-buckets-per-core"), buckets, 1..=MAX_BUCKETS);
    let flow_timeout = flow_timeout(&mut scope.at("flow-timeout"), lb.flow_timeout);

    let min = lb.startup_min_delay.map_or(Duration::ZERO, |span| span.0);
    let max = lb.startup_max_delay.map_or(half_a_minute, |span| span.0);
    if min > max {
        let message =
            format!("{} is more than startup-max-delay, which is {}", TextDuration(min), TextDuration(max));
        scope.at("startup-min-delay").refuse(message)?;
    }
    Some(Lb {
        sync_interval: sync_interval?,
        conf: LbConf {
            ipv4_src: ipv4_src?,
            ipv6_src: ipv6_src?,
            sticky_buckets_per_core: buckets?,
            flow_timeout: flow_timeout?,
        },
        startup_min_delay: min,
        startup_max_delay: max,
        foreign_vips: match lb.foreign_vips {
            None | Some(file::ForeignVips::Remove) => ForeignVips::Remove,
            Some(file::ForeignVips::Keep) => ForeignVips::Keep,
        },
        allow_no_frontends: lb.allow_no_frontends.unwrap_or_default(),
    })
}

fn source4(scope: &mut Scope<'_>, address: Option<Address>, file: &Maglev) -> Option<Ipv4Addr> {
    match (address, frontend::first_with(file, IpAddr::is_ipv4)) {
        (Some(address), _) => value::ipv4(scope, address),
        (None, Some(name)) => scope.refuse(format!("required, since frontend {name} has IPv4 backends")),
        (None, None) => Some(Ipv4Addr::BROADCAST),
    }
}

fn source6(scope: &mut Scope<'_>, address: Option<Address>, file: &Maglev) -> Option<Ipv6Addr> {
    match (address, frontend::first_with(file, IpAddr::is_ipv6)) {
        (Some(address), _) => value::ipv6(scope, address),
        (None, Some(name)) => scope.refuse(format!("required, since frontend {name} has IPv6 backends")),
        (None, None) => Some(Ipv6Addr::from_bits(u128::MAX)),
    }
}

fn flow_timeout(scope: &mut Scope<'_>, wanted: Option<TextDuration>) -> Option<u32> {
    let bounds = Duration::from_secs(1)..=Duration::from_secs(120);
    let timeout = value::span(scope, wanted, Duration::from_secs(40), bounds)?;
    if timeout.subsec_nanos() != 0 {
        return scope.refuse(format!("{} is not a whole number of seconds", TextDuration(timeout)));
    }
    u32::try_from(timeout.as_secs()).ok()
}
