//! Draining raw sockets.

use maglev_ipc::ProberStats;

use super::rx_loss::RxLoss;
use crate::clock::{self, Nanos};
use crate::probe::raw::{PacketReject, RawProber};

/// Maximum number of batches that one call reads from a raw socket, so that a flood does not starve the rest of the loop.
pub const MAX_BATCHES: usize = 16;

/// A prober with raw sockets, and what is known of replies that it could not read.
#[derive(Debug)]
pub struct RawReceiver<P: RawProber> {
    /// The prober.
    pub prober: P,
    /// Losses of its sockets.
    pub loss: RxLoss,
    /// Buffer of [`Self::drain`], kept to avoid an allocation.
    messages: Vec<Result<P::Message, PacketReject>>,
}

impl<P: RawProber> RawReceiver<P> {
    /// Returns a receiver without known losses.
    pub fn new(prober: P) -> Self {
        Self { prober, loss: RxLoss::default(), messages: Vec::new() }
    }

    /// Reads the packets of one address family, up to [`MAX_BATCHES`], and calls `handle` for each valid one. Counts dropped
    /// and rejected packets.
    pub fn drain(
        &mut self,
        v4: bool,
        stats: &mut ProberStats,
        mut handle: impl FnMut(P::Message, Nanos) -> Result<(), PacketReject>,
    ) {
        let mut has_more = true;
        for _ in 0..MAX_BATCHES {
            has_more = self.prober.receive(v4, &mut self.messages);
            let now = clock::now();
            let dropped = self.prober.take_dropped(v4);
            if dropped > 0 {
                stats.lost_to_overflow += u64::from(dropped);
                self.loss.record_overflow(u64::from(dropped), now);
            }
            self.loss.record_read(self.messages.len() as u64);
            for message in self.messages.drain(..) {
                if let Err(reject) = message.and_then(|message| handle(message, now)) {
                    count_reject(reject, stats);
                }
            }
            if !has_more {
                break;
            }
        }
        if has_more {
            self.loss.mark_unread();
        }
    }
}

fn count_reject(reject: PacketReject, stats: &mut ProberStats) {
    let counter = match reject {
        PacketReject::Duplicate => &mut stats.duplicates,
        PacketReject::Stray => &mut stats.unmatched,
        PacketReject::Spoofed => &mut stats.spoofed,
        PacketReject::Malformed => &mut stats.malformed,
    };
    *counter += 1;
}
