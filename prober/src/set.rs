//! Receiving a check set, or an amendment to one: a transaction that takes effect as a whole at its commit.

use std::collections::HashMap;
use std::time::Duration;

use maglev_ipc::check::{MAX_BUNDLE, MAX_BUNDLES, MAX_INTERVAL, MIN_INTERVAL};
use maglev_ipc::message::MAX_BATCH;
use maglev_ipc::regexp::{MAX_REGEXPS, RegexpSet};
use maglev_ipc::{
    Check, CheckId, ProbeKind, RejectReason, Schedule, TlsHandshake, TlsVerify, ToController, VERSION,
};

use crate::clock::Nanos;
use crate::outbox::Outbox;
use crate::probe::{ProbePlan, tls};
use crate::scheduler::{AcceptedCheck, Scheduler, SetChange, StartLimits};
use crate::targets::Targets;

/// Maximum number of rejected checks, or `--max-checks` if that is larger. Beyond it the link ends: this bounds the memory
/// that rejected checks take. No configuration has as many, even with a low `--max-checks`.
const MAX_REJECTED: usize = 100_000;

/// A violation of the protocol. It ends the link.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    /// A dropped check is not in the set.
    #[error("dropped check {0} is not in the set")]
    UnknownCheck(CheckId),
    /// Two checks of one set have the same identifier.
    #[error("duplicate check {0} in one set")]
    DuplicateCheck(CheckId),
    /// Two bundles of one set have the same number.
    #[error("duplicate bundle {0} in one set")]
    DuplicateBundle(u32),
    /// A bound of the message definitions is exceeded.
    #[error("{0} exceeds its bound")]
    ExceedsBound(&'static str),
    /// The two processes are of different builds.
    #[error("protocol version {0} does not match this prober's version {VERSION}")]
    VersionMismatch(u16),
    /// A message that is not allowed in this state.
    #[error("unexpected message: {0}")]
    UnexpectedMessage(&'static str),
}

/// Limits that the prober enforces on every controller.
#[derive(Clone, Debug)]
pub struct ProbeLimits {
    /// Addresses that may be probed.
    pub targets: Targets,
    /// Maximum number of checks.
    pub max_checks: u32,
    /// Maximum number of probes per second.
    pub max_rate: u32,
    /// Maximum number of probes per second of one address.
    pub max_rate_per_address: u32,
}

impl ProbeLimits {
    /// Returns the limits on starts of probes.
    pub const fn starts(&self) -> StartLimits {
        StartLimits { rate: self.max_rate, rate_per_address: self.max_rate_per_address }
    }
}

/// A whole set, or an amendment to the active one.
#[derive(Debug)]
pub struct ReceivedSet {
    /// The controller's number of it.
    pub generation: u64,
    /// Checks to remove from the active set; `None` for a whole set, which replaces it.
    pub dropped: Option<Vec<CheckId>>,
    /// Checks to probe.
    pub accepted: Vec<AcceptedCheck<ProbePlan>>,
    /// Rejected checks, with the reason.
    pub rejected: Vec<(CheckId, RejectReason)>,
}

impl ReceivedSet {
    /// Activates the set and queues the messages about it: rejected checks, verdict histories, and the commit. The histories
    /// are those of all kept checks after the first set of a link, and later those of checks that got another identifier.
    pub fn apply<F>(
        self,
        scheduler: &mut Scheduler<ProbePlan, F>,
        outbox: &mut Outbox,
        is_first: bool,
        now: Nanos,
    ) -> SetChange<F> {
        let Self { generation, dropped, accepted, rejected } = self;
        let change = match dropped {
            Some(removed) => scheduler.amend_set(&removed, accepted, now),
            None => scheduler.replace_set(accepted, now),
        };
        for (id, reason) in rejected {
            outbox.push_message(ToController::Rejected { id, reason });
        }
        let slots: Vec<_> = match is_first {
            true => change.kept.iter().map(|(slot, _)| *slot).collect(),
            false => change.renamed.clone(),
        };
        let mut histories = scheduler.verdict_histories(slots.into_iter()).peekable();
        while histories.peek().is_some() {
            outbox.push_message(ToController::Histories(histories.by_ref().take(MAX_BATCH).collect()));
        }
        outbox.push_message(ToController::Committed { generation });
        change
    }
}

/// Summary of the active set: enough to validate amendments and to enforce the limits.
#[derive(Debug)]
pub struct ActiveSet {
    /// Rate of each check in thousandths of a probe per second; `None` for a rejected check.
    checks: HashMap<CheckId, Option<u64>>,
    /// Numbers of the bundles in [`tls::TlsConfigs`].
    bundles: HashMap<u32, u32>,
    /// Regular expressions.
    regexps: RegexpSet,
    /// Number of accepted checks.
    accepted: usize,
    /// Total rate of accepted checks, in thousandths of a probe per second.
    rate: u64,
}

impl Default for ActiveSet {
    fn default() -> Self {
        Self {
            checks: HashMap::new(),
            bundles: HashMap::new(),
            // An amendment may replace all expressions of a configuration.
            regexps: RegexpSet::new(2 * MAX_REGEXPS),
            accepted: 0,
            rate: 0,
        }
    }
}

/// A set or an amendment that is being received.
#[derive(Debug)]
pub struct StagedSet {
    limits: ProbeLimits,
    set: ReceivedSet,
    active: ActiveSet,
}

impl StagedSet {
    /// Begins a whole set.
    pub fn begin_set(generation: u64, limits: ProbeLimits) -> Self {
        let set = ReceivedSet { generation, dropped: None, accepted: Vec::new(), rejected: Vec::new() };
        Self { limits, set, active: ActiveSet::default() }
    }

    /// Begins an amendment to the `active` set.
    pub fn begin_amendment(generation: u64, limits: ProbeLimits, active: ActiveSet) -> Self {
        let dropped = Some(Vec::new());
        Self {
            limits,
            set: ReceivedSet { generation, dropped, accepted: Vec::new(), rejected: Vec::new() },
            active,
        }
    }

    /// Adds a CA bundle.
    ///
    /// # Errors
    /// The bundle is too large, one too many, a duplicate, or part of an amendment.
    pub fn add_bundle(
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

    /// Removes checks from the set.
    ///
    /// # Errors
    /// A check is not in the set, the set is not an amendment, or checks have been added already.
    pub fn drop_checks(&mut self, ids: Vec<CheckId>) -> Result<(), ProtocolError> {
        let Self { set, active, .. } = self;
        let dropped = set.dropped.as_mut().filter(|_| set.accepted.is_empty() && set.rejected.is_empty());
        let dropped = dropped.ok_or(ProtocolError::UnexpectedMessage("Drop"))?;
        for id in ids {
            // A rejected check occupies no slot.
            if let Some(rate) = active.checks.remove(&id).ok_or(ProtocolError::UnknownCheck(id))? {
                active.accepted -= 1;
                active.rate -= rate;
                dropped.push(id);
            }
        }
        Ok(())
    }

    /// Adds a check. A rejected check does not affect the others.
    ///
    /// # Errors
    /// The identifier is a duplicate, or too many checks were rejected.
    pub fn add_check(
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
                self.set.accepted.push(AcceptedCheck { id, interval, stable_after, check, plan });
                Some(per_mille(interval))
            }
            Err(reason) => {
                self.set.rejected.push((id, reason));
                None
            }
        };
        self.active.accepted += usize::from(rate.is_some());
        self.active.rate += rate.unwrap_or_default();
        self.active.checks.insert(id, rate);
        Ok(())
    }

    /// Ends the transaction. Returns the set, and the summary of the set that is active with it.
    ///
    /// # Errors
    /// The generation is not the one that began.
    pub fn commit(
        mut self,
        generation: u64,
        configs: &mut tls::TlsConfigs,
    ) -> Result<(ReceivedSet, ActiveSet), ProtocolError> {
        if generation != self.set.generation {
            return Err(ProtocolError::UnexpectedMessage("Commit of another generation"));
        }
        self.active.regexps.forget_unused();
        configs.retain(&self.active.bundles.values().copied().collect());
        Ok((self.set, self.active))
    }

    /// Applies the limits to a check, and prepares its probes.
    fn admit(
        &mut self,
        interval: Duration,
        mut check: Check,
        configs: &mut tls::TlsConfigs,
    ) -> Result<(Check, ProbePlan), RejectReason> {
        check.validate()?;
        self.limits.targets.check(check.target)?;
        if !is_allowed_interval(interval) {
            return Err(RejectReason::Bounds { what: "interval".to_owned() });
        }
        if self.active.accepted >= self.limits.max_checks as usize {
            return Err(RejectReason::Limit { what: format!("--max-checks {}", self.limits.max_checks) });
        }
        if self.active.rate + per_mille(interval) > u64::from(self.limits.max_rate) * 1000 {
            return Err(RejectReason::Limit { what: format!("--max-rate {}", self.limits.max_rate) });
        }
        self.resolve_bundle(&mut check)?;
        let plan = ProbePlan::compile(&check, configs, &mut self.active.regexps)?;
        Ok((check, plan))
    }

    /// Replaces the link's number of the check's CA bundle by the one of its content.
    fn resolve_bundle(&self, check: &mut Check) -> Result<(), RejectReason> {
        let (ProbeKind::Tcp { tls, .. } | ProbeKind::Http { tls, .. }) = &mut check.probe else {
            return Ok(());
        };
        let Some(TlsHandshake { verify: TlsVerify::Bundle(id), .. }) = tls else { return Ok(()) };
        let number = self.active.bundles.get(id).copied();
        *id = number.ok_or_else(|| RejectReason::Invalid(format!("bundle {id} was not sent")))?;
        Ok(())
    }
}

/// Returns true if checks may have this interval.
pub fn is_allowed_interval(interval: Duration) -> bool {
    (MIN_INTERVAL..=MAX_INTERVAL).contains(&interval)
}

/// Returns a rate in thousandths of a probe per second, rounded up.
fn per_mille(interval: Duration) -> u64 {
    1_000_000_000_u64.div_ceil((interval.as_micros() as u64).max(1))
}
