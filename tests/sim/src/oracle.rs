//! What has to be so, worked out anew from the truth: it shares no code with what it judges.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use maglev_core::event::Kind;
use maglev_core::health::{Health, TransitionCause};
use maglev_ipc::OutcomeCode;
use tokio::time::Instant;

use super::shape::Shape;
use super::site::World;
use super::wishes::{Subject, Wish};

/// Verdicts older than this do not decide a transition.
const MEMORY: Duration = Duration::from_secs(120);

/// A prober that has room for what it has refused is asked again within this time.
const ROOM: Duration = Duration::from_secs(10);

/// What is excused, and until when.
#[derive(Debug)]
pub struct Oracle {
    /// Per frontend: its weights may be wrong.
    excused: Vec<Instant>,
    /// Per frontend: it may be written to.
    needs: Vec<Instant>,
    /// The same for VPP's global settings, and VIPs that are not ours.
    rest_excused: Instant,
    rest_needs: Instant,
    /// VPP may have something else than it is taken to have.
    differs: Instant,
    /// Per backend: what came of its probes, and when they were sent.
    verdicts: Vec<VecDeque<(Instant, bool)>>,
    /// Per backend: it loses some probes, but fewer than `fall`.
    tolerates: Vec<Instant>,
}

impl Oracle {
    /// Nothing is to be right before `from`.
    pub fn new(shape: &Shape, from: Instant) -> Self {
        Self {
            excused: vec![from; shape.frontends.len()],
            needs: vec![from; shape.frontends.len()],
            rest_excused: from,
            rest_needs: from,
            differs: from,
            verdicts: vec![VecDeque::new(); shape.backends.len()],
            tolerates: vec![Instant::now(); shape.backends.len()],
        }
    }

    /// What a frontend should be has changed: it is to be right when this time has passed.
    pub fn changes(&mut self, frontend: usize, within: Duration) {
        let until = Instant::now() + within;
        if let (Some(excused), Some(needs)) = (self.excused.get_mut(frontend), self.needs.get_mut(frontend)) {
            *excused = (*excused).max(until);
            *needs = *excused;
        }
    }

    /// What everything should be, or what it is, has changed.
    pub fn changes_all(&mut self, within: Duration) {
        (0..self.excused.len()).for_each(|frontend| self.changes(frontend, within));
        self.rest_excused = self.rest_excused.max(Instant::now() + within);
        self.rest_needs = self.rest_excused;
    }

    /// VPP may have something else than it is taken to have: it is to be right when this time has passed.
    pub fn differs(&mut self, within: Duration) {
        self.differs = self.differs.max(Instant::now() + within);
    }

    /// If it may have, that is seen within this time, whatever was to be before.
    pub fn compares_within(&mut self, within: Duration) {
        let now = Instant::now();
        if self.differs > now {
            self.differs = now + within;
        }
    }

    /// When VPP is to be right at the latest, as far as that is by what happened to all.
    pub fn compared(&self) -> Instant {
        self.differs
    }

    /// For this time nothing is done about what is wrong; but what is right is to stay as it is.
    pub fn disturbed(&mut self, within: Duration) {
        let (now, until) = (Instant::now(), Instant::now() + within);
        let (differs, rest) = (self.differs > now, (&mut self.rest_excused, &mut self.rest_needs));
        for (excused, needs) in self.excused.iter_mut().zip(&mut self.needs).chain([rest]) {
            *excused = (*excused).max(until);
            if differs || *needs > now {
                *needs = *excused;
            }
        }
    }

    /// Whether a backend's frontends are as they should be, and so is the way to it: it may lose probes below `fall`.
    pub fn tolerates(&mut self, backend: usize, frontends: &[usize], within: Duration) -> bool {
        let now = Instant::now();
        let calm = self.tolerates[backend] <= now
            && self.differs <= now
            && frontends.iter().all(|f| self.excused[*f] <= now);
        self.tolerates[backend] = now + within;
        calm
    }

    /// A probe was sent, and this will come of it.
    pub fn probed(&mut self, backend: usize, code: OutcomeCode) {
        let (Some(passed), Some(verdicts)) = (code.passed(), self.verdicts.get_mut(backend)) else { return };
        verdicts.push_back((Instant::now(), passed));
        if verdicts.len() > 256 {
            verdicts.pop_front();
        }
    }

    /// A transition needs probes that speak for it.
    pub fn heard(&self, kind: &Kind, shape: &Shape) -> Option<String> {
        let Kind::Backend { name, transition, .. } = kind else { return None };
        let TransitionCause::Outcome { .. } = transition.cause else { return None };
        let backend = Shape::number(name)?;
        let check = &shape.checks[shape.backends[backend]?];
        let since = Instant::now().checked_sub(MEMORY);
        let recent = |(at, _): &&(Instant, bool)| since.is_none_or(|since| *at >= since);
        let known = self.verdicts[backend].iter();
        let (needed, wanted) = match (transition.from, transition.to) {
            (Health::Up, Health::Down) => (check.fall, false),
            (Health::Down, Health::Up) => (check.rise, true),
            // They may be remembered from long ago.
            (_, to) => {
                let speaks = known.into_iter().any(|(_, passed)| *passed == (to == Health::Up));
                return (!speaks).then(|| format!("b{backend} became {to}, and no probe says so"));
            }
        };
        let speaking = known.filter(recent).filter(|(_, passed)| *passed == wanted).count();
        (speaking < needed as usize).then(|| {
            let to = transition.to;
            format!("b{backend} became {to}, and {speaking} of its probes say so, where {needed} are to")
        })
    }

    /// Something was written for this VIP, or for everybody. What is wrong with that.
    pub fn written(&self, shape: &Shape, vip: Option<IpAddr>) -> Option<String> {
        let now = Instant::now();
        let frontend = vip.and_then(|vip| (0..shape.frontends.len()).find(|f| Shape::vip(*f) == vip));
        let until = frontend.map_or(self.rest_needs, |frontend| self.needs[frontend]);
        (now > until.max(self.differs)).then(|| "nothing was to be written".to_owned())
    }
}

impl World {
    /// What an operator wants is another thing than it was.
    pub fn changes(&mut self, subject: Subject) {
        match subject {
            Subject::Backend(backend) => self.backend_changes(backend, Duration::ZERO),
            Subject::Weight(frontend, ..) => self.oracle.changes(frontend, self.shape.slack()),
        }
    }

    /// A server, or the way to it, is not what it was, and will be so after this time at the latest.
    pub fn server_changes(&mut self, server: usize, after: Duration) {
        for backend in self.shape.backends_on(server) {
            self.backend_changes(backend, after);
        }
    }

    /// The same of one backend.
    pub fn backend_changes(&mut self, backend: usize, after: Duration) {
        let Some(_) = self.shape.backends.get(backend) else { return };
        let within = after + self.shape.notice(backend) + self.shape.slack();
        for frontend in self.shape.frontends_of(backend) {
            self.oracle.changes(frontend, within);
        }
    }

    /// Another file is read while `maglevd` runs.
    pub fn retire(&mut self, next: &Shape) {
        for (number, (was, is)) in self.shape.frontends.iter().zip(&next.frontends).enumerate() {
            if !is.absent {
                self.retired.remove(&number);
            } else if !was.absent {
                self.retired.insert(number);
            }
        }
    }

    /// How many of the next probes of a backend are lost.
    pub fn losing(&self, backend: usize) -> u32 {
        self.truth.losing(self.shape.server(backend))
    }

    /// What is wrong now.
    pub fn wrong(&self) -> Option<String> {
        let Some(vpp) = &self.vpp else {
            return (self.oracle.rest_excused < Instant::now()).then(|| "there is no VPP".to_owned());
        };
        let (now, oracle, found) = (Instant::now(), &self.oracle, vpp.weights());
        for (frontend, until) in oracle.excused.iter().enumerate() {
            if now <= *until.max(&oracle.differs) {
                continue;
            }
            let there = found.get(&Shape::vip(frontend));
            let fault = match (self.shape.frontends[frontend].absent, there) {
                (true, Some(_)) if self.shape.alone || self.retired.contains(&frontend) => {
                    Some("has a VIP, though nobody wants it".to_owned())
                }
                (true, _) => None,
                (false, None) => Some("has no VIP".to_owned()),
                (false, Some(there)) => self.differs(frontend, there),
            };
            if let Some(fault) = fault {
                return Some(format!("f{frontend} {fault}"));
            }
        }
        if now <= oracle.rest_excused.max(oracle.differs) {
            return None;
        }
        if self.refusals.room().is_some_and(|since| now > since + ROOM) {
            return Some("the prober has room for what it refuses, and is not asked again".to_owned());
        }
        let ours =
            |vip: &IpAddr| (0..self.shape.frontends.len()).any(|frontend| Shape::vip(frontend) == *vip);
        if self.shape.alone
            && let Some(vip) = found.keys().find(|vip| !ours(vip))
        {
            return Some(format!("VIP {vip} is nobody's"));
        }
        let used = self.shape.frontends.iter().any(|frontend| !frontend.absent);
        let (is, wanted) = (u64::from(vpp.flow_timeout()), self.shape.flow_timeout);
        (used && is != wanted).then(|| format!("VPP's flow timeout is {is}, and not {wanted}"))
    }

    /// What is wrong with the weights that VPP has for a frontend.
    fn differs(&self, frontend: usize, found: &BTreeMap<IpAddr, u8>) -> Option<String> {
        let wanted = self.wanted(frontend);
        // As long as nothing is known of any of them, what VPP does stays as it is.
        let is_blind = wanted.values().all(|(_, why)| *why == Health::Unknown.as_str());
        let servers = wanted.keys().chain(found.keys().filter(|server| !wanted.contains_key(server)));
        for server in servers {
            let name = match server {
                IpAddr::V4(address) => format!("b{}", address.octets()[3].wrapping_sub(1)),
                IpAddr::V6(_) => server.to_string(),
            };
            let fault = match (wanted.get(server), found.get(server)) {
                (Some((_, why)), None) => format!("lacks {name}, which is {why}"),
                (None, Some(_)) => format!("has {name}, which is none of its backends"),
                _ if is_blind => continue,
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
        let pools = self.shape.frontends[frontend].pools.iter().enumerate();
        let members: Vec<_> = pools
            .flat_map(|(pool, members)| {
                members.iter().map(move |(backend, weight)| (pool, *backend, *weight))
            })
            .map(|(pool, backend, configured)| {
                let weight = match self.wishes.of(Subject::Weight(frontend, pool, backend)) {
                    Wish::Weight(weight) => weight,
                    _ => configured,
                };
                (pool, backend, weight, self.health(backend))
            })
            .collect();
        let divisor = members.iter().fold(0, |divisor, member| gcd(divisor, member.2)).max(1);
        let can_serve = |member: &&(usize, usize, u8, &str)| member.2 > 0 && member.3 == UP;
        let active = members.iter().filter(can_serve).map(|member| member.0).min();
        let weigh = |(pool, backend, weight, health): (usize, usize, u8, &'static str)| {
            let serves = health == UP && Some(pool) == active;
            let why = if health == UP && !serves { "in a pool that stands by" } else { health };
            (Shape::address(self.shape.server(backend)), (if serves { weight / divisor } else { 0 }, why))
        };
        members.into_iter().map(weigh).collect()
    }

    fn health(&self, backend: usize) -> &'static str {
        let server = self.shape.server(backend);
        match self.wishes.of(Subject::Backend(backend)) {
            Wish::Disabled => "disabled",
            Wish::Paused => "paused",
            _ if self.shape.backends[backend].is_none() => UP,
            _ if self.refusals.has(server) => self.refusals.known(backend).as_str(),
            _ if self.truth.is_well(server) => UP,
            _ => "down",
        }
    }
}

/// What a server is that may have weight.
const UP: &str = "up";

fn gcd(a: u8, b: u8) -> u8 {
    if b == 0 { a } else { gcd(b, a % b) }
}
