//! The state that VPP should have, worked out from the servers, the file and the overrides: it shares no code with `maglevd`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use maglev_core::health::Health;
use tokio::time::Instant;

use super::config_model::ConfigModel;
use super::expected_overrides::{OverrideTarget, OverrideValue};
use super::world::SimWorld;

/// A prober that has room for what it has refused is asked again within this time.
const ROOM: Duration = Duration::from_secs(10);

impl SimWorld {
    /// What an operator wants is another thing than it was.
    pub fn tolerate_target(&mut self, subject: OverrideTarget) {
        match subject {
            OverrideTarget::Backend(backend) => self.tolerate_backend(backend, Duration::ZERO),
            OverrideTarget::Weight(frontend, ..) => self.oracle.tolerate(frontend, self.model.apply_time()),
        }
    }

    /// A server, or the way to it, is not what it was, and will be so after this time at the latest.
    pub fn tolerate_server(&mut self, server: usize, after: Duration) {
        for backend in self.model.backends_on(server) {
            self.tolerate_backend(backend, after);
        }
    }

    /// The same of one backend.
    pub fn tolerate_backend(&mut self, backend: usize, after: Duration) {
        let Some(_) = self.model.backends.get(backend) else { return };
        let within = after + self.model.detection_time(backend) + self.model.apply_time();
        for frontend in self.model.frontends_of(backend) {
            self.oracle.tolerate(frontend, within);
        }
    }

    /// Another file is read while `maglevd` runs.
    pub fn retire(&mut self, next: &ConfigModel) {
        for (number, (was, is)) in self.model.frontends.iter().zip(&next.frontends).enumerate() {
            if !is.is_absent {
                self.retired.remove(&number);
            } else if !was.is_absent {
                self.retired.insert(number);
            }
        }
    }

    /// How many of the next probes of a backend are lost.
    pub fn probes_to_drop(&self, backend: usize) -> u32 {
        self.fleet.probes_to_drop(self.model.server(backend))
    }

    /// What is wrong now.
    pub fn find_violation(&self) -> Option<String> {
        let Some(vpp) = &self.vpp else {
            return (self.oracle.rest_wrong_until < Instant::now()).then(|| "there is no VPP".to_owned());
        };
        let (now, oracle, found) = (Instant::now(), &self.oracle, vpp.weights());
        for (frontend, until) in oracle.wrong_until.iter().enumerate() {
            if now <= *until.max(&oracle.differs_until) {
                continue;
            }
            let there = found.get(&ConfigModel::vip(frontend));
            let fault = match (self.model.frontends[frontend].is_absent, there) {
                (true, Some(_)) if self.model.alone || self.retired.contains(&frontend) => {
                    Some("has a VIP, though nobody wants it".to_owned())
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
            return Some("the prober has room for what it refuses, and is not asked again".to_owned());
        }
        let ours =
            |vip: &IpAddr| (0..self.model.frontends.len()).any(|frontend| ConfigModel::vip(frontend) == *vip);
        if self.model.alone
            && let Some(vip) = found.keys().find(|vip| !ours(vip))
        {
            return Some(format!("VIP {vip} is nobody's"));
        }
        let used = self.model.frontends.iter().any(|frontend| !frontend.is_absent);
        let (is, wanted) = (u64::from(vpp.flow_timeout()), self.model.flow_timeout);
        (used && is != wanted).then(|| format!("VPP's flow timeout is {is}, and not {wanted}"))
    }

    /// What is wrong with the weights that VPP has for a frontend.
    fn weight_difference(&self, frontend: usize, found: &BTreeMap<IpAddr, u8>) -> Option<String> {
        let wanted = self.wanted(frontend);
        // As long as nothing is known of any of them, what VPP does stays as it is.
        let is_unknown = wanted.values().all(|(_, why)| *why == Health::Unknown.as_str());
        let servers = wanted.keys().chain(found.keys().filter(|server| !wanted.contains_key(server)));
        for server in servers {
            let name = match server {
                IpAddr::V4(address) => format!("b{}", address.octets()[3].wrapping_sub(1)),
                IpAddr::V6(_) => server.to_string(),
            };
            let fault = match (wanted.get(server), found.get(server)) {
                (Some((_, why)), None) => format!("lacks {name}, which is {why}"),
                (None, Some(_)) => format!("has {name}, which is none of its backends"),
                _ if is_unknown => continue,
                (Some((0, why)), Some(1..)) => format!("gives weight to {name}, which is {why}"),
                (Some((1.., why)), Some(0)) => format!("gives no weight to {name}, which is {why}"),
                (Some((wanted, _)), Some(is)) if wanted != is => {
                    format!("gives {name} weight {is}, and not {wanted}")
                }
                _ => continue,
            };
            return Some(fault);
        }
        None
    }

    /// The weight that each server of a frontend should have, and why.
    fn wanted(&self, frontend: usize) -> BTreeMap<IpAddr, (u8, &'static str)> {
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
        let divisor = members.iter().fold(0, |divisor, member| gcd(divisor, member.2)).max(1);
        let can_serve = |member: &&(usize, usize, u8, &str)| member.2 > 0 && member.3 == UP;
        let active = members.iter().filter(can_serve).map(|member| member.0).min();
        let set_weight = |(pool, backend, weight, health): (usize, usize, u8, &'static str)| {
            let serves = health == UP && Some(pool) == active;
            let why = if health == UP && !serves { "in a pool that stands by" } else { health };
            (
                ConfigModel::address(self.model.server(backend)),
                (if serves { weight / divisor } else { 0 }, why),
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

/// What a server is that may have weight.
const UP: &str = "up";

fn gcd(a: u8, b: u8) -> u8 {
    if b == 0 { a } else { gcd(b, a % b) }
}
