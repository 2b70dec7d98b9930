//! What waits to be sent to the controller. It never blocks, and it never grows beyond its bounds.

use std::collections::VecDeque;

use maglev_ipc::link::Error;
use maglev_ipc::message::MAX_BATCH;
use maglev_ipc::{Outcome, ToController};

/// How many outcomes wait for a controller that does not read; then the oldest are thrown away.
pub const MAX_OUTCOMES: usize = 65_536;
/// With more messages than this waiting, nothing more is read from the controller: it must read first.
const MAX_MESSAGES: usize = 1024;

/// What waits to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    messages: VecDeque<ToController>,
    outcomes: VecDeque<Outcome>,
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
    pub fn outcome(&mut self, outcome: Outcome) -> u64 {
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

    /// Sends as much as the controller has room for.
    ///
    /// # Errors
    /// The link has ended.
    pub fn flush(&mut self, send: impl Fn(&ToController) -> Result<(), Error>) -> Result<(), Error> {
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

    fn batch(&mut self) -> ToController {
        let count = self.outcomes.len().min(MAX_BATCH);
        ToController::Outcomes(self.outcomes.drain(..count).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use maglev_ipc::{CheckId, Code, Detail};

    use super::*;

    fn outcome(seq: u64) -> Outcome {
        let (duration, code, detail) = (Duration::ZERO, Code::L4Ok, Detail::None);
        Outcome { check: CheckId(1), seq, started: 0, duration, code, detail, timeout: None, not_after: None }
    }

    #[test]
    fn outcomes_are_sent_in_order_and_in_batches() {
        let mut outbox = Outbox::default();
        for seq in 0..450 {
            assert_eq!(outbox.outcome(outcome(seq)), 0);
        }
        outbox.message(ToController::Committed { generation: 1 });
        assert_eq!(outbox.outcome(outcome(450)), 0);
        let (sent, room) = (RefCell::new(Vec::new()), Cell::new(1));
        let send = |message: &ToController| {
            room.set(room.get() - 1);
            if room.get() < 0 {
                return Err(Error::WouldBlock);
            }
            sent.borrow_mut().push(message.clone());
            Ok(())
        };
        outbox.flush(send).unwrap();
        assert!(outbox.is_behind());
        room.set(100);
        outbox.flush(send).unwrap();
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
        let lost: u64 = (0..MAX_OUTCOMES as u64 + 5).map(|seq| outbox.outcome(outcome(seq))).sum();
        assert_eq!(lost, 5);
        assert_eq!(outbox.outcomes.front(), Some(&outcome(5)));
        assert_eq!(outbox.outcomes.len(), MAX_OUTCOMES);
    }
}
