//! The calls in flight. Told the time, it does no IO.

use std::collections::HashMap;
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
    pending: HashMap<u32, Pending>,
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
        Self { pending: HashMap::new(), keepalive, limit, observer }
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
        for (_, pending) in self.pending.extract_if(|_, pending| pending.heard + limit <= now) {
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
