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

/// What a new set, or an amendment to the one in force, changes.
#[derive(Debug)]
pub struct Change<F> {
    /// Slots whose check goes on as it was under a new name, and the interval that is now asked for.
    pub kept: Vec<(u32, Duration)>,
    /// Slots of new checks.
    pub added: Vec<u32>,
    /// Slots of checks that are gone.
    pub dropped: Vec<u32>,
    /// What was in flight of them.
    pub ended: Vec<F>,
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
    pub fn replace(&mut self, members: Vec<Member<P>>) -> Change<F> {
        self.ids.clear();
        let all = (0..).zip(&self.slots).filter_map(|(slot, place)| place.held.as_ref().map(|_| slot));
        self.change(all.collect(), members)
    }

    /// Takes the checks that the controller calls `gone` out of the set in force, and puts `members` in it. One of these
    /// that is equal by value to one that leaves takes its slot with all that is in it.
    pub fn amend(&mut self, gone: &[CheckId], members: Vec<Member<P>>) -> Change<F> {
        let leaving = gone.iter().filter_map(|id| self.ids.remove(id)).collect();
        self.change(leaving, members)
    }

    /// Puts `members` in place of what is in the slots `leaving`.
    fn change(&mut self, leaving: Vec<u32>, members: Vec<Member<P>>) -> Change<F> {
        let (places, dropped) = self.places(leaving, &members);
        let mut change = Change { kept: Vec::new(), added: Vec::new(), dropped, ended: Vec::new() };
        // What leaves makes room before what is new takes it.
        for slot in &change.dropped {
            let held = self.slots[*slot as usize].held.take();
            let probes = held.into_iter().flat_map(|held| held.probes);
            change.ended.extend(probes.filter_map(|probe| probe.flight));
            self.free.push(*slot);
        }
        for (place, member) in places.into_iter().zip(members) {
            let id = member.id;
            let slot = match place {
                Some(slot) => {
                    change.kept.push((slot, member.interval));
                    if let Some(held) = self.held_mut(slot) {
                        held.rename(id, member.settled);
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
    pub fn all(&self) -> impl Iterator<Item = &Held<P, F>> {
        self.slots.iter().filter_map(|place| place.held.as_ref())
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

    /// The slot of `leaving` that each of `members` has already, if any, and the slots of all others. Of equal checks, each
    /// keeps its own under its name: the controller counts by name what it has heard.
    fn places(&self, leaving: Vec<u32>, members: &[Member<P>]) -> (Vec<Option<u32>>, Vec<u32>) {
        let mut by_name: HashMap<CheckId, u32> =
            leaving.iter().filter_map(|slot| Some((self.held(*slot)?.id, *slot))).collect();
        let own = |member: &Member<P>| {
            let slot = *by_name.get(&member.id)?;
            self.held(slot).filter(|held| held.check == member.check)?;
            by_name.remove(&member.id)
        };
        let mut places: Vec<_> = members.iter().map(own).collect();
        let mut by_value: HashMap<&Check, Vec<u32>> = HashMap::with_capacity(by_name.len());
        for slot in leaving {
            if let Some(held) = self.held(slot).filter(|held| by_name.contains_key(&held.id)) {
                by_value.entry(&held.check).or_default().push(slot);
            }
        }
        for (place, member) in places.iter_mut().zip(members).filter(|(place, _)| place.is_none()) {
            *place = by_value.get_mut(&member.check).and_then(Vec::pop);
        }
        let mut dropped: Vec<_> = by_value.into_values().flatten().collect();
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
