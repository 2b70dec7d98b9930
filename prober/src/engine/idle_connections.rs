//! Connections that wait for the next probe of their check.

use crate::probe::stream::ProbeStream;

/// At most one per slot.
#[derive(Debug, Default)]
pub struct IdleConnections {
    slots: Vec<Option<ProbeStream>>,
    count: u64,
    /// Where the search for one to close goes on.
    hand: usize,
}

impl IdleConnections {
    /// Keeps a connection. Returns whether there was room for it.
    pub fn put(&mut self, slot: u32, stream: ProbeStream) -> bool {
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

    /// Takes the connection of the check in a slot.
    pub fn take(&mut self, slot: u32) -> Option<ProbeStream> {
        let stream = self.slots.get_mut(slot as usize)?.take()?;
        self.count -= 1;
        Some(stream)
    }

    /// The connection of the check in a slot, if it is the one of that token.
    pub fn get_mut(&mut self, slot: u32, token: u64) -> Option<&mut ProbeStream> {
        self.slots.get_mut(slot as usize)?.as_mut().filter(|stream| stream.token() == token)
    }

    /// Closes one, each in its turn, so that a probe that needs its descriptor has it. Returns whether there was one.
    pub fn evict(&mut self) -> bool {
        if self.count == 0 {
            return false;
        }
        let hand = self.hand;
        let (behind, ahead) = self.slots.split_at_mut(hand);
        let mut places = ahead.iter_mut().chain(behind);
        let found = places.position(|place| place.take().is_some());
        let Some(distance) = found else { return false };
        self.hand = (hand + distance + 1) % self.slots.len();
        self.count -= 1;
        true
    }
}
