//! Connections that wait for the next probe of their check, or for the server to close them.

use crate::probe::stream::ProbeStream;

/// At most one connection per slot.
#[derive(Debug, Default)]
pub struct IdleConnections {
    slots: Vec<Option<ProbeStream>>,
    count: u64,
    /// Slot at which the next eviction begins to search, as in the CLOCK algorithm.
    clock_hand: usize,
}

impl IdleConnections {
    /// Stores a connection. Returns false if the slot has one already.
    pub fn insert(&mut self, slot: u32, stream: ProbeStream) -> bool {
        let slot = slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        let place = &mut self.slots[slot];
        if place.is_some() {
            return false;
        }
        *place = Some(stream);
        self.count += 1;
        true
    }

    /// Removes the connection of a slot.
    pub fn take(&mut self, slot: u32) -> Option<ProbeStream> {
        let stream = self.slots.get_mut(slot as usize)?.take()?;
        self.count -= 1;
        Some(stream)
    }

    /// Returns the connection of a slot, if it has this token.
    pub fn get_mut(&mut self, slot: u32, token: u64) -> Option<&mut ProbeStream> {
        self.slots.get_mut(slot as usize)?.as_mut().filter(|stream| stream.token() == token)
    }

    /// Closes one connection, round-robin, to free its descriptor for a probe. Returns false if there is none.
    pub fn evict(&mut self) -> bool {
        if self.count == 0 {
            return false;
        }
        let hand = self.clock_hand;
        let (behind, ahead) = self.slots.split_at_mut(hand);
        let mut places = ahead.iter_mut().chain(behind);
        let found = places.position(|place| place.take().is_some());
        let Some(distance) = found else { return false };
        self.clock_hand = (hand + distance + 1) % self.slots.len();
        self.count -= 1;
        true
    }
}
