//! Queue of messages to the prober, bounded however slowly the prober reads.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use maglev_core::state::CheckSet;
use maglev_ipc::message::{MAX_BATCH, PEER_TIMEOUT};
use maglev_ipc::{CheckId, ToProber};
use maglev_ipc_link::batch_checks;
use tokio::time::Instant;

/// Number of queued messages that is permitted beside those of sets.
const OTHER_MESSAGES: usize = 64;

/// Number of sets that may be queued at once.
const QUEUED_SETS: usize = 4;

/// Messages not yet sent, and intervals after them: the newest of each check.
#[derive(Debug)]
pub struct OutgoingQueue {
    messages: VecDeque<ToProber>,
    intervals: BTreeMap<CheckId, Duration>,
    /// Number of messages of the largest set so far.
    set_size: usize,
    /// Time at which the prober last took a message, or at which the queue was last empty.
    taken: Instant,
}

impl OutgoingQueue {
    /// Begins with one message.
    pub fn new(first: ToProber) -> Self {
        let (intervals, set_size, taken) = (BTreeMap::new(), 0, Instant::now());
        Self { messages: VecDeque::from([first]), intervals, set_size, taken }
    }

    /// Returns true if there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.intervals.is_empty()
    }

    /// Returns true if the prober takes nothing for too long, or much less than it is sent.
    pub fn is_stalled(&self) -> bool {
        let most = QUEUED_SETS * self.set_size + OTHER_MESSAGES;
        !self.is_empty() && (self.taken.elapsed() >= PEER_TIMEOUT || self.messages.len() > most)
    }

    /// Returns the next message.
    pub fn front(&mut self) -> Option<&ToProber> {
        if self.messages.is_empty() && !self.intervals.is_empty() {
            let batch: Vec<_> = std::iter::from_fn(|| self.intervals.pop_first()).take(MAX_BATCH).collect();
            self.messages.push_back(ToProber::SetIntervals(batch));
        }
        self.messages.front()
    }

    /// Removes the message that was sent.
    pub fn pop(&mut self) {
        self.messages.pop_front();
        self.taken = Instant::now();
    }

    /// Queues a heartbeat. One that waits will do.
    pub fn push_heartbeat(&mut self) {
        self.begin();
        if self.messages.back() != Some(&ToProber::Heartbeat) {
            self.messages.push_back(ToProber::Heartbeat);
        }
    }

    /// Queues a set or an amendment. It voids the waiting intervals of the checks that it replaces.
    pub fn push_set(&mut self, set: CheckSet) {
        self.begin();
        let before = self.messages.len();
        let CheckSet { generation, dropped, bundles, checks } = set;
        match &dropped {
            Some(dropped) => dropped.iter().for_each(|check| _ = self.intervals.remove(check)),
            None => self.intervals.clear(),
        }
        self.messages.push_back(match &dropped {
            Some(_) => ToProber::Amend { generation },
            None => ToProber::Begin { generation },
        });
        let dropped = dropped.unwrap_or_default();
        self.messages.extend(dropped.chunks(MAX_BATCH).map(|names| ToProber::Drop(names.to_vec())));
        let bundles =
            bundles.iter().map(|bundle| ToProber::Bundle { id: bundle.id, pem: bundle.pem.clone() });
        self.messages.extend(bundles);
        self.messages.extend(batch_checks(checks));
        self.messages.push_back(ToProber::Commit { generation });
        self.set_size = self.set_size.max(self.messages.len() - before);
    }

    /// Queues the interval of a check in place of an earlier one.
    pub fn push_interval(&mut self, check: CheckId, interval: Duration) {
        self.begin();
        self.intervals.insert(check, interval);
    }

    /// Starts the time of a queue that was empty.
    fn begin(&mut self) {
        if self.is_empty() {
            self.taken = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use maglev_ipc::VERSION;
    use tokio::time::advance;

    use super::*;

    fn queue() -> OutgoingQueue {
        OutgoingQueue::new(ToProber::Hello { version: VERSION, release: String::new() })
    }

    fn sent(queue: &mut OutgoingQueue) -> Vec<ToProber> {
        let mut messages = Vec::new();
        while let Some(message) = queue.front().cloned() {
            messages.push(message);
            queue.pop();
        }
        messages
    }

    const fn check(number: u32) -> CheckId {
        CheckId(number)
    }

    fn set(generation: u64, dropped: Option<Vec<CheckId>>) -> CheckSet {
        CheckSet { generation, dropped, bundles: Vec::new(), checks: Vec::new() }
    }

    #[test]
    fn unread_intervals_keep_the_newest_of_each_check() {
        let mut queue = queue();
        for turn in 0..10_000 {
            queue.push_interval(check(turn % 300), Duration::from_millis(turn.into()));
            queue.push_heartbeat();
        }
        assert_eq!((queue.messages.len(), queue.intervals.len()), (2, 300));
        let messages = sent(&mut queue);
        let [
            ToProber::Hello { .. },
            ToProber::Heartbeat,
            ToProber::SetIntervals(first),
            ToProber::SetIntervals(rest),
        ] = &messages[..]
        else {
            panic!("{messages:?}")
        };
        assert_eq!((first.len(), rest.len()), (MAX_BATCH, 300 - MAX_BATCH));
        assert_eq!(first[0], (check(0), Duration::from_millis(9900)));
    }

    #[test]
    fn set_voids_waiting_intervals() {
        let second = Duration::from_secs(1);
        let mut queue = queue();
        queue.push_interval(check(1), second);
        queue.push_set(set(1, None));
        queue.push_interval(check(2), second);
        queue.push_interval(check(3), second);
        queue.push_set(set(2, Some(vec![check(2)])));
        let [.., ToProber::Commit { generation: 2 }, ToProber::SetIntervals(left)] = &sent(&mut queue)[..]
        else {
            panic!("{queue:?}")
        };
        assert_eq!(left[..], [(check(3), second)]);
    }

    #[tokio::test(start_paused = true)]
    async fn prober_that_takes_nothing_is_stalled() {
        let mut queue = queue();
        advance(PEER_TIMEOUT / 2).await;
        queue.push_heartbeat();
        assert!(!queue.is_stalled());
        advance(PEER_TIMEOUT / 2).await;
        assert!(queue.is_stalled());
        sent(&mut queue);
        advance(10 * PEER_TIMEOUT).await;
        assert!(!queue.is_stalled());
        queue.push_heartbeat();
        assert!(!queue.is_stalled());
        for generation in 0..100 {
            queue.push_set(set(generation, Some(Vec::new())));
        }
        assert!(queue.is_stalled());
    }
}
