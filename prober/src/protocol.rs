//! The order of messages on a link, as [`ToProber`] defines it.

use std::time::Duration;

use maglev_ipc::message::MAX_BATCH;
use maglev_ipc::{CheckId, ToProber, VERSION};

use crate::probe::tls;
use crate::set::{ActiveSet, CheckSet, ProbeLimits, ProtocolError, StagedSet, interval_allowed};

/// What the controller asks for.
#[derive(Debug)]
pub enum ControllerRequest {
    /// A check set, in place of the one in force or as an amendment to it.
    ApplySet(CheckSet),
    /// Other intervals for checks in force.
    SetIntervals(Vec<(CheckId, Duration)>),
}

/// How far a link has come.
#[derive(Debug)]
pub struct InboundProtocol {
    limits: ProbeLimits,
    greeted: bool,
    staging: Option<StagedSet>,
    generation: Option<u64>,
    /// What is in force, while no amendment to it is being received.
    active: ActiveSet,
}

impl InboundProtocol {
    /// A link on which nothing has been said.
    pub fn new(limits: ProbeLimits) -> Self {
        Self { limits, greeted: false, staging: None, generation: None, active: ActiveSet::default() }
    }

    /// Takes the next message. Most ask for nothing yet.
    ///
    /// # Errors
    /// The message is not allowed here.
    pub fn handle(
        &mut self,
        message: ToProber,
        configs: &mut tls::TlsConfigs,
    ) -> Result<Option<ControllerRequest>, ProtocolError> {
        if self.greeted == matches!(message, ToProber::Hello { .. }) {
            return Err(ProtocolError::UnexpectedMessage("Hello"));
        }
        match message {
            ToProber::Hello { version, .. } => {
                self.greeted = true;
                if version == VERSION { Ok(None) } else { Err(ProtocolError::VersionMismatch(version)) }
            }
            ToProber::Begin { generation } => {
                let grows = self.generation.is_none_or(|last| last < generation);
                if self.staging.is_some() || !grows {
                    return Err(ProtocolError::UnexpectedMessage("Begin"));
                }
                self.staging = Some(StagedSet::set(generation, self.limits));
                Ok(None)
            }
            ToProber::Amend { generation } => {
                let grows = self.generation.is_some_and(|last| last < generation);
                if self.staging.is_some() || !grows {
                    return Err(ProtocolError::UnexpectedMessage("Amend"));
                }
                let active = std::mem::take(&mut self.active);
                self.staging = Some(StagedSet::amendment(generation, self.limits, active));
                Ok(None)
            }
            ToProber::Drop(ids) => {
                if ids.len() > MAX_BATCH {
                    return Err(ProtocolError::ExceedsBound("Drop"));
                }
                self.staging.as_mut().ok_or(ProtocolError::UnexpectedMessage("Drop"))?.drop_checks(ids)?;
                Ok(None)
            }
            ToProber::Bundle { id, pem } => {
                self.staging
                    .as_mut()
                    .ok_or(ProtocolError::UnexpectedMessage("Bundle"))?
                    .bundle(id, &pem, configs)?;
                Ok(None)
            }
            ToProber::Checks(checks) => {
                if checks.len() > MAX_BATCH {
                    return Err(ProtocolError::ExceedsBound("Checks"));
                }
                let staging = self.staging.as_mut().ok_or(ProtocolError::UnexpectedMessage("Checks"))?;
                for (id, schedule, check) in checks {
                    staging.check(id, schedule, check, configs)?;
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
            ToProber::SetIntervals(paces) => {
                if paces.len() > MAX_BATCH || !paces.iter().all(|(_, interval)| interval_allowed(*interval)) {
                    return Err(ProtocolError::ExceedsBound("Pace"));
                }
                Ok(Some(ControllerRequest::SetIntervals(paces)))
            }
            ToProber::Heartbeat => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
