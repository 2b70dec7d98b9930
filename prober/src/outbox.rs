//! The queue of messages to the controller. It never blocks, and its size is bounded.

use std::collections::VecDeque;

use maglev_ipc::message::MAX_BATCH;
use maglev_ipc::{Outcome, ToController};
use maglev_ipc_link::Error;

use crate::clock::Nanos;
use crate::scheduler::OutcomeReport;

/// Maximum number of queued outcomes, for a controller that does not read. Beyond it, the oldest are dropped.
pub const MAX_OUTCOMES: usize = 65_536;
/// Number of queued messages above which the prober reads nothing from the controller.
const MAX_MESSAGES: usize = 1024;

/// Longest time that batchable outcomes wait for others.
const BATCH_DELAY: Nanos = 20_000_000;

/// Queued messages and outcomes.
///
/// A pass that changes nothing may wait up to 20 ms for others: without this, each probe of a steady backend costs a
/// message of its own. All other outcomes are sent at the end of the iteration.
#[derive(Debug, Default)]
pub struct Outbox {
    messages: VecDeque<ToController>,
    outcomes: VecDeque<Outcome>,
    /// True if an outcome may not wait.
    is_urgent: bool,
    /// Time since which batchable outcomes wait.
    batch_since: Option<Nanos>,
}

impl Outbox {
    /// Queues a message behind all queued outcomes.
    pub fn push_message(&mut self, message: ToController) {
        while !self.outcomes.is_empty() {
            let batch = self.take_batch();
            self.messages.push_back(batch);
        }
        self.messages.push_back(message);
    }

    /// Queues an outcome. Returns the number of outcomes dropped to make room.
    pub fn push_outcome(&mut self, OutcomeReport { outcome, is_batchable }: OutcomeReport) -> u64 {
        self.is_urgent |= !is_batchable;
        let is_full = self.outcomes.len() >= MAX_OUTCOMES;
        if is_full {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(outcome);
        is_full.into()
    }

    /// Returns true if the controller has to read before the prober reads from it.
    pub fn is_over_limit(&self) -> bool {
        self.messages.len() > MAX_MESSAGES
    }

    /// Returns true if the socket had no room for all messages.
    pub fn has_backlog(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Sends as much as the socket has room for. Batchable outcomes may wait if the loop wakes up early enough to send
    /// them: `next_wakeup` is the latest time of the next iteration.
    ///
    /// # Errors
    /// The link failed.
    pub fn flush(
        &mut self,
        now: Nanos,
        next_wakeup: Nanos,
        send: impl Fn(&ToController) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.may_wait(now, next_wakeup) {
            return Ok(());
        }
        loop {
            if self.messages.is_empty() && !self.outcomes.is_empty() {
                let batch = self.take_batch();
                self.messages.push_back(batch);
            }
            let Some(message) = self.messages.front() else { return Ok(()) };
            match send(message) {
                Ok(()) => self.messages.pop_front(),
                Err(Error::WouldBlock) => return Ok(()),
                Err(error) => return Err(error),
            };
        }
    }

    fn may_wait(&mut self, now: Nanos, next_wakeup: Nanos) -> bool {
        if self.is_urgent || !self.messages.is_empty() || !(1..MAX_BATCH).contains(&self.outcomes.len()) {
            return false;
        }
        next_wakeup <= *self.batch_since.get_or_insert(now) + BATCH_DELAY
    }

    fn take_batch(&mut self) -> ToController {
        let count = self.outcomes.len().min(MAX_BATCH);
        let batch = self.outcomes.drain(..count).collect();
        if self.outcomes.is_empty() {
            self.is_urgent = false;
            self.batch_since = None;
        }
        ToController::Outcomes(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use maglev_ipc::{CheckId, OutcomeCode, OutcomeDetail};

    use super::*;

    fn urgent(seq: u64) -> OutcomeReport {
        OutcomeReport { outcome: outcome(seq), is_batchable: false }
    }

    fn batchable(seq: u64) -> OutcomeReport {
        OutcomeReport { outcome: outcome(seq), is_batchable: true }
    }

    fn outcome(seq: u64) -> Outcome {
        let (duration, code, detail) = (Duration::ZERO, OutcomeCode::L4Ok, OutcomeDetail::None);
        Outcome {
            check: CheckId(1),
            seq,
            started: 0,
            duration,
            code,
            detail,
            timeout: None,
            not_after: None,
            has_no_route: false,
        }
    }

    #[test]
    fn outcomes_are_sent_in_order_and_batched() {
        let mut outbox = Outbox::default();
        for seq in 0..450 {
            assert_eq!(outbox.push_outcome(urgent(seq)), 0);
        }
        outbox.push_message(ToController::Committed { generation: 1 });
        assert_eq!(outbox.push_outcome(urgent(450)), 0);
        let (sent, room) = (RefCell::new(Vec::new()), Cell::new(1));
        let send = |message: &ToController| {
            room.set(room.get() - 1);
            if room.get() < 0 {
                return Err(Error::WouldBlock);
            }
            sent.borrow_mut().push(message.clone());
            Ok(())
        };
        outbox.flush(0, 0, send).unwrap();
        assert!(outbox.has_backlog());
        room.set(100);
        outbox.flush(0, 0, send).unwrap();
        assert!(!outbox.has_backlog());
        let sizes: Vec<_> = sent
            .borrow()
            .iter()
            .map(|message| if let ToController::Outcomes(o) = message { (o.len(), o[0].seq) } else { (0, 0) })
            .collect();
        assert_eq!(sizes, [(200, 0), (200, 200), (50, 400), (0, 0), (1, 450)]);
    }

    #[test]
    fn full_queue_drops_oldest_outcomes() {
        let mut outbox = Outbox::default();
        let lost: u64 = (0..MAX_OUTCOMES as u64 + 5).map(|seq| outbox.push_outcome(urgent(seq))).sum();
        assert_eq!(lost, 5);
        assert_eq!(outbox.outcomes.front(), Some(&outcome(5)));
        assert_eq!(outbox.outcomes.len(), MAX_OUTCOMES);
    }

    /// Returns the sequence numbers that a flush sends.
    fn sent(outbox: &mut Outbox, now: Nanos, next: Nanos) -> Vec<u64> {
        let sent = RefCell::new(Vec::new());
        let send = |message: &ToController| {
            if let ToController::Outcomes(outcomes) = message {
                sent.borrow_mut().extend(outcomes.iter().map(|outcome| outcome.seq));
            }
            Ok(())
        };
        outbox.flush(now, next, send).unwrap();
        sent.into_inner()
    }

    #[test]
    fn batchable_outcomes_wait_within_delay() {
        let mut outbox = Outbox::default();
        for (seq, now) in (1..).zip([0, 4, 8, 12]) {
            outbox.push_outcome(batchable(seq));
            assert!(sent(&mut outbox, now, now + 8_000_000).is_empty(), "{now}");
        }
        outbox.push_outcome(batchable(5));
        assert_eq!(
            sent(&mut outbox, 16_000_000, 20_000_001),
            [1, 2, 3, 4, 5],
            "the next iteration is too late"
        );
        // The next batch has the whole delay.
        outbox.push_outcome(batchable(6));
        assert!(sent(&mut outbox, 20_000_000, 40_000_000).is_empty());
        assert_eq!(sent(&mut outbox, 40_000_000, 44_000_000), [6]);
        outbox.push_outcome(batchable(7));
        assert_eq!(sent(&mut outbox, 0, Nanos::MAX), [7], "no other iteration is planned");
    }

    #[test]
    fn urgent_outcomes_flush_earlier_ones() {
        let mut outbox = Outbox::default();
        outbox.push_outcome(batchable(1));
        assert!(sent(&mut outbox, 0, 1).is_empty());
        outbox.push_outcome(urgent(2));
        outbox.push_outcome(batchable(3));
        assert_eq!(sent(&mut outbox, 0, 1), [1, 2, 3]);
        outbox.push_outcome(batchable(4));
        outbox.push_message(ToController::Committed { generation: 1 });
        outbox.push_outcome(batchable(5));
        assert_eq!(sent(&mut outbox, 0, 1), [4, 5]);
        (0..MAX_BATCH as u64).for_each(|seq| _ = outbox.push_outcome(batchable(seq)));
        assert_eq!(sent(&mut outbox, 0, 1).len(), MAX_BATCH, "a full message does not wait");
    }

    #[test]
    fn blocked_urgent_outcome_is_sent_first() {
        let mut outbox = Outbox::default();
        outbox.push_outcome(urgent(1));
        outbox.flush(0, 1, |_| Err(Error::WouldBlock)).unwrap();
        outbox.push_outcome(batchable(2));
        assert_eq!(sent(&mut outbox, 0, 1), [1, 2]);
    }
}
