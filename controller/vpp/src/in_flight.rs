//! The calls in flight. The caller passes the time, and does the IO.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use crate::call::{QueuedCall, ReplyReceiver};
use crate::error::{CloseReason, Error, ProtocolViolation};
use crate::frame;
use crate::message::{MemclntKeepalive, MemclntKeepaliveReply, Message, MessageHeader};
use crate::observer::{ApiObserver, CallOutcome, UNMATCHED};
use crate::wire::{MalformedMessage, WireField, WireReader};

/// Calls that VPP has not answered yet.
pub(crate) struct CallsInFlight {
    /// Calls by context, in the order in which they were made.
    pending: BTreeMap<u32, InFlightCall>,
    keepalive: (u16, u16),
    limit: Duration,
    observer: Arc<dyn ApiObserver>,
}

struct InFlightCall {
    message: &'static str,
    must_reply: bool,
    sent: Instant,
    /// Time of the last reply, or of sending.
    last_activity: Instant,
    receiver: Box<dyn ReplyReceiver>,
}

impl CallsInFlight {
    /// Creates an empty set. `limit` is the timeout of a call, `keepalive` holds the message numbers of VPP's keepalive and of
    /// its reply.
    pub fn new(limit: Duration, keepalive: (u16, u16), observer: Arc<dyn ApiObserver>) -> Self {
        Self { pending: BTreeMap::new(), keepalive, limit, observer }
    }

    /// Returns the number of calls in flight.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Appends the call's frames to `out`, unless its caller has dropped it.
    pub fn launch(&mut self, call: QueuedCall, out: &mut Vec<u8>, now: Instant) {
        let QueuedCall { message, context, frames, names, must_reply, receiver } = call;
        if receiver.is_abandoned() {
            return;
        }
        out.extend(frames);
        names.iter().for_each(|name| self.observer.sent(name, true));
        self.pending
            .insert(context, InFlightCall { message, must_reply, sent: now, last_activity: now, receiver });
    }

    /// Handles one payload from VPP. Appends a reply to `out` if VPP expects one.
    pub fn receive(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
        now: Instant,
    ) -> Result<(), ProtocolViolation> {
        let (id, context) = id_and_context(payload).map_err(ProtocolViolation::MissingHeader)?;
        if id == self.keepalive.0 {
            return self.reply_to_keepalive(payload, out);
        }
        let Some(pending) = self.pending.get_mut(&context) else {
            debug!(id, context, "reply matches no call in flight, dropped");
            self.observer.unmatched_reply();
            self.observer.received(UNMATCHED, false);
            return Ok(());
        };
        pending.last_activity = now;
        let taken = pending.receiver.take(id, payload);
        let taken = taken.inspect_err(|_| self.observer.received(pending.receiver.last_reply(), false))?;
        self.observer.received(taken.name, taken.outcome != Some(CallOutcome::Refused));
        if let Some(outcome) = taken.outcome {
            self.observer.ended(pending.message, outcome, now - pending.sent);
            self.pending.remove(&context);
        }
        Ok(())
    }

    /// Fails expired calls, and returns the time of the next check. An expired call that VPP always answers ends the connection.
    pub fn expire(&mut self, now: Instant) -> Result<Instant, CloseReason> {
        let limit = self.limit;
        for (_, pending) in self.pending.extract_if(.., |_, pending| pending.last_activity + limit <= now) {
            let message = pending.message;
            self.observer.received(pending.receiver.last_reply(), false);
            self.observer.ended(message, CallOutcome::Timeout, now - pending.sent);
            pending.receiver.fail(Error::Timeout { message, limit });
            if pending.must_reply {
                return Err(CloseReason::Unresponsive { message, limit });
            }
        }
        Ok(self.pending.values().map(|pending| pending.last_activity).min().unwrap_or(now) + limit)
    }

    /// Fails all calls, after the connection ended.
    pub fn abandon(self, reason: &CloseReason, now: Instant) {
        for pending in self.pending.into_values() {
            self.observer.received(pending.receiver.last_reply(), false);
            self.observer.ended(pending.message, CallOutcome::Lost, now - pending.sent);
            pending.receiver.fail(Error::Lost(reason.clone()));
        }
    }

    /// Fails a call that was not sent, after the connection ended.
    pub fn reject(&self, call: QueuedCall, reason: &CloseReason) {
        call.names.iter().for_each(|name| self.observer.sent(name, false));
        call.receiver.fail(Error::Lost(reason.clone()));
    }

    /// Replies to VPP's keepalive.
    fn reply_to_keepalive(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolViolation> {
        let (head, MemclntKeepalive {}) = frame::decode(payload).map_err(ProtocolViolation::MissingHeader)?;
        self.observer.received(MemclntKeepalive::NAME, true);
        self.observer.sent(MemclntKeepaliveReply::NAME, true);
        let head = MessageHeader { client_index: 0, context: head.context };
        frame::encode(out, self.keepalive.1, head, &MemclntKeepaliveReply { retval: 0 });
        Ok(())
    }
}

/// Reads the message number and the context of a reply.
fn id_and_context(payload: &[u8]) -> Result<(u16, u32), MalformedMessage> {
    let mut from = WireReader::new(payload);
    Ok((u16::get(&mut from)?, u32::get(&mut from)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use super::*;
    use crate::call::SingleReply;
    use crate::message::{ControlPingReply, LbConfGet, LbConfGetReply};

    const LIMIT: Duration = Duration::from_secs(3);
    const KEEPALIVE: (u16, u16) = (21, 22);

    fn flight() -> CallsInFlight {
        CallsInFlight::new(LIMIT, KEEPALIVE, Arc::new(()))
    }

    fn call(
        context: u32,
        must_reply: bool,
    ) -> (QueuedCall, oneshot::Receiver<Result<LbConfGetReply, Error>>) {
        let (caller, waiting) = oneshot::channel();
        let receiver = Box::new(SingleReply::<LbConfGet> { reply_id: 92, caller: Some(caller) });
        let message = LbConfGet::NAME;
        (
            QueuedCall { message, context, frames: vec![7], names: vec![message], must_reply, receiver },
            waiting,
        )
    }

    fn payload<M: Message>(id: u16, context: u32, message: &M) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, id, MessageHeader { client_index: 1, context }, message);
        bytes.split_off(frame::HEADER)
    }

    #[test]
    fn keepalive_gets_a_reply() {
        let mut out = Vec::new();
        let question = payload(KEEPALIVE.0, 9, &MemclntKeepalive {});
        flight().receive(&question, &mut out, Instant::now()).unwrap();
        assert_eq!(out[frame::HEADER..], payload(KEEPALIVE.1, 9, &MemclntKeepaliveReply { retval: 0 }));
    }

    #[test]
    fn call_without_caller_is_not_sent() {
        let (mut flight, mut out) = (flight(), Vec::new());
        let (call, waiting) = call(1, false);
        drop(waiting);
        flight.launch(call, &mut out, Instant::now());
        assert_eq!((flight.len(), out), (0, Vec::new()));
    }

    #[test]
    fn only_due_calls_expire() {
        let (mut flight, mut out) = (flight(), Vec::new());
        let begun = Instant::now();
        let (early, mut first) = call(1, false);
        let (late, mut second) = call(2, false);
        flight.launch(early, &mut out, begun);
        flight.launch(late, &mut out, begun + LIMIT / 2);
        assert_eq!(flight.expire(begun + LIMIT / 2).unwrap(), begun + LIMIT);
        assert!(first.try_recv().is_err());
        assert_eq!(flight.expire(begun + LIMIT).unwrap(), begun + LIMIT + LIMIT / 2);
        assert!(matches!(first.try_recv(), Ok(Err(Error::Timeout { .. }))));
        assert!(second.try_recv().is_err());
        assert_eq!(flight.len(), 1);
    }

    #[test]
    fn expired_vital_call_ends_connection() {
        let (mut flight, now) = (flight(), Instant::now());
        let (call, _waiting) = call(1, true);
        flight.launch(call, &mut Vec::new(), now);
        assert!(matches!(flight.expire(now + LIMIT), Err(CloseReason::Unresponsive { .. })));
    }

    #[test]
    fn reply_of_other_type_is_violation() {
        let (mut flight, now) = (flight(), Instant::now());
        let (call, _waiting) = call(1, false);
        flight.launch(call, &mut Vec::new(), now);
        let pong = payload(24, 1, &ControlPingReply { retval: 0, client_index: 1, pid: 1 });
        let expected = ProtocolViolation::Mismatch { message: LbConfGet::NAME, id: 24 };
        assert_eq!(flight.receive(&pong, &mut Vec::new(), now), Err(expected));
    }

    proptest! {
        #[test]
        fn no_payload_panics(id in prop_oneof![Just(92u16), Just(21), any::<u16>()], rest: Vec<u8>) {
            let (mut flight, now) = (flight(), Instant::now());
            let (call, _waiting) = call(1, false);
            flight.launch(call, &mut Vec::new(), now);
            let payload = [id.to_be_bytes().as_slice(), &1u32.to_be_bytes(), &rest].concat();
            for payload in [&payload[..], &rest] {
                _ = flight.receive(payload, &mut Vec::new(), now);
            }
        }
    }
}
