//! The order of messages on a link, as [`ToProber`] defines it.

use std::time::Duration;

use maglev_ipc::message::MAX_BATCH;
use maglev_ipc::{CheckId, ToProber, VERSION};

use crate::probe::tls;
use crate::set::{Book, Limits, Set, Staging, interval_allowed};

/// What the controller asks for.
#[derive(Debug)]
pub enum Request {
    /// A check set, in place of the one in force or as an amendment to it.
    Put(Set),
    /// Other intervals for checks in force.
    Pace(Vec<(CheckId, Duration)>),
}

/// What breaks the protocol. It ends the link.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Violation {
    /// A check that leaves the set is not in it.
    #[error("check {0} is dropped, and is not in the set")]
    Unknown(CheckId),
    /// Two checks of one set have one name.
    #[error("check {0} is sent twice in one set")]
    TwiceCheck(CheckId),
    /// Two bundles of one set have one number.
    #[error("bundle {0} is sent twice in one set")]
    TwiceBundle(u32),
    /// A bound that the messages define is exceeded.
    #[error("{0} exceeds its bound")]
    Bound(&'static str),
    /// The two ends were not built together.
    #[error("it speaks version {0} of the messages, this prober version {VERSION}")]
    Version(u16),
    /// A message that may not come here.
    #[error("{0} out of turn")]
    Turn(&'static str),
}

/// How far a link has come.
#[derive(Debug)]
pub struct Protocol {
    limits: Limits,
    greeted: bool,
    staging: Option<Staging>,
    generation: Option<u64>,
    /// What is in force, while no amendment to it is being received.
    book: Book,
}

impl Protocol {
    /// A link on which nothing has been said.
    pub fn new(limits: Limits) -> Self {
        Self { limits, greeted: false, staging: None, generation: None, book: Book::default() }
    }

    /// Takes the next message. Most ask for nothing yet.
    ///
    /// # Errors
    /// The message is not allowed here.
    pub fn handle(
        &mut self,
        message: ToProber,
        configs: &mut tls::Configs,
    ) -> Result<Option<Request>, Violation> {
        if self.greeted == matches!(message, ToProber::Hello { .. }) {
            return Err(Violation::Turn("Hello"));
        }
        match message {
            ToProber::Hello { version, .. } => {
                self.greeted = true;
                if version == VERSION { Ok(None) } else { Err(Violation::Version(version)) }
            }
            ToProber::Begin { generation } => {
                let grows = self.generation.is_none_or(|last| last < generation);
                if self.staging.is_some() || !grows {
                    return Err(Violation::Turn("Begin"));
                }
                self.staging = Some(Staging::set(generation, self.limits));
                Ok(None)
            }
            ToProber::Amend { generation } => {
                let grows = self.generation.is_some_and(|last| last < generation);
                if self.staging.is_some() || !grows {
                    return Err(Violation::Turn("Amend"));
                }
                let book = std::mem::take(&mut self.book);
                self.staging = Some(Staging::amendment(generation, self.limits, book));
                Ok(None)
            }
            ToProber::Drop(ids) => {
                if ids.len() > MAX_BATCH {
                    return Err(Violation::Bound("Drop"));
                }
                self.staging.as_mut().ok_or(Violation::Turn("Drop"))?.drop_checks(ids)?;
                Ok(None)
            }
            ToProber::Bundle { id, pem } => {
                self.staging.as_mut().ok_or(Violation::Turn("Bundle"))?.bundle(id, &pem, configs)?;
                Ok(None)
            }
            ToProber::Checks(checks) => {
                if checks.len() > MAX_BATCH {
                    return Err(Violation::Bound("Checks"));
                }
                let staging = self.staging.as_mut().ok_or(Violation::Turn("Checks"))?;
                for (id, rhythm, check) in checks {
                    staging.check(id, rhythm, check, configs)?;
                }
                Ok(None)
            }
            ToProber::Commit { generation } => {
                let staging = self.staging.take().ok_or(Violation::Turn("Commit"))?;
                self.generation = Some(generation);
                let (set, book) = staging.commit(generation, configs)?;
                self.book = book;
                Ok(Some(Request::Put(set)))
            }
            ToProber::Pace(paces) => {
                if paces.len() > MAX_BATCH || !paces.iter().all(|(_, interval)| interval_allowed(*interval)) {
                    return Err(Violation::Bound("Pace"));
                }
                Ok(Some(Request::Pace(paces)))
            }
            ToProber::Heartbeat => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
