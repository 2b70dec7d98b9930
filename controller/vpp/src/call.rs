//! A call on its way to VPP, and the assembly of its replies.

use tokio::sync::oneshot;

use crate::error::{Error, Violation};
use crate::frame;
use crate::message::{ControlPing, Dump, Message, Reply, Request};
use crate::observer::Outcome;

/// Largest number of records of one dump, about 60 MB.
pub(crate) const MAX_RECORDS: usize = 1_000_000;

/// Result of a call, as its caller receives it.
pub(crate) type Answer<T> = Result<T, Error>;

/// A request, or a dump with the ping that marks its end.
pub(crate) struct Call {
    pub message: &'static str,
    /// Number shared by the call's frames and their replies.
    pub context: u32,
    pub frames: Vec<u8>,
    /// True if VPP always replies to this call, so that a timeout means a dead VPP.
    pub vital: bool,
    pub answers: Box<dyn Answers>,
}

/// Receiver of the replies to one call.
pub(crate) trait Answers: Send {
    /// Takes one payload. Returns an outcome with the last one.
    fn take(&mut self, id: u16, payload: &[u8]) -> Result<Option<Outcome>, Violation>;

    /// Reports to the caller that there will be no reply.
    fn fail(self: Box<Self>, error: Error);

    /// True if the caller has dropped its future.
    fn unwanted(&self) -> bool;
}

/// Expects one reply.
pub(crate) struct One<R: Request> {
    pub reply_id: u16,
    pub caller: Option<oneshot::Sender<Answer<R::Reply>>>,
}

/// Expects the records of a dump, then the reply to its ping.
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

/// Sends the result to the caller, if it still waits.
fn settle<T>(caller: &mut Option<oneshot::Sender<Answer<T>>>, answer: Answer<T>) {
    if let Some(caller) = caller.take() {
        _ = caller.send(answer);
    }
}
