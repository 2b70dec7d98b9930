//! Plans: the steps from the actual to the desired state of a VIP, in an order that is safe for traffic.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::dataplane::{ANY_PROTOCOL, ActualAs, ActualVip, DesiredVip, Encap, Step, VipKey};

/// Returns the steps that turn `found` into `wanted`.
///
/// * Servers are added and raised before any is lowered or removed, so a VIP that is to have weight always has some.
/// * Within each kind of step, servers are ordered by address, IPv4 first.
/// * VPP cannot change encapsulation and src-ip-sticky in place: the VIP is removed and created again. Without `may_create`
///   (see [`blocks_creation`]) the plan ends after the removal.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::net::IpAddr;
///
/// use maglev_core::dataplane::{ActualAs, ActualVip, DesiredAs, DesiredVip, Encap};
/// use maglev_core::plan::plan;
///
/// let server = |n: u8| IpAddr::from([192, 0, 2, n]);
/// let found = ActualVip {
///     encap: Encap::Gre4,
///     table_length: Some(1024),
///     src_ip_sticky: Some(false),
///     servers: BTreeMap::from([(server(1), ActualAs { weight: 1, buckets: 1024 })]),
/// };
/// let wanted = DesiredVip {
///     encap: Encap::Gre4,
///     src_ip_sticky: false,
///     table_length: 1024,
///     servers: BTreeMap::from([
///         (server(1), DesiredAs { weight: 0, flush: true }),
///         (server(2), DesiredAs { weight: 1, flush: false }),
///     ]),
/// };
/// let steps = plan(Some(&wanted), Some(&found), true);
/// let steps: Vec<_> = steps.iter().map(ToString::to_string).collect();
/// assert_eq!(steps, ["add 192.0.2.2 weight 1", "set 192.0.2.1 weight 1 -> 0 flush"]);
/// ```
#[must_use]
pub fn plan(wanted: Option<&DesiredVip>, found: Option<&ActualVip>, may_create: bool) -> Vec<Step> {
    match (wanted, found) {
        (None, None) => Vec::new(),
        (None, Some(found)) => remove(found),
        (Some(wanted), Some(found)) if !needs_recreate(wanted, found) => change(wanted, found),
        (Some(wanted), found) => {
            let mut steps = found.map(remove).unwrap_or_default();
            if may_create {
                steps.extend(create(wanted));
            }
            steps
        }
    }
}

/// Reports whether the VIP must be created again, which breaks its flows.
#[must_use]
pub fn needs_recreate(wanted: &DesiredVip, found: &ActualVip) -> bool {
    wanted.encap != found.encap || found.src_ip_sticky != Some(wanted.src_ip_sticky)
}

/// Reports whether VPP rejects the creation of `vip` while `other` exists. VPP allows either one VIP for all ports of a
/// prefix, or VIPs for one port each, with the same encapsulation.
#[must_use]
pub fn blocks_creation(other: (&VipKey, Encap), vip: (&VipKey, Encap)) -> bool {
    let all_ports = |key: &VipKey| key.protocol == ANY_PROTOCOL;
    other.0 != vip.0
        && other.0.same_prefix(vip.0)
        && (all_ports(other.0) || all_ports(vip.0) || other.1 != vip.1)
}

/// Returns encapsulation and src-ip-sticky of the VIP that these steps create.
#[must_use]
pub fn created_options(steps: &[Step]) -> Option<(Encap, bool)> {
    steps.iter().find_map(|step| match *step {
        Step::CreateVip { encap, src_ip_sticky, .. } => Some((encap, src_ip_sticky)),
        _ => None,
    })
}

/// Applies `step` to `vip`.
pub fn apply(step: &Step, vip: &mut Option<ActualVip>) {
    match (*step, vip) {
        (Step::CreateVip { encap, src_ip_sticky, table_length }, vip) => {
            let (table_length, src_ip_sticky) = (Some(table_length), Some(src_ip_sticky));
            *vip = Some(ActualVip { encap, table_length, src_ip_sticky, servers: BTreeMap::new() });
        }
        (Step::RemoveVip, vip) => *vip = None,
        (Step::AddAs { server, weight } | Step::SetWeight { server, to: weight, .. }, Some(vip)) => {
            let buckets = vip.servers.get(&server).map_or(0, |s| s.buckets);
            vip.servers.insert(server, ActualAs { weight, buckets });
        }
        (Step::RemoveAs { server }, Some(vip)) => {
            vip.servers.remove(&server);
        }
        (Step::AddAs { .. } | Step::SetWeight { .. } | Step::RemoveAs { .. }, None) => {}
    }
}

fn create(wanted: &DesiredVip) -> Vec<Step> {
    let DesiredVip { encap, src_ip_sticky, table_length, ref servers } = *wanted;
    let mut steps = Vec::with_capacity(servers.len() + 1);
    steps.push(Step::CreateVip { encap, src_ip_sticky, table_length });
    steps.extend(servers.iter().map(|(server, s)| Step::AddAs { server: *server, weight: s.weight }));
    steps
}

fn remove(found: &ActualVip) -> Vec<Step> {
    let mut steps: Vec<_> = found.servers.keys().map(|server| Step::RemoveAs { server: *server }).collect();
    steps.push(Step::RemoveVip);
    steps
}

fn change(wanted: &DesiredVip, found: &ActualVip) -> Vec<Step> {
    let (mut add, mut raise, mut lower) = (Vec::new(), Vec::new(), Vec::new());
    for (server, s) in &wanted.servers {
        let (server, to, flush) = (*server, s.weight, s.flush);
        match found.servers.get(&server).map(|f| f.weight) {
            None => add.push(Step::AddAs { server, weight: to }),
            Some(from) if from < to => raise.push(Step::SetWeight { server, from, to, flush }),
            Some(from) if from > to || flush => lower.push(Step::SetWeight { server, from, to, flush }),
            Some(_) => {}
        }
    }
    let gone = found.servers.keys().filter(|server| !wanted.servers.contains_key(*server));
    let remove = gone.map(|server| Step::RemoveAs { server: *server });
    add.into_iter().chain(raise).chain(lower).chain(remove).collect()
}

/// Number of steps by kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StepCounts {
    /// VIPs created.
    pub vip_added: u32,
    /// VIPs removed.
    pub vip_removed: u32,
    /// Servers added.
    pub as_added: u32,
    /// Servers removed.
    pub as_removed: u32,
    /// Weights set.
    pub as_weight_updated: u32,
}

impl StepCounts {
    /// Counts `steps`.
    #[must_use]
    pub fn of(steps: &[Step]) -> Self {
        let mut counts = Self::default();
        for step in steps {
            match step {
                Step::CreateVip { .. } => counts.vip_added += 1,
                Step::RemoveVip => counts.vip_removed += 1,
                Step::AddAs { .. } => counts.as_added += 1,
                Step::RemoveAs { .. } => counts.as_removed += 1,
                Step::SetWeight { .. } => counts.as_weight_updated += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests;
