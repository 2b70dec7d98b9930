//! The checks in force, each in a slot of its own.

use std::collections::HashMap;
use std::time::Duration;

use maglev_ipc::{Check, CheckId};

use super::held::{Held, Member};

/// Names a probe by the slot of its check. What comes late for one that is over finds another epoch.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    /// The slot.
    pub slot: u32,
    /// How many probes have started in this slot, whatever check was in it.
    pub epoch: u32,
}

impl From<u64> for Key {
    fn from(word: u64) -> Self {
        Self { slot: word as u32, epoch: (word >> 32) as u32 }
    }
}

impl From<Key> for u64 {
    fn from(key: Key) -> Self {
        Self::from(key.epoch) << 32 | Self::from(key.slot)
    }
}

/// What a new set changes.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Change {
    /// Slots whose check goes on as it was under a new name, and the interval that is now asked for.
    pub kept: Vec<(u32, Duration)>,
    /// Slots of new checks.
    pub added: Vec<u32>,
    /// Slots of checks that are gone.
    pub dropped: Vec<u32>,
}

/// All slots.
#[derive(Debug)]
pub struct Table<P, F> {
    slots: Vec<Slot<P, F>>,
    free: Vec<u32>,
    ids: HashMap<CheckId, u32>,
}

#[derive(Debug)]
struct Slot<P, F> {
    epoch: u32,
    held: Option<Held<P, F>>,
}

impl<P, F> Default for Table<P, F> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), ids: HashMap::new() }
    }
}

impl<P, F> Table<P, F> {
    /// Puts a new set in force. A check that is equal by value to one in force keeps its slot with all that is in
    /// it, its probes in flight included.
    pub fn replace(&mut self, members: Vec<Member<P>>) -> Change {
        let (places, dropped) = self.places(&members);
        let mut change = Change { dropped, ..Change::default() };
        // What leaves makes room before what is new takes it.
        for slot in &change.dropped {
            self.slots[*slot as usize].held = None;
            self.free.push(*slot);
        }
        self.ids.clear();
        for (place, member) in places.into_iter().zip(members) {
            let id = member.id;
            let slot = match place {
                Some(slot) => {
                    change.kept.push((slot, member.interval));
                    if let Some(held) = self.held_mut(slot) {
                        held.id = id;
                    }
                    slot
                }
                None => {
                    let slot = self.insert(member);
                    change.added.push(slot);
                    slot
                }
            };
            self.ids.insert(id, slot);
        }
        change
    }

    /// The check in a slot.
    pub fn held(&self, slot: u32) -> Option<&Held<P, F>> {
        self.slots.get(slot as usize)?.held.as_ref()
    }

    /// The check in a slot.
    pub fn held_mut(&mut self, slot: u32) -> Option<&mut Held<P, F>> {
        self.slots.get_mut(slot as usize)?.held.as_mut()
    }

    /// All checks.
    pub fn iter(&self) -> impl Iterator<Item = &Held<P, F>> {
        self.slots.iter().filter_map(|slot| slot.held.as_ref())
    }

    /// What the next probe in a slot is called.
    pub fn next_key(&self, slot: u32) -> Key {
        Key { slot, epoch: self.slots.get(slot as usize).map_or(0, |place| place.epoch.wrapping_add(1)) }
    }

    /// That probe has begun.
    pub fn advance(&mut self, key: Key) {
        if let Some(place) = self.slots.get_mut(key.slot as usize) {
            place.epoch = key.epoch;
        }
    }

    /// The name of the probe that is at `index` among those of its check.
    pub fn key(&self, slot: u32, index: usize) -> Option<Key> {
        let place = self.slots.get(slot as usize)?;
        let age = place.held.as_ref()?.probes.len().checked_sub(index + 1)?;
        Some(Key { slot, epoch: place.epoch.wrapping_sub(age as u32) })
    }

    /// The check of a probe, and which of its probes it is, if it is not told yet.
    pub fn find(&mut self, key: Key) -> Option<(&mut Held<P, F>, usize)> {
        let place = self.slots.get_mut(key.slot as usize)?;
        let age = place.epoch.wrapping_sub(key.epoch) as usize;
        let held = place.held.as_mut()?;
        let index = held.probes.len().checked_sub(age)?.checked_sub(1)?;
        Some((held, index))
    }

    /// The slot of the check that the controller calls `id`.
    pub fn slot(&self, id: CheckId) -> Option<u32> {
        self.ids.get(&id).copied()
    }

    /// The slot that each of `members` has already, if any, and the slots of all others.
    fn places(&self, members: &[Member<P>]) -> (Vec<Option<u32>>, Vec<u32>) {
        let mut leaving: HashMap<&Check, Vec<u32>> = HashMap::with_capacity(self.ids.len());
        for (slot, held) in
            (0..).zip(&self.slots).filter_map(|(slot, place)| Some((slot, place.held.as_ref()?)))
        {
            leaving.entry(&held.check).or_default().push(slot);
        }
        let places = members.iter().map(|member| leaving.get_mut(&member.check)?.pop()).collect();
        let mut dropped: Vec<_> = leaving.into_values().flatten().collect();
        dropped.sort_unstable();
        (places, dropped)
    }

    fn insert(&mut self, member: Member<P>) -> u32 {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        if slot as usize == self.slots.len() {
            self.slots.push(Slot { epoch: 0, held: None });
        }
        self.slots[slot as usize].held = Some(Held::new(member));
        slot
    }
}
