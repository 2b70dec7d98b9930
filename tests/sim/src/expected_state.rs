//! The state that VPP should have, derived from the servers, the file and the overrides. It shares no code with `maglevd`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use maglev_core::health::Health;
use tokio::time::Instant;

use super::config_model::ConfigModel;
use super::expected_overrides::{OverrideTarget, OverrideValue};
use super::world::SimWorld;

/// Maximum time until a prober with room is sent a rejected check again.
const ROOM: Duration = Duration::from_secs(10);

impl SimWorld {
    /// Tolerates a deviation after a change of an override.
    pub fn tolerate_target(&mut self, subject: OverrideTarget) {
        match subject {
            OverrideTarget::Backend(backend) => self.tolerate_backend(backend, Duration::ZERO),
            OverrideTarget::Weight(frontend, ..) => self.oracle.tolerate(frontend, self.model.apply_time()),
        }
    }

    /// Tolerates a deviation of a server's backends, which is over after this time.
    pub fn tolerate_server(&mut self, server: usize, after: Duration) {
        for backend in self.model.backends_on(server) {
            self.tolerate_backend(backend, after);
        }
    }

    /// Tolerates a deviation of one backend, which is over after this time.
    pub fn tolerate_backend(&mut self, backend: usize, after: Duration) {
        let Some(_) = self.model.backends.get(backend) else { return };
        let within = after + self.model.detection_time(backend) + self.model.apply_time();
        for frontend in self.model.frontends_of(backend) {
            self.oracle.tolerate(frontend, within);
        }
    }

    /// Handles a reload while `maglevd` runs.
    pub fn retire(&mut self, next: &ConfigModel) {
        for (number, (was, is)) in self.model.frontends.iter().zip(&next.frontends).enumerate() {
            if !is.is_absent {
                self.retired.remove(&number);
            } else if !was.is_absent {
                self.retired.insert(number);
            }
        }
    }

    /// Returns the first difference between VPP and the expected state.
    pub fn find_violation(&self) -> Option<String> {
        let Some(vpp) = &self.vpp else {
            return (self.oracle.rest_wrong_until < Instant::now()).then(|| "there is no VPP".to_owned());
        };
        if let Some(lost) = self.find_lost_traffic() {
            return Some(lost);
        }
        let (now, oracle, found) = (Instant::now(), &self.oracle, vpp.weights());
        for (frontend, until) in oracle.wrong_until.iter().enumerate() {
            if now <= *until.max(&oracle.differs_until) {
                continue;
            }
            let there = found.get(&ConfigModel::vip(frontend));
            let fault = match (self.model.frontends[frontend].is_absent, there) {
                (true, Some(_)) if self.model.removes_foreign || self.retired.contains(&frontend) => {
                    Some("has a VIP that is not configured".to_owned())
                }
                (true, _) => None,
                (false, None) => Some("has no VIP".to_owned()),
                (false, Some(there)) => self.weight_difference(frontend, there),
            };
            if let Some(fault) = fault {
                return Some(format!("f{frontend} {fault}"));
            }
        }
        if now <= oracle.rest_wrong_until.max(oracle.differs_until) {
            return None;
        }
        if self.rejected_checks.room_since().is_some_and(|since| now > since + ROOM) {
            return Some("the prober has room for rejected checks, but was not sent them again".to_owned());
        }
        let ours =
            |vip: &IpAddr| (0..self.model.frontends.len()).any(|frontend| ConfigModel::vip(frontend) == *vip);
        if self.model.removes_foreign
            && let Some(vip) = found.keys().find(|vip| !ours(vip))
        {
            return Some(format!("VIP {vip} belongs to no frontend"));
        }
        let used = self.model.frontends.iter().any(|frontend| !frontend.is_absent);
        let (is, wanted) = (u64::from(vpp.flow_timeout()), self.model.flow_timeout);
        (used && is != wanted).then(|| format!("VPP's flow timeout is {is} instead of {wanted}"))
    }

    /// Returns the first difference between VPP's weights for a frontend and the expected ones. Each unknown backend may have
    /// kept its weight, or have had none; the check of writes notices one that lost it.
    fn weight_difference(&self, frontend: usize, found: &BTreeMap<IpAddr, u8>) -> Option<String> {
        let pools = &self.model.frontends[frontend].pools;
        let members = pools.iter().flat_map(|members| members.keys().copied());
        let unknown: Vec<_> = members.filter(|b| self.health(*b) == Health::Unknown.as_str()).collect();
        let kept = |bits: u32| unknown.iter().enumerate().filter(move |(at, _)| bits >> at & 1 == 1);
        let mut differences = (0..1 << unknown.len()).map(|bits| {
            let kept = kept(bits).map(|(_, backend)| *backend).collect();
            self.difference_from(&self.wanted(frontend, &kept), found)
        });
        let first = differences.next()?;
        first.filter(|_| differences.all(|difference| difference.is_some()))
    }

    fn difference_from(
        &self,
        wanted: &BTreeMap<IpAddr, (u8, &'static str)>,
        found: &BTreeMap<IpAddr, u8>,
    ) -> Option<String> {
        // While all backends are unknown, VPP's weights stay as they are.
        let is_unknown = wanted.values().all(|(_, why)| *why == Health::Unknown.as_str());
        let servers = wanted.keys().chain(found.keys().filter(|server| !wanted.contains_key(server)));
        for server in servers {
            let name = match server {
                IpAddr::V4(address) => format!("b{}", address.octets()[3].wrapping_sub(1)),
                IpAddr::V6(_) => server.to_string(),
            };
            let fault = match (wanted.get(server), found.get(server)) {
                (Some((_, why)), None) => format!("lacks {name}, which is {why}"),
                (None, Some(_)) => format!("has {name}, which is not one of its backends"),
                _ if is_unknown => continue,
                (Some((0, why)), Some(1..)) => format!("gives weight to {name}, which is {why}"),
                (Some((1.., why)), Some(0)) => format!("gives no weight to {name}, which is {why}"),
                (Some((wanted, _)), Some(is)) if wanted != is => {
                    format!("gives {name} weight {is} instead of {wanted}")
                }
                _ => continue,
            };
            return Some(fault);
        }
        None
    }

    /// Returns the expected weight of each server of a frontend, with the reason. The unknown backends in `kept` keep theirs.
    fn wanted(&self, frontend: usize, kept: &BTreeSet<usize>) -> BTreeMap<IpAddr, (u8, &'static str)> {
        let pools = self.model.frontends[frontend].pools.iter().enumerate();
        let members: Vec<_> = pools
            .flat_map(|(pool, members)| {
                members.iter().map(move |(backend, weight)| (pool, *backend, *weight))
            })
            .map(|(pool, backend, configured)| {
                let weight = match self.expected_overrides.of(OverrideTarget::Weight(frontend, pool, backend))
                {
                    OverrideValue::Weight(weight) => weight,
                    _ => configured,
                };
                (pool, backend, weight, self.health(backend))
            })
            .collect();
        let serves = |backend: usize, health: &str| health == UP || kept.contains(&backend);
        let can_serve = |member: &&(usize, usize, u8, &str)| member.2 > 0 && serves(member.1, member.3);
        let active = members.iter().filter(can_serve).map(|member| member.0).min();
        let is_exact = |pool: usize| {
            let mut weights = self.model.frontends[frontend].pools[pool].values();
            weights.clone().all(|weight| *weight <= 20)
                || weights.any(|weight| matches!(weight, 1..=4 | 7 | 8))
        };
        let set_weight = |(pool, backend, weight, health): (usize, usize, u8, &'static str)| {
            let serves = serves(backend, health) && Some(pool) == active;
            let why = if health == UP && !serves { "in a standby pool" } else { health };
            (
                ConfigModel::address(self.model.server(backend)),
                (if serves { units(weight, is_exact(pool)) } else { 0 }, why),
            )
        };
        members.into_iter().map(set_weight).collect()
    }

    fn health(&self, backend: usize) -> &'static str {
        let server = self.model.server(backend);
        match self.expected_overrides.of(OverrideTarget::Backend(backend)) {
            OverrideValue::Disabled => "disabled",
            OverrideValue::Paused => "paused",
            _ if self.model.backends[backend].is_none() => UP,
            _ if self.rejected_checks.has(server) => self.rejected_checks.last_reported(backend).as_str(),
            _ if self.fleet.is_healthy(server) => UP,
            _ => "down",
        }
    }
}

/// State of a server that may have weight.
const UP: &str = "up";

/// Returns the weight in VPP: a fifth, rounded, unless a configured weight of the pool is small.
fn units(weight: u8, is_exact: bool) -> u8 {
    match weight {
        _ if is_exact => weight,
        0 => 0,
        1..=7 => 1,
        _ => (weight + 2) / 5,
    }
}
