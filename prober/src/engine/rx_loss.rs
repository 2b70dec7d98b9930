//! Reasons for which a reply may have reached this host but not the prober.

use crate::clock::Nanos;

/// Detail of a timeout whose reply may have been dropped by the kernel.
pub const OVERFLOWED: &str = "receive buffer overflow on this host";
/// Detail of a timeout whose reply may be in the socket's queue.
pub const UNREAD: &str = "replies not read in time on this host";

/// Receive losses of one kind of raw socket.
#[derive(Debug, Default)]
pub struct RxLoss {
    /// Time at which an overflow was last noticed.
    last_overflow: Nanos,
    /// True if this iteration left packets unread.
    has_unread: bool,
}

impl RxLoss {
    /// Begins an iteration.
    pub const fn begin_iteration(&mut self) {
        self.has_unread = false;
    }

    /// Records that the kernel dropped packets.
    pub const fn record_overflow(&mut self, now: Nanos) {
        self.last_overflow = now;
    }

    /// Records that packets are left for the next iteration.
    pub const fn mark_unread(&mut self) {
        self.has_unread = true;
    }

    /// Returns the local fault that explains a missing reply to a probe started at `started`.
    pub const fn local_fault_since(&self, started: Nanos) -> Option<&'static str> {
        if self.has_unread {
            Some(UNREAD)
        } else if started <= self.last_overflow {
            Some(OVERFLOWED)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_excuses_only_earlier_probes() {
        let mut loss = RxLoss::default();
        loss.record_overflow(100);
        assert_eq!(
            [99, 100, 101].map(|at| loss.local_fault_since(at)),
            [Some(OVERFLOWED), Some(OVERFLOWED), None]
        );
    }

    #[test]
    fn unread_packets_excuse_this_iteration_only() {
        let mut loss = RxLoss::default();
        loss.mark_unread();
        assert_eq!(loss.local_fault_since(1), Some(UNREAD));
        loss.begin_iteration();
        assert_eq!(loss.local_fault_since(1), None);
    }
}
