//! The calls in flight. Told the time, it does no IO.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use crate::call::{Answers, Call};
use crate::error::{Closed, Error, Violation};
use crate::frame;
use crate::message::{Head, MemclntKeepalive, MemclntKeepaliveReply};
use crate::observer::{Observer, Outcome};
use crate::wire::{Field, Malformed, Reader};

/// The calls that VPP has not answered yet.
pub(crate) struct Flight {
    /// By context, which is the order in which they were made.
    pending: BTreeMap<u32, Pending>,
    keepalive: (u16, u16),
    limit: Duration,
    observer: Arc<dyn Observer>,
}

struct Pending {
    message: &'static str,
    vital: bool,
    sent: Instant,
    /// When its last sign of life was, else when it was sent.
    heard: Instant,
    answers: Box<dyn Answers>,
}

impl Flight {
    /// Calls may take `limit`. `keepalive` are the numbers of VPP's question whether we live, and of our answer.
    pub fn new(limit: Duration, keepalive: (u16, u16), observer: Arc<dyn Observer>) -> Self {
        Self { pending: BTreeMap::new(), keepalive, limit, observer }
    }

    /// How many calls have no answer yet.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Puts `call` on its way, unless its caller has gone away already.
    pub fn launch(&mut self, call: Call, out: &mut Vec<u8>, now: Instant) {
        let Call { message, context, frames, vital, answers } = call;
        if answers.unwanted() {
            return;
        }
        out.extend(frames);
        self.observer.sent(message);
        self.pending.insert(context, Pending { message, vital, sent: now, heard: now, answers });
    }

    /// Takes in what VPP says.
    pub fn receive(&mut self, payload: &[u8], out: &mut Vec<u8>, now: Instant) -> Result<(), Violation> {
        let (id, context) = head(payload).map_err(Violation::Headless)?;
        if id == self.keepalive.0 {
            return self.reassure(payload, out);
        }
        let Some(pending) = self.pending.get_mut(&context) else {
            debug!(id, context, "VPP answers no call in flight");
            self.observer.stray();
            return Ok(());
        };
        pending.heard = now;
        if let Some(outcome) = pending.answers.take(id, payload)? {
            self.observer.ended(pending.message, outcome, now - pending.sent);
            self.pending.remove(&context);
        }
        Ok(())
    }

    /// Ends the calls that waited for too long, and says when to look again. A vital one ends the connection.
    pub fn expire(&mut self, now: Instant) -> Result<Instant, Closed> {
        let limit = self.limit;
        for (_, pending) in self.pending.extract_if(.., |_, pending| pending.heard + limit <= now) {
            let message = pending.message;
            self.observer.ended(message, Outcome::Timeout, now - pending.sent);
            pending.answers.fail(Error::Timeout { message, limit });
            if pending.vital {
                return Err(Closed::Silent { message, limit });
            }
        }
        Ok(self.pending.values().map(|pending| pending.heard).min().unwrap_or(now) + limit)
    }

    /// Ends all calls, as the connection has ended.
    pub fn abandon(self, reason: &Closed, now: Instant) {
        for pending in self.pending.into_values() {
            self.observer.ended(pending.message, Outcome::Lost, now - pending.sent);
            pending.answers.fail(Error::Lost(reason.clone()));
        }
    }

    /// Tells VPP that we live.
    fn reassure(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Violation> {
        let (head, MemclntKeepalive {}) = frame::decode(payload).map_err(Violation::Headless)?;
        let head = Head { client_index: 0, context: head.context };
        frame::encode(out, self.keepalive.1, head, &MemclntKeepaliveReply { retval: 0 });
        Ok(())
    }
}

/// The number and the context of any answer.
fn head(payload: &[u8]) -> Result<(u16, u32), Malformed> {
    let mut from = Reader::new(payload);
    Ok((u16::get(&mut from)?, u32::get(&mut from)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use super::*;
    use crate::call::One;
    use crate::message::{ControlPingReply, LbConfGet, LbConfGetReply, Message};

    const LIMIT: Duration = Duration::from_secs(3);
    const KEEPALIVE: (u16, u16) = (21, 22);

    fn flight() -> Flight {
        Flight::new(LIMIT, KEEPALIVE, Arc::new(()))
    }

    fn call(context: u32, vital: bool) -> (Call, oneshot::Receiver<Result<LbConfGetReply, Error>>) {
        let (caller, waiting) = oneshot::channel();
        let answers = Box::new(One::<LbConfGet> { reply_id: 92, caller: Some(caller) });
        (Call { message: LbConfGet::NAME, context, frames: vec![7], vital, answers }, waiting)
    }

    fn payload<M: Message>(id: u16, context: u32, message: &M) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, id, Head { client_index: 1, context }, message);
        bytes.split_off(frame::HEADER)
    }

    #[test]
    fn vpp_is_told_that_we_live() {
        let mut out = Vec::new();
        let question = payload(KEEPALIVE.0, 9, &MemclntKeepalive {});
        flight().receive(&question, &mut out, Instant::now()).unwrap();
        assert_eq!(out[frame::HEADER..], payload(KEEPALIVE.1, 9, &MemclntKeepaliveReply { retval: 0 }));
    }

    #[test]
    fn a_call_without_a_caller_does_not_leave() {
        let (mut flight, mut out) = (flight(), Vec::new());
        let (call, waiting) = call(1, false);
        drop(waiting);
        flight.launch(call, &mut out, Instant::now());
        assert_eq!((flight.len(), out), (0, Vec::new()));
    }

    #[test]
    fn only_what_is_due_expires() {
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
    fn a_vital_call_that_expires_ends_the_connection() {
        let (mut flight, now) = (flight(), Instant::now());
        let (call, _waiting) = call(1, true);
        flight.launch(call, &mut Vec::new(), now);
        assert!(matches!(flight.expire(now + LIMIT), Err(Closed::Silent { .. })));
    }

    #[test]
    fn an_answer_to_another_question_is_a_violation() {
        let (mut flight, now) = (flight(), Instant::now());
        let (call, _waiting) = call(1, false);
        flight.launch(call, &mut Vec::new(), now);
        let pong = payload(24, 1, &ControlPingReply { retval: 0, client_index: 1, pid: 1 });
        let expected = Violation::Mismatch { message: LbConfGet::NAME, id: 24 };
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
