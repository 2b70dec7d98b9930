//! What waits to be sent to the controller. It never blocks, and it never grows beyond its bounds.

use std::collections::VecDeque;

use maglev_ipc::message::MAX_BATCH;
use maglev_ipc::{Outcome, ToController};
use maglev_ipc_link::Error;

use crate::clock::Nanos;
use crate::scheduler::OutcomeReport;

/// How many outcomes wait for a controller that does not read; then the oldest are thrown away.
pub const MAX_OUTCOMES: usize = 65_536;
/// With more messages than this waiting, nothing more is read from the controller: it must read first.
const MAX_MESSAGES: usize = 1024;

/// How long passes that change nothing wait for others at most.
const PATIENCE: Nanos = 20_000_000;

/// What waits to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    messages: VecDeque<ToController>,
    outcomes: VecDeque<Outcome>,
    /// One of them changes something.
    has_news: bool,
    /// Since when they wait for others, if they do.
    patient: Option<Nanos>,
}

impl Outbox {
    /// Queues a message, behind all outcomes that wait already.
    pub fn message(&mut self, message: ToController) {
        while !self.outcomes.is_empty() {
            let batch = self.batch();
            self.messages.push_back(batch);
        }
        self.messages.push_back(message);
    }

    /// Queues an outcome. Returns how many had to be thrown away for it.
    pub fn outcome(&mut self, OutcomeReport { outcome, is_batchable }: OutcomeReport) -> u64 {
        self.has_news |= !is_batchable;
        let full = self.outcomes.len() >= MAX_OUTCOMES;
        if full {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(outcome);
        full.into()
    }

    /// Whether the controller is so far behind that it is not to be listened to.
    pub fn is_clogged(&self) -> bool {
        self.messages.len() > MAX_MESSAGES
    }

    /// Whether messages wait that the controller had no room for.
    pub fn is_behind(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Sends as much as the controller has room for. Passes that change nothing wait for others, unless nobody would wake up
    /// in time to send them: `next` is when there is another turn, at the latest.
    ///
    /// # Errors
    /// The link has ended.
    pub fn flush(
        &mut self,
        now: Nanos,
        next: Nanos,
        send: impl Fn(&ToController) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.may_wait(now, next) {
            return Ok(());
        }
        loop {
            if self.messages.is_empty() && !self.outcomes.is_empty() {
                let batch = self.batch();
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

    fn may_wait(&mut self, now: Nanos, next: Nanos) -> bool {
        if self.has_news || !self.messages.is_empty() || !(1..MAX_BATCH).contains(&self.outcomes.len()) {
            return false;
        }
        next <= *self.patient.get_or_insert(now) + PATIENCE
    }

    fn batch(&mut self) -> ToController {
        let count = self.outcomes.len().min(MAX_BATCH);
        let batch = self.outcomes.drain(..count).collect();
        if self.outcomes.is_empty() {
            self.has_news = false;
            self.patient = None;
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

    fn news(seq: u64) -> OutcomeReport {
        OutcomeReport { outcome: outcome(seq), is_batchable: false }
    }

    fn settled(seq: u64) -> OutcomeReport {
        OutcomeReport { outcome: outcome(seq), is_batchable: true }
    }

    fn outcome(seq: u64) -> Outcome {
        let (duration, code, detail) = (Duration::ZERO, OutcomeCode::L4Ok, OutcomeDetail::None);
        Outcome { check: CheckId(1), seq, started: 0, duration, code, detail, timeout: None, not_after: None }
    }

    #[test]
    fn outcomes_are_sent_in_order_and_in_batches() {
        let mut outbox = Outbox::default();
        for seq in 0..450 {
            assert_eq!(outbox.outcome(news(seq)), 0);
        }
        outbox.message(ToController::Committed { generation: 1 });
        assert_eq!(outbox.outcome(news(450)), 0);
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
        assert!(outbox.is_behind());
        room.set(100);
        outbox.flush(0, 0, send).unwrap();
        assert!(!outbox.is_behind());
        let sizes: Vec<_> = sent
            .borrow()
            .iter()
            .map(|message| if let ToController::Outcomes(o) = message { (o.len(), o[0].seq) } else { (0, 0) })
            .collect();
        assert_eq!(sizes, [(200, 0), (200, 200), (50, 400), (0, 0), (1, 450)]);
    }

    #[test]
    fn the_oldest_outcomes_go_first_when_nobody_reads() {
        let mut outbox = Outbox::default();
        let lost: u64 = (0..MAX_OUTCOMES as u64 + 5).map(|seq| outbox.outcome(news(seq))).sum();
        assert_eq!(lost, 5);
        assert_eq!(outbox.outcomes.front(), Some(&outcome(5)));
        assert_eq!(outbox.outcomes.len(), MAX_OUTCOMES);
    }

    /// The numbers of the outcomes that a flush sends.
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
    fn passes_that_change_nothing_wait_for_others_but_not_long() {
        let mut outbox = Outbox::default();
        for (seq, now) in (1..).zip([0, 4, 8, 12]) {
            outbox.outcome(settled(seq));
            assert!(sent(&mut outbox, now, now + 8_000_000).is_empty(), "{now}");
        }
        outbox.outcome(settled(5));
        assert_eq!(sent(&mut outbox, 16_000_000, 20_000_001), [1, 2, 3, 4, 5], "the next turn is too late");
        // Whoever waits next has all the time.
        outbox.outcome(settled(6));
        assert!(sent(&mut outbox, 20_000_000, 40_000_000).is_empty());
        assert_eq!(sent(&mut outbox, 40_000_000, 44_000_000), [6]);
        outbox.outcome(settled(7));
        assert_eq!(sent(&mut outbox, 0, Nanos::MAX), [7], "there is no other turn");
    }

    #[test]
    fn nothing_else_waits_nor_what_came_before_it() {
        let mut outbox = Outbox::default();
        outbox.outcome(settled(1));
        assert!(sent(&mut outbox, 0, 1).is_empty());
        outbox.outcome(news(2));
        outbox.outcome(settled(3));
        assert_eq!(sent(&mut outbox, 0, 1), [1, 2, 3]);
        outbox.outcome(settled(4));
        outbox.message(ToController::Committed { generation: 1 });
        outbox.outcome(settled(5));
        assert_eq!(sent(&mut outbox, 0, 1), [4, 5]);
        (0..MAX_BATCH as u64).for_each(|seq| _ = outbox.outcome(settled(seq)));
        assert_eq!(sent(&mut outbox, 0, 1).len(), MAX_BATCH, "no more go into a message");
    }

    #[test]
    fn news_that_had_no_room_does_not_wait_for_others() {
        let mut outbox = Outbox::default();
        outbox.outcome(news(1));
        outbox.flush(0, 1, |_| Err(Error::WouldBlock)).unwrap();
        outbox.outcome(settled(2));
        assert_eq!(sent(&mut outbox, 0, 1), [1, 2]);
    }
}
