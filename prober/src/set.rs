//! Receiving a check set, or an amendment to one: a transaction that takes effect whole at its commit, or not at all.

use std::collections::HashMap;
use std::time::Duration;

use maglev_ipc::check::{MAX_BUNDLE, MAX_BUNDLES, MAX_INTERVAL, MIN_INTERVAL};
use maglev_ipc::message::MAX_BATCH;
use maglev_ipc::{
    Check, CheckId, ProbeKind, RejectReason, Schedule, TlsHandshake, TlsVerify, ToController, VERSION,
};

use crate::clock::Nanos;
use crate::outbox::Outbox;
use crate::probe::{ProbePlan, tls};
use crate::scheduler::{AcceptedCheck, Scheduler, SetChange};

/// So many checks are refused, one by one, or as many as may be in force if those are more. Beyond that the link ends: it is
/// what the refused may take of memory, and no configuration, however low `--max-checks` is.
const MAX_REJECTED: usize = 100_000;

/// What breaks the protocol. It ends the link.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    /// A check that leaves the set is not in it.
    #[error("check {0} is dropped, and is not in the set")]
    UnknownCheck(CheckId),
    /// Two checks of one set have one name.
    #[error("check {0} is sent twice in one set")]
    DuplicateCheck(CheckId),
    /// Two bundles of one set have one number.
    #[error("bundle {0} is sent twice in one set")]
    DuplicateBundle(u32),
    /// A bound that the messages define is exceeded.
    #[error("{0} exceeds its bound")]
    ExceedsBound(&'static str),
    /// The two ends were not built together.
    #[error("it speaks version {0} of the messages, this prober version {VERSION}")]
    VersionMismatch(u16),
    /// A message that may not come here.
    #[error("{0} out of turn")]
    UnexpectedMessage(&'static str),
}

/// What may be in force at most.
#[derive(Clone, Copy, Debug)]
pub struct ProbeLimits {
    /// Checks.
    pub max_checks: u32,
    /// Probes a second.
    pub max_rate: u32,
}

/// A whole set, or an amendment to the one in force.
#[derive(Debug)]
pub struct CheckSet {
    /// As the controller numbers it.
    pub generation: u64,
    /// What leaves the set in force; `None` is all of it.
    pub dropped: Option<Vec<CheckId>>,
    /// What is to be probed.
    pub accepted: Vec<AcceptedCheck<ProbePlan>>,
    /// What is not, and why.
    pub rejected: Vec<(CheckId, RejectReason)>,
}

impl CheckSet {
    /// Puts it in force, and has the controller told: what is refused, with the first set of a link what is known of the
    /// checks that go on, and that it is in force.
    pub fn apply<F>(
        self,
        scheduler: &mut Scheduler<ProbePlan, F>,
        outbox: &mut Outbox,
        is_first: bool,
        now: Nanos,
    ) -> SetChange<F> {
        let Self { generation, dropped, accepted, rejected } = self;
        let change = match dropped {
            Some(gone) => scheduler.amend_set(&gone, accepted, now),
            None => scheduler.replace_set(accepted, now),
        };
        for (id, why) in rejected {
            outbox.message(ToController::Rejected { id, reason: why });
        }
        if is_first {
            let slots = change.kept.iter().map(|(slot, _)| *slot);
            let mut streaks = scheduler.verdict_histories(slots).peekable();
            while streaks.peek().is_some() {
                outbox.message(ToController::Histories(streaks.by_ref().take(MAX_BATCH).collect()));
            }
        }
        outbox.message(ToController::Committed { generation });
        change
    }
}

/// What a set holds, as far as amendments to it are judged by that.
#[derive(Debug, Default)]
pub struct ActiveSet {
    /// Probes a second of each member, in thousandths; `None` is a check that was refused.
    checks: HashMap<CheckId, Option<u64>>,
    bundles: HashMap<u32, u32>,
    accepted: usize,
    /// Probes a second of all members, in thousandths.
    rate: u64,
}

/// A set or an amendment that is being received.
#[derive(Debug)]
pub struct StagedSet {
    limits: ProbeLimits,
    set: CheckSet,
    active: ActiveSet,
}

impl StagedSet {
    /// Begins a set.
    pub fn set(generation: u64, limits: ProbeLimits) -> Self {
        let set = CheckSet { generation, dropped: None, accepted: Vec::new(), rejected: Vec::new() };
        Self { limits, set, active: ActiveSet::default() }
    }

    /// Begins an amendment to the set that holds what stands in `active`.
    pub fn amendment(generation: u64, limits: ProbeLimits, active: ActiveSet) -> Self {
        let dropped = Some(Vec::new());
        Self {
            limits,
            set: CheckSet { generation, dropped, accepted: Vec::new(), rejected: Vec::new() },
            active,
        }
    }

    /// Takes a bundle.
    ///
    /// # Errors
    /// Too large, too many, a number that is taken, or part of an amendment.
    pub fn bundle(
        &mut self,
        id: u32,
        pem: &[u8],
        configs: &mut tls::TlsConfigs,
    ) -> Result<(), ProtocolError> {
        if self.set.dropped.is_some() {
            return Err(ProtocolError::UnexpectedMessage("Bundle"));
        }
        if pem.len() > MAX_BUNDLE || self.active.bundles.len() >= MAX_BUNDLES {
            return Err(ProtocolError::ExceedsBound("a bundle"));
        }
        match self.active.bundles.insert(id, configs.add_bundle(pem)) {
            Some(_) => Err(ProtocolError::DuplicateBundle(id)),
            None => Ok(()),
        }
    }

    /// Takes the names of checks that leave.
    ///
    /// # Errors
    /// A name is not in the set, or this is no amendment, or one that has come to what is added.
    pub fn drop_checks(&mut self, ids: Vec<CheckId>) -> Result<(), ProtocolError> {
        let Self { set, active, .. } = self;
        let dropped = set.dropped.as_mut().filter(|_| set.accepted.is_empty() && set.rejected.is_empty());
        let dropped = dropped.ok_or(ProtocolError::UnexpectedMessage("Drop"))?;
        for id in ids {
            // A refused one is in no slot.
            if let Some(rate) = active.checks.remove(&id).ok_or(ProtocolError::UnknownCheck(id))? {
                active.accepted -= 1;
                active.rate -= rate;
                dropped.push(id);
            }
        }
        Ok(())
    }

    /// Takes a check. One that will not be probed is kept among the refused; the others run all the same.
    ///
    /// # Errors
    /// The name is taken.
    pub fn check(
        &mut self,
        id: CheckId,
        schedule: Schedule,
        check: Check,
        configs: &mut tls::TlsConfigs,
    ) -> Result<(), ProtocolError> {
        let Schedule { interval, stable_after } = schedule;
        if self.active.checks.contains_key(&id) {
            return Err(ProtocolError::DuplicateCheck(id));
        }
        if self.active.checks.len() - self.active.accepted
            >= (self.limits.max_checks as usize).max(MAX_REJECTED)
        {
            return Err(ProtocolError::ExceedsBound("the number of checks"));
        }
        let rate = match self.admit(interval, check, configs) {
            Ok((check, plan)) => {
                self.set.accepted.push(AcceptedCheck { id, interval, settled: stable_after, check, plan });
                Some(per_mille(interval))
            }
            Err(why) => {
                self.set.rejected.push((id, why));
                None
            }
        };
        self.active.accepted += usize::from(rate.is_some());
        self.active.rate += rate.unwrap_or_default();
        self.active.checks.insert(id, rate);
        Ok(())
    }

    /// Ends the set or the amendment. Returns it, and what is in force with it.
    ///
    /// # Errors
    /// Another was begun.
    pub fn commit(
        self,
        generation: u64,
        configs: &mut tls::TlsConfigs,
    ) -> Result<(CheckSet, ActiveSet), ProtocolError> {
        if generation != self.set.generation {
            return Err(ProtocolError::UnexpectedMessage("Commit of another generation"));
        }
        configs.retain(&self.active.bundles.values().copied().collect());
        Ok((self.set, self.active))
    }

    fn admit(
        &self,
        interval: Duration,
        mut check: Check,
        configs: &mut tls::TlsConfigs,
    ) -> Result<(Check, ProbePlan), RejectReason> {
        check.validate()?;
        if !interval_allowed(interval) {
            return Err(RejectReason::Bounds { what: "interval".to_owned() });
        }
        if self.active.accepted >= self.limits.max_checks as usize {
            return Err(RejectReason::Limit { what: format!("--max-checks {}", self.limits.max_checks) });
        }
        if self.active.rate + per_mille(interval) > u64::from(self.limits.max_rate) * 1000 {
            return Err(RejectReason::Limit { what: format!("--max-rate {}", self.limits.max_rate) });
        }
        self.renumber(&mut check)?;
        let plan = ProbePlan::compile(&check, configs)?;
        Ok((check, plan))
    }

    /// Names the check's bundle, if it has one, by content.
    fn renumber(&self, check: &mut Check) -> Result<(), RejectReason> {
        let (ProbeKind::Tcp { tls, .. } | ProbeKind::Http { tls, .. }) = &mut check.probe else {
            return Ok(());
        };
        let Some(TlsHandshake { verify: TlsVerify::Bundle(id), .. }) = tls else { return Ok(()) };
        let number = self.active.bundles.get(id).copied();
        *id = number.ok_or_else(|| RejectReason::Invalid(format!("bundle {id} was not sent")))?;
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
