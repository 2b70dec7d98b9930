//! The checks in force, each in a slot of its own.

use std::collections::HashMap;
use std::time::Duration;

use maglev_ipc::{Check, CheckId};

use super::scheduled_check::{AcceptedCheck, ScheduledCheck};
use crate::probe_id::ProbeId;

/// What a new set, or an amendment to the one in force, changes.
#[derive(Debug)]
pub struct SetChange<F> {
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
pub struct CheckTable<P, F> {
    slots: Vec<TableSlot<P, F>>,
    free: Vec<u32>,
    ids: HashMap<CheckId, u32>,
}

#[derive(Debug)]
struct TableSlot<P, F> {
    epoch: u32,
    entry: Option<ScheduledCheck<P, F>>,
}

impl<P, F> Default for CheckTable<P, F> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), ids: HashMap::new() }
    }
}

impl<P, F> CheckTable<P, F> {
    /// Puts a new set in force. A check that is equal by value to one in force keeps its slot with all that is in
    /// it, its probes in flight included.
    pub fn replace(&mut self, members: Vec<AcceptedCheck<P>>) -> SetChange<F> {
        self.ids.clear();
        let all = (0..).zip(&self.slots).filter_map(|(slot, place)| place.entry.as_ref().map(|_| slot));
        self.change(all.collect(), members)
    }

    /// Takes the checks that the controller calls `gone` out of the set in force, and puts `members` in it. One of these
    /// that is equal by value to one that leaves takes its slot with all that is in it.
    pub fn amend(&mut self, gone: &[CheckId], members: Vec<AcceptedCheck<P>>) -> SetChange<F> {
        let leaving = gone.iter().filter_map(|id| self.ids.remove(id)).collect();
        self.change(leaving, members)
    }

    /// Puts `members` in place of what is in the slots `leaving`.
    fn change(&mut self, leaving: Vec<u32>, members: Vec<AcceptedCheck<P>>) -> SetChange<F> {
        let (places, dropped) = self.places(leaving, &members);
        let mut change = SetChange { kept: Vec::new(), added: Vec::new(), dropped, ended: Vec::new() };
        // What leaves makes room before what is new takes it.
        for slot in &change.dropped {
            let entry = self.slots[*slot as usize].entry.take();
            let probes = entry.into_iter().flat_map(|entry| entry.probes);
            change.ended.extend(probes.filter_map(|probe| probe.in_flight));
            self.free.push(*slot);
        }
        for (place, member) in places.into_iter().zip(members) {
            let id = member.id;
            let slot = match place {
                Some(slot) => {
                    change.kept.push((slot, member.interval));
                    if let Some(entry) = self.entry_mut(slot) {
                        entry.rename(id, member.settled);
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
    pub fn entry(&self, slot: u32) -> Option<&ScheduledCheck<P, F>> {
        self.slots.get(slot as usize)?.entry.as_ref()
    }

    /// The check in a slot.
    pub fn entry_mut(&mut self, slot: u32) -> Option<&mut ScheduledCheck<P, F>> {
        self.slots.get_mut(slot as usize)?.entry.as_mut()
    }

    /// All checks.
    pub fn all(&self) -> impl Iterator<Item = &ScheduledCheck<P, F>> {
        self.slots.iter().filter_map(|place| place.entry.as_ref())
    }

    /// What the next probe in a slot is called.
    pub fn next_key(&self, slot: u32) -> ProbeId {
        ProbeId { slot, epoch: self.slots.get(slot as usize).map_or(0, |place| place.epoch.wrapping_add(1)) }
    }

    /// That probe has begun.
    pub fn advance(&mut self, key: ProbeId) {
        if let Some(place) = self.slots.get_mut(key.slot as usize) {
            place.epoch = key.epoch;
        }
    }

    /// The name of the probe that is at `index` among those of its check.
    pub fn key(&self, slot: u32, index: usize) -> Option<ProbeId> {
        let place = self.slots.get(slot as usize)?;
        let age = place.entry.as_ref()?.probes.len().checked_sub(index + 1)?;
        Some(ProbeId { slot, epoch: place.epoch.wrapping_sub(age as u32) })
    }

    /// The check of a probe, and which of its probes it is, if it is not told yet.
    pub fn find(&mut self, key: ProbeId) -> Option<(&mut ScheduledCheck<P, F>, usize)> {
        let place = self.slots.get_mut(key.slot as usize)?;
        let age = place.epoch.wrapping_sub(key.epoch) as usize;
        let entry = place.entry.as_mut()?;
        let index = entry.probes.len().checked_sub(age)?.checked_sub(1)?;
        Some((entry, index))
    }

    /// The slot of the check that the controller calls `id`.
    pub fn slot(&self, id: CheckId) -> Option<u32> {
        self.ids.get(&id).copied()
    }

    /// The slot of `leaving` that each of `members` has already, if any, and the slots of all others. Of equal checks, each
    /// keeps its own under its name: the controller counts by name what it has heard.
    fn places(&self, leaving: Vec<u32>, members: &[AcceptedCheck<P>]) -> (Vec<Option<u32>>, Vec<u32>) {
        let mut by_name: HashMap<CheckId, u32> =
            leaving.iter().filter_map(|slot| Some((self.entry(*slot)?.id, *slot))).collect();
        let own = |member: &AcceptedCheck<P>| {
            let slot = *by_name.get(&member.id)?;
            self.entry(slot).filter(|entry| entry.check == member.check)?;
            by_name.remove(&member.id)
        };
        let mut places: Vec<_> = members.iter().map(own).collect();
        let mut by_value: HashMap<&Check, Vec<u32>> = HashMap::with_capacity(by_name.len());
        for slot in leaving {
            if let Some(entry) = self.entry(slot).filter(|entry| by_name.contains_key(&entry.id)) {
                by_value.entry(&entry.check).or_default().push(slot);
            }
        }
        for (place, member) in places.iter_mut().zip(members).filter(|(place, _)| place.is_none()) {
            *place = by_value.get_mut(&member.check).and_then(Vec::pop);
        }
        let mut dropped: Vec<_> = by_value.into_values().flatten().collect();
        dropped.sort_unstable();
        (places, dropped)
    }

    fn insert(&mut self, member: AcceptedCheck<P>) -> u32 {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        if slot as usize == self.slots.len() {
            self.slots.push(TableSlot { epoch: 0, entry: None });
        }
        self.slots[slot as usize].entry = Some(ScheduledCheck::new(member));
        slot
    }
}
