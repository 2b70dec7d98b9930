//! The protocol of the link, as [`ToProber`] defines it.

use std::time::Duration;

use maglev_ipc::message::MAX_BATCH;
use maglev_ipc::{CheckId, ToProber, VERSION};

use crate::probe::tls;
use crate::set::{ActiveSet, ProbeLimits, ProtocolError, ReceivedSet, StagedSet, is_allowed_interval};

/// A request of the controller, after validation.
#[derive(Debug)]
pub enum ControllerRequest {
    /// Activate a check set, or an amendment to the active one.
    ApplySet(ReceivedSet),
    /// Change intervals of active checks.
    SetIntervals(Vec<(CheckId, Duration)>),
}

/// State of the protocol on one link.
#[derive(Debug)]
pub struct ControllerProtocol {
    limits: ProbeLimits,
    has_hello: bool,
    staging: Option<StagedSet>,
    generation: Option<u64>,
    /// Summary of the active set; moved into `staging` while an amendment is received.
    active: ActiveSet,
}

impl ControllerProtocol {
    /// Returns the state of a new link.
    pub fn new(limits: ProbeLimits) -> Self {
        Self { limits, has_hello: false, staging: None, generation: None, active: ActiveSet::default() }
    }

    /// Handles the next message. Returns the request that it completes.
    ///
    /// # Errors
    /// The message violates the protocol.
    pub fn handle(
        &mut self,
        message: ToProber,
        configs: &mut tls::TlsConfigs,
    ) -> Result<Option<ControllerRequest>, ProtocolError> {
        if self.has_hello == matches!(message, ToProber::Hello { .. }) {
            return Err(ProtocolError::UnexpectedMessage("Hello"));
        }
        match message {
            ToProber::Hello { version, .. } => {
                self.has_hello = true;
                if version == VERSION { Ok(None) } else { Err(ProtocolError::VersionMismatch(version)) }
            }
            ToProber::Begin { generation } => {
                let is_newer = self.generation.is_none_or(|last| last < generation);
                if self.staging.is_some() || !is_newer {
                    return Err(ProtocolError::UnexpectedMessage("Begin"));
                }
                self.staging = Some(StagedSet::begin_set(generation, self.limits.clone()));
                Ok(None)
            }
            ToProber::Amend { generation } => {
                let is_newer = self.generation.is_some_and(|last| last < generation);
                if self.staging.is_some() || !is_newer {
                    return Err(ProtocolError::UnexpectedMessage("Amend"));
                }
                let active = std::mem::take(&mut self.active);
                self.staging = Some(StagedSet::begin_amendment(generation, self.limits.clone(), active));
                Ok(None)
            }
            ToProber::Drop(ids) => {
                if ids.len() > MAX_BATCH {
                    return Err(ProtocolError::ExceedsBound("Drop"));
                }
                self.staged("Drop")?.drop_checks(ids)?;
                Ok(None)
            }
            ToProber::Bundle { id, pem } => {
                self.staged("Bundle")?.add_bundle(id, &pem, configs)?;
                Ok(None)
            }
            ToProber::Checks(checks) => {
                if checks.len() > MAX_BATCH {
                    return Err(ProtocolError::ExceedsBound("Checks"));
                }
                let staging = self.staged("Checks")?;
                for (id, schedule, check) in checks {
                    staging.add_check(id, schedule, check, configs)?;
                }
                Ok(None)
            }
            ToProber::Commit { generation } => {
                let staging = self.staging.take().ok_or(ProtocolError::UnexpectedMessage("Commit"))?;
                self.generation = Some(generation);
                let (set, active) = staging.commit(generation, configs)?;
                self.active = active;
                Ok(Some(ControllerRequest::ApplySet(set)))
            }
            ToProber::SetIntervals(intervals) => {
                if intervals.len() > MAX_BATCH
                    || !intervals.iter().all(|(_, interval)| is_allowed_interval(*interval))
                {
                    return Err(ProtocolError::ExceedsBound("SetIntervals"));
                }
                Ok(Some(ControllerRequest::SetIntervals(intervals)))
            }
            ToProber::Heartbeat => Ok(None),
        }
    }

    /// Returns the set that is being received, in which a message of this name is allowed.
    fn staged(&mut self, name: &'static str) -> Result<&mut StagedSet, ProtocolError> {
        self.staging.as_mut().ok_or(ProtocolError::UnexpectedMessage(name))
    }
}

#[cfg(test)]
mod tests;
