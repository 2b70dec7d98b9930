//! The queue of checks that are due.

use std::collections::VecDeque;

/// Slots of due checks, in start order: deferred ones first, then first in, first out.
///
/// The engine defers a start whose TLS handshake exceeds the budget of this iteration. The first deferral of an iteration
/// shows that the budget is spent, so the queue then serves checks that need no handshake.
#[derive(Debug, Default)]
pub struct ReadyQueue {
    /// Slots in the order in which they became due.
    due: VecDeque<u32>,
    /// Number of slots that became due in this iteration.
    newly_due: usize,
    /// Deferred slots, oldest first.
    deferred: VecDeque<u32>,
    /// True if a start was deferred in this iteration.
    deferred_this_iteration: bool,
}

impl ReadyQueue {
    /// Begins an iteration, with a new handshake budget.
    pub const fn begin_iteration(&mut self) {
        self.newly_due = 0;
        self.deferred_this_iteration = false;
    }

    /// Adds a slot that became due.
    pub fn push(&mut self, slot: u32) {
        self.due.push_back(slot);
        self.newly_due += 1;
    }

    /// Returns the slot to start next.
    pub fn front(&self) -> Option<u32> {
        if self.serves_deferred() { self.deferred.front() } else { self.due.front() }.copied()
    }

    /// Removes the front slot.
    pub fn pop(&mut self) {
        if self.serves_deferred() {
            self.deferred.pop_front()
        } else {
            self.due.pop_front()
        };
    }

    /// Defers the front slot to the next iteration.
    pub fn defer(&mut self) {
        let is_deferred_already = self.serves_deferred();
        self.deferred_this_iteration = true;
        if !is_deferred_already {
            self.deferred.extend(self.due.pop_front());
        }
    }

    /// Returns the number of slots that became due in this iteration and have not started. Counts each slot once.
    pub fn take_delayed(&mut self) -> usize {
        std::mem::take(&mut self.newly_due).min(self.due.len())
    }

    /// Returns true if a start was deferred in this iteration.
    pub const fn has_deferred(&self) -> bool {
        self.deferred_this_iteration
    }

    /// Returns true if no slot is due.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty() && self.deferred.is_empty()
    }

    fn serves_deferred(&self) -> bool {
        !self.deferred_this_iteration && !self.deferred.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut ReadyQueue) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some(slot) = queue.front() {
            order.push(slot);
            queue.pop();
        }
        order
    }

    #[test]
    fn deferred_slot_is_first_in_next_iteration() {
        let mut queue = ReadyQueue::default();
        (1..=3).for_each(|slot| queue.push(slot));
        queue.defer();
        assert_eq!(drain(&mut queue), [2, 3]);
        assert!(!queue.is_empty() && queue.has_deferred());
        queue.begin_iteration();
        queue.push(4);
        assert_eq!(drain(&mut queue), [1, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn slot_deferred_twice_keeps_its_place() {
        let mut queue = ReadyQueue::default();
        (1..=3).for_each(|slot| queue.push(slot));
        (0..2).for_each(|_| queue.defer());
        queue.begin_iteration();
        queue.defer();
        assert_eq!(queue.front(), Some(3));
        queue.begin_iteration();
        assert_eq!(drain(&mut queue), [1, 2, 3]);
    }

    #[test]
    fn delayed_slots_are_counted_once() {
        let mut queue = ReadyQueue::default();
        (1..=3).for_each(|slot| queue.push(slot));
        queue.pop();
        assert_eq!((queue.take_delayed(), queue.take_delayed()), (2, 0));
        queue.begin_iteration();
        assert_eq!(queue.take_delayed(), 0);
    }
}
