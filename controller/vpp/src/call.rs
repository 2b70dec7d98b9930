//! A call on its way to VPP, and the assembly of its replies.

use tokio::sync::oneshot;

use crate::error::{Error, ProtocolViolation};
use crate::frame;
use crate::message::{ControlPing, DumpMessage, Message, ReplyMessage, RequestMessage};
use crate::observer::CallOutcome;

/// Largest number of records of one dump, about 60 MB.
pub(crate) const MAX_RECORDS: usize = 1_000_000;

/// Result of a call, as its caller receives it.
pub(crate) type ReplyResult<T> = Result<T, Error>;

/// A request, or a dump with the ping that marks its end.
pub(crate) struct QueuedCall {
    pub message: &'static str,
    /// Number shared by the call's frames and their replies.
    pub context: u32,
    pub frames: Vec<u8>,
    /// Names of the messages in `frames`.
    pub names: Vec<&'static str>,
    /// True if VPP always replies to this call, so that a timeout means a dead VPP.
    pub must_reply: bool,
    pub receiver: Box<dyn ReplyReceiver>,
}

/// A message that a call has taken.
pub(crate) struct TakenReply {
    /// Its name.
    pub name: &'static str,
    /// Outcome of the call, with its last message.
    pub outcome: Option<CallOutcome>,
}

/// Receiver of the replies to one call.
pub(crate) trait ReplyReceiver: Send {
    /// Takes one payload.
    fn take(&mut self, id: u16, payload: &[u8]) -> Result<TakenReply, ProtocolViolation>;

    /// Name of the message that ends the call.
    fn last_reply(&self) -> &'static str;

    /// Reports to the caller that there will be no reply.
    fn fail(self: Box<Self>, error: Error);

    /// True if the caller has dropped its future.
    fn is_abandoned(&self) -> bool;
}

/// Expects one reply.
pub(crate) struct SingleReply<R: RequestMessage> {
    pub reply_id: u16,
    pub caller: Option<oneshot::Sender<ReplyResult<R::Reply>>>,
}

/// Expects the records of a dump, then the reply to its ping.
pub(crate) struct DumpReply<D: DumpMessage> {
    pub details_id: u16,
    pub end_id: u16,
    pub records: Vec<D::Details>,
    pub caller: Option<oneshot::Sender<ReplyResult<Vec<D::Details>>>>,
}

impl<R: RequestMessage> ReplyReceiver for SingleReply<R> {
    fn take(&mut self, id: u16, payload: &[u8]) -> Result<TakenReply, ProtocolViolation> {
        if id != self.reply_id {
            return Err(ProtocolViolation::Mismatch { message: R::NAME, id });
        }
        let reply: R::Reply = read(R::NAME, payload)?;
        let retval = reply.retval();
        let (outcome, result) = if retval < 0 {
            (CallOutcome::Refused, Err(Error::refused(R::NAME, retval)))
        } else {
            (CallOutcome::Ok, Ok(reply))
        };
        send_result(&mut self.caller, result);
        Ok(TakenReply { name: self.last_reply(), outcome: Some(outcome) })
    }

    fn last_reply(&self) -> &'static str {
        R::Reply::NAME
    }

    fn fail(mut self: Box<Self>, error: Error) {
        send_result(&mut self.caller, Err(error));
    }

    fn is_abandoned(&self) -> bool {
        self.caller.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl<D: DumpMessage> ReplyReceiver for DumpReply<D> {
    fn take(&mut self, id: u16, payload: &[u8]) -> Result<TakenReply, ProtocolViolation> {
        if id == self.end_id {
            read::<<ControlPing as RequestMessage>::Reply>(ControlPing::NAME, payload)?;
            send_result(&mut self.caller, Ok(std::mem::take(&mut self.records)));
            return Ok(TakenReply { name: self.last_reply(), outcome: Some(CallOutcome::Ok) });
        }
        if id != self.details_id {
            return Err(ProtocolViolation::Mismatch { message: D::NAME, id });
        }
        if self.records.len() == MAX_RECORDS {
            return Err(ProtocolViolation::TooManyRecords { message: D::NAME, limit: MAX_RECORDS });
        }
        self.records.push(read(D::NAME, payload)?);
        Ok(TakenReply { name: D::Details::NAME, outcome: None })
    }

    fn last_reply(&self) -> &'static str {
        <<ControlPing as RequestMessage>::Reply as Message>::NAME
    }

    fn fail(mut self: Box<Self>, error: Error) {
        send_result(&mut self.caller, Err(error));
    }

    fn is_abandoned(&self) -> bool {
        self.caller.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

fn read<M: Message>(message: &'static str, payload: &[u8]) -> Result<M, ProtocolViolation> {
    match frame::decode(payload) {
        Ok((_, body)) => Ok(body),
        Err(fault) => Err(ProtocolViolation::Malformed { message, fault }),
    }
}

/// Sends the result to the caller, if it still waits.
fn send_result<T>(caller: &mut Option<oneshot::Sender<ReplyResult<T>>>, result: ReplyResult<T>) {
    if let Some(caller) = caller.take() {
        _ = caller.send(result);
    }
}
