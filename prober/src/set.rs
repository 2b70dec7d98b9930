//! Receiving a check set: a transaction that takes effect whole at its commit, or not at all.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use maglev_ipc::check::{MAX_BUNDLE, MAX_BUNDLES, MAX_INTERVAL, MIN_INTERVAL};
use maglev_ipc::{Check, CheckId, Probe, Refusal, Tls, Verify};

use crate::course::Member;
use crate::probe::{Plan, tls};
use crate::protocol::Violation;

/// What may be in force at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Checks.
    pub checks: u32,
    /// Probes a second.
    pub rate: u32,
}

/// A whole set.
#[derive(Debug)]
pub struct Set {
    /// As the controller numbers it.
    pub generation: u64,
    /// What is to be probed.
    pub members: Vec<Member<Plan>>,
    /// What is not, and why.
    pub refused: Vec<(CheckId, Refusal)>,
}

/// A set that is being received.
#[derive(Debug)]
pub struct Staging {
    limits: Limits,
    set: Set,
    ids: HashSet<CheckId>,
    bundles: HashMap<u32, u32>,
    /// Probes a second of the members, in thousandths.
    rate: u64,
}

impl Staging {
    /// Begins a set.
    pub fn new(generation: u64, limits: Limits) -> Self {
        let set = Set { generation, members: Vec::new(), refused: Vec::new() };
        Self { limits, set, ids: HashSet::new(), bundles: HashMap::new(), rate: 0 }
    }

    /// Takes a bundle.
    ///
    /// # Errors
    /// Too large, too many, or a number that is taken.
    pub fn bundle(&mut self, id: u32, pem: &[u8], configs: &mut tls::Configs) -> Result<(), Violation> {
        if pem.len() > MAX_BUNDLE || self.bundles.len() >= MAX_BUNDLES {
            return Err(Violation::Bound("a bundle"));
        }
        match self.bundles.insert(id, configs.add_bundle(pem)) {
            Some(_) => Err(Violation::TwiceBundle(id)),
            None => Ok(()),
        }
    }

    /// Takes a check. One that will not be probed is kept among the refused; the others run all the same.
    ///
    /// # Errors
    /// The name is taken.
    pub fn check(
        &mut self,
        id: CheckId,
        interval: Duration,
        check: Check,
        configs: &mut tls::Configs,
    ) -> Result<(), Violation> {
        if !self.ids.insert(id) {
            return Err(Violation::TwiceCheck(id));
        }
        if self.ids.len() as u64 > 2 * u64::from(self.limits.checks) {
            return Err(Violation::Bound("the number of checks"));
        }
        match self.admit(interval, check, configs) {
            Ok((check, plan)) => self.set.members.push(Member { id, interval, check, plan }),
            Err(why) => self.set.refused.push((id, why)),
        }
        Ok(())
    }

    /// Ends the set.
    ///
    /// # Errors
    /// Another set was begun.
    pub fn commit(self, generation: u64, configs: &mut tls::Configs) -> Result<Set, Violation> {
        if generation != self.set.generation {
            return Err(Violation::Turn("Commit of another generation"));
        }
        configs.retain(&self.bundles.into_values().collect());
        Ok(self.set)
    }

    fn admit(
        &mut self,
        interval: Duration,
        mut check: Check,
        configs: &mut tls::Configs,
    ) -> Result<(Check, Plan), Refusal> {
        check.validate()?;
        if !interval_allowed(interval) {
            return Err(Refusal::Bounds { what: "interval".to_owned() });
        }
        if self.set.members.len() >= self.limits.checks as usize {
            return Err(Refusal::Limit { what: format!("--max-checks {}", self.limits.checks) });
        }
        let rate = self.rate + per_mille(interval);
        if rate > u64::from(self.limits.rate) * 1000 {
            return Err(Refusal::Limit { what: format!("--max-rate {}", self.limits.rate) });
        }
        self.renumber(&mut check)?;
        let plan = Plan::compile(&check, configs)?;
        self.rate = rate;
        Ok((check, plan))
    }

    /// Names the check's bundle, if it has one, by content.
    fn renumber(&self, check: &mut Check) -> Result<(), Refusal> {
        let (Probe::Tcp { tls, .. } | Probe::Http { tls, .. }) = &mut check.probe else { return Ok(()) };
        let Some(Tls { verify: Verify::Bundle(id), .. }) = tls else { return Ok(()) };
        let number = self.bundles.get(id).copied();
        *id = number.ok_or_else(|| Refusal::Invalid(format!("bundle {id} was not sent")))?;
        Ok(())
    }
}

/// Whether checks may have this interval.
pub fn interval_allowed(interval: Duration) -> bool {
    (MIN_INTERVAL..=MAX_INTERVAL).contains(&interval)
}

/// Thousandths of a probe a second, rounded up.
fn per_mille(interval: Duration) -> u64 {
    1_000_000_000_u64.div_ceil((interval.as_micros() as u64).max(1))
}
