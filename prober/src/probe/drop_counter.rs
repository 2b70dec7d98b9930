//! Detection of packets that the kernel dropped because a receive buffer was full (`SO_RXQ_OVFL`).

use nix::cmsg_space;

/// Largest share of the receive buffer that the smallest packet takes, in bytes: the kernel charges `skb->truesize`, which
/// includes the space that a driver reserved.
const MAX_TRUESIZE: usize = 8 * 1024;

/// Counts the drops of one socket.
///
/// With `SO_RXQ_OVFL`, the kernel attaches the total number of drops to each packet as ancillary data. The rules:
///
/// 1. The value is that of the time when the packet was queued. Drops after the last packet of a full buffer are
///    therefore reported with the first packet that arrives later.
/// 2. There is no ancillary data while the total is 0.
/// 3. The total is cumulative and wraps at 32 bits.
/// 4. Only `recvmsg` with a control buffer returns it, which costs time. So the prober asks only after a burst that may have
///    filled the buffer: no smaller burst loses a packet.
#[derive(Debug)]
pub struct DropCounter {
    /// Number of packets in one burst that may fill the receive buffer.
    burst_limit: usize,
    /// Number of packets read since the queue was last empty.
    burst: usize,
    /// True if the last burst reached the limit, so that the next packet's total is needed.
    check_pending: bool,
    /// Newest total of the kernel.
    total: u32,
    /// Number of drops not yet returned by [`Self::take_unreported`].
    unreported: u32,
    /// Buffer for the ancillary data.
    control: Vec<u8>,
}

impl DropCounter {
    /// Returns the counter of a socket with a receive buffer of `buffer_size` bytes.
    pub fn new(buffer_size: usize) -> Self {
        let burst_limit = (buffer_size / MAX_TRUESIZE).max(1);
        let control = cmsg_space!(u32);
        Self { burst_limit, burst: 0, check_pending: false, total: 0, unreported: 0, control }
    }

    /// Returns true if the next packet is to be read with its ancillary data.
    pub const fn is_check_pending(&self) -> bool {
        self.check_pending
    }

    /// Returns the buffer for the ancillary data.
    pub fn control_buffer(&mut self) -> &mut [u8] {
        &mut self.control
    }

    /// Records the total that came with a packet, or its absence.
    pub fn record_total(&mut self, total: Option<u32>) {
        let total = total.unwrap_or(0);
        self.check_pending = false;
        self.unreported = self.unreported.wrapping_add(total.wrapping_sub(self.total));
        self.total = total;
    }

    /// Records that `packets` were read; `has_more` is false if the queue is now empty.
    pub const fn record_read(&mut self, packets: usize, has_more: bool) {
        self.burst += packets;
        if !has_more {
            self.check_pending |= self.burst >= self.burst_limit;
            self.burst = 0;
        }
    }

    /// Returns the number of drops since the last call, as far as the kernel has reported them.
    pub const fn take_unreported(&mut self) -> u32 {
        std::mem::replace(&mut self.unreported, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter whose buffer a burst of 4 packets may fill.
    fn counter() -> DropCounter {
        DropCounter::new(4 * MAX_TRUESIZE)
    }

    #[test]
    fn tiny_buffer_has_burst_limit_one() {
        let mut counter = DropCounter::new(1);
        counter.record_read(1, false);
        assert!(counter.is_check_pending());
    }

    #[test]
    fn burst_below_limit_needs_no_check() {
        let mut counter = counter();
        for _ in 0..10 {
            counter.record_read(3, false);
        }
        assert!(!counter.is_check_pending());
    }

    #[test]
    fn burst_is_counted_until_queue_is_empty() {
        let mut counter = counter();
        counter.record_read(3, true);
        assert!(!counter.is_check_pending());
        counter.record_read(1, false);
        assert!(counter.is_check_pending());
    }

    #[test]
    fn drops_are_reported_with_a_later_packet() {
        let mut counter = counter();
        counter.record_read(4, false);
        assert_eq!(counter.take_unreported(), 0);
        counter.record_total(Some(7));
        assert_eq!((counter.is_check_pending(), counter.take_unreported()), (false, 7));
    }

    #[test]
    fn missing_ancillary_data_means_no_drops() {
        let mut counter = counter();
        counter.record_read(4, false);
        counter.record_total(None);
        assert_eq!((counter.is_check_pending(), counter.take_unreported()), (false, 0));
    }

    #[test]
    fn totals_are_cumulative() {
        let mut counter = counter();
        let reported = [3, 3, 10].map(|total| {
            counter.record_total(Some(total));
            counter.take_unreported()
        });
        assert_eq!(reported, [3, 0, 7]);
    }

    #[test]
    fn total_wraps_at_32_bits() {
        let mut counter = counter();
        counter.record_total(Some(u32::MAX - 1));
        counter.take_unreported();
        counter.record_total(Some(3));
        assert_eq!(counter.take_unreported(), 5);
    }

    #[test]
    fn unreported_drops_add_up() {
        let mut counter = counter();
        counter.record_total(Some(2));
        counter.record_total(Some(5));
        assert_eq!((counter.take_unreported(), counter.take_unreported()), (5, 0));
    }
}
