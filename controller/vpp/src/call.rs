//! A call on its way to VPP, and the place where its answers are put together.

use tokio::sync::oneshot;

use crate::error::{Error, Violation};
use crate::frame;
use crate::message::{ControlPing, Dump, Message, Reply, Request};
use crate::observer::Outcome;

/// The most records that one dump may have: some 60 MB.
pub(crate) const MAX_RECORDS: usize = 1_000_000;

/// What a caller waits for.
pub(crate) type Answer<T> = Result<T, Error>;

/// One request, or a dump and the ping that marks its end.
pub(crate) struct Call {
    pub message: &'static str,
    /// Common to all frames of the call and all its answers.
    pub context: u32,
    pub frames: Vec<u8>,
    /// VPP always answers this call: silence means that VPP is gone.
    pub vital: bool,
    pub answers: Box<dyn Answers>,
}

/// Takes the answers to one call.
pub(crate) trait Answers: Send {
    /// Takes one payload in. The outcome says that it was the last one.
    fn take(&mut self, id: u16, payload: &[u8]) -> Result<Option<Outcome>, Violation>;

    /// Tells the caller that there will be no answer.
    fn fail(self: Box<Self>, error: Error);

    /// Whether the caller has gone away.
    fn unwanted(&self) -> bool;
}

/// Waits for one reply.
pub(crate) struct One<R: Request> {
    pub reply_id: u16,
    pub caller: Option<oneshot::Sender<Answer<R::Reply>>>,
}

/// Waits for the records of a dump, until the reply to the ping behind it.
pub(crate) struct Many<D: Dump> {
    pub details_id: u16,
    pub end_id: u16,
    pub records: Vec<D::Details>,
    pub caller: Option<oneshot::Sender<Answer<Vec<D::Details>>>>,
}

impl<R: Request> Answers for One<R> {
    fn take(&mut self, id: u16, payload: &[u8]) -> Result<Option<Outcome>, Violation> {
        if id != self.reply_id {
            return Err(Violation::Mismatch { message: R::NAME, id });
        }
        let reply: R::Reply = read(R::NAME, payload)?;
        let retval = reply.retval();
        let (outcome, answer) = if retval < 0 {
            (Outcome::Refused, Err(Error::refused(R::NAME, retval)))
        } else {
            (Outcome::Ok, Ok(reply))
        };
        settle(&mut self.caller, answer);
        Ok(Some(outcome))
    }

    fn fail(mut self: Box<Self>, error: Error) {
        settle(&mut self.caller, Err(error));
    }

    fn unwanted(&self) -> bool {
        self.caller.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl<D: Dump> Answers for Many<D> {
    fn take(&mut self, id: u16, payload: &[u8]) -> Result<Option<Outcome>, Violation> {
        if id == self.end_id {
            read::<<ControlPing as Request>::Reply>(ControlPing::NAME, payload)?;
            settle(&mut self.caller, Ok(std::mem::take(&mut self.records)));
            return Ok(Some(Outcome::Ok));
        }
        if id != self.details_id {
            return Err(Violation::Mismatch { message: D::NAME, id });
        }
        if self.records.len() == MAX_RECORDS {
            return Err(Violation::Endless { message: D::NAME, limit: MAX_RECORDS });
        }
        self.records.push(read(D::NAME, payload)?);
        Ok(None)
    }

    fn fail(mut self: Box<Self>, error: Error) {
        settle(&mut self.caller, Err(error));
    }

    fn unwanted(&self) -> bool {
        self.caller.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

fn read<M: Message>(message: &'static str, payload: &[u8]) -> Result<M, Violation> {
    match frame::decode(payload) {
        Ok((_, body)) => Ok(body),
        Err(fault) => Err(Violation::Malformed { message, fault }),
    }
}

/// Answers the caller, who may have gone away.
fn settle<T>(caller: &mut Option<oneshot::Sender<Answer<T>>>, answer: Answer<T>) {
    if let Some(caller) = caller.take() {
        _ = caller.send(answer);
    }
}
