//! Reasons for which a reply may have reached this host but not the prober. Strangers cause them by floods, so none of them
//! excuses a target for ever.

use crate::clock::Nanos;
use crate::probe::missed::MissedReplies;

/// Detail of a timeout whose reply may have been dropped by the kernel.
pub const OVERFLOWED: &str = "receive buffer overflow on this host";
/// Number of iterations with unread packets for which timeouts wait: enough to read a full receive buffer.
const MAX_UNREAD: u32 = 16;
/// Time without an overflow after which the share of lost packets is measured anew.
const EPISODE: Nanos = 1_000_000_000;

/// Receive losses of one kind of raw socket.
#[derive(Debug, Default)]
pub struct RxLoss {
    /// Time at which an overflow was last noticed.
    last_overflow: Nanos,
    /// Number of packets dropped and read since the first of a series of overflows.
    dropped: u64,
    read: u64,
    /// True if this iteration left packets unread.
    has_unread: bool,
    /// Number of successive iterations that did.
    unread_iterations: u32,
}

impl RxLoss {
    /// Begins an iteration.
    pub const fn begin_iteration(&mut self) {
        if !self.has_unread {
            self.unread_iterations = 0;
        }
        self.has_unread = false;
    }

    /// Records that packets were read.
    pub const fn record_read(&mut self, count: u64) {
        self.read = self.read.saturating_add(count);
    }

    /// Records that the kernel dropped packets.
    pub const fn record_overflow(&mut self, count: u64, now: Nanos) {
        if now.saturating_sub(self.last_overflow) > EPISODE {
            (self.dropped, self.read) = (0, 0);
        }
        self.dropped = self.dropped.saturating_add(count);
        self.last_overflow = now;
    }

    /// Records that packets are left for the next iteration.
    pub const fn mark_unread(&mut self) {
        if !self.has_unread {
            self.unread_iterations = self.unread_iterations.saturating_add(1);
        }
        self.has_unread = true;
    }

    /// Returns true if a reply that arrived in time may still be unread, so that no probe must time out now.
    pub const fn may_have_unread(&self) -> bool {
        self.has_unread && self.unread_iterations <= MAX_UNREAD
    }

    /// Returns the local fault that explains a missing reply to a probe started at `started`.
    pub fn excuse(&self, started: Nanos, missed: &mut MissedReplies) -> Option<&'static str> {
        let share = self.dropped as f64 / (self.dropped + self.read).max(1) as f64;
        (started <= self.last_overflow && missed.explains(share)).then_some(OVERFLOWED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_excuses_only_earlier_probes() {
        let mut loss = RxLoss::default();
        loss.record_overflow(1, 100);
        let excuse = |started| loss.excuse(started, &mut MissedReplies::NONE.clone());
        assert_eq!([99, 100, 101].map(excuse), [Some(OVERFLOWED), Some(OVERFLOWED), None]);
    }

    #[test]
    fn overflow_excuses_as_many_misses_as_it_explains() {
        for (dropped, read, expected) in [(1, 99, 3), (1, 1, 19), (9, 1, 131), (1, 1_000_000, 0)] {
            let mut loss = RxLoss::default();
            loss.record_read(1_000_000);
            loss.record_overflow(dropped, 2 * EPISODE);
            loss.record_read(read);
            let mut missed = MissedReplies::NONE;
            let count = (0..1000).take_while(|_| loss.excuse(1, &mut missed).is_some()).count();
            assert_eq!(count, expected, "{dropped} of {read}");
        }
    }

    #[test]
    fn unread_packets_delay_timeouts_for_a_while() {
        let mut loss = RxLoss::default();
        let mut delayed = 0;
        for _ in 0..100 {
            loss.begin_iteration();
            loss.mark_unread();
            loss.mark_unread();
            delayed += u32::from(loss.may_have_unread());
        }
        assert_eq!(delayed, MAX_UNREAD);
        for has_unread in [false, true] {
            loss.begin_iteration();
            if has_unread {
                loss.mark_unread();
            }
            assert_eq!(loss.may_have_unread(), has_unread);
        }
    }
}
