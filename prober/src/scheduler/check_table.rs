//! The active checks, one per slot.

use std::collections::HashMap;
use std::time::Duration;

use maglev_ipc::{Check, CheckId};

use super::scheduled_check::{AcceptedCheck, ScheduledCheck};
use crate::probe_id::ProbeId;

/// Effect of a new set, or of an amendment to the active one.
#[derive(Debug)]
pub struct SetChange<F> {
    /// Slots whose check continues under a new identifier, with the requested interval.
    pub kept: Vec<(u32, Duration)>,
    /// Those of them that have another identifier now: the controller may know nothing of their verdicts.
    pub renamed: Vec<u32>,
    /// Slots of new checks.
    pub added: Vec<u32>,
    /// Slots of removed checks.
    pub dropped: Vec<u32>,
    /// Probes of removed checks that were in flight.
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
    /// Activates a new set. A check equal by value to an active one keeps its slot and state, with its probes in flight.
    pub fn replace(&mut self, checks: Vec<AcceptedCheck<P>>) -> SetChange<F> {
        self.ids.clear();
        let all = (0..).zip(&self.slots).filter_map(|(slot, place)| place.entry.as_ref().map(|_| slot));
        self.change(all.collect(), checks)
    }

    /// Removes the checks `removed` from the active set and adds `checks`. An added check equal by value to a removed one
    /// takes over its slot and state.
    pub fn amend(&mut self, removed: &[CheckId], checks: Vec<AcceptedCheck<P>>) -> SetChange<F> {
        let leaving = removed.iter().filter_map(|id| self.ids.remove(id)).collect();
        self.change(leaving, checks)
    }

    /// Replaces the checks in the slots `leaving` by `checks`.
    fn change(&mut self, leaving: Vec<u32>, checks: Vec<AcceptedCheck<P>>) -> SetChange<F> {
        let (reused, dropped) = self.match_slots(leaving, &checks);
        let mut change = SetChange {
            kept: Vec::new(),
            renamed: Vec::new(),
            added: Vec::new(),
            dropped,
            ended: Vec::new(),
        };
        // Free slots first, so that new checks can take them.
        for slot in &change.dropped {
            let entry = self.slots[*slot as usize].entry.take();
            let probes = entry.into_iter().flat_map(|entry| entry.probes);
            change.ended.extend(probes.filter_map(|probe| probe.in_flight));
            self.free.push(*slot);
        }
        for (slot, check) in reused.into_iter().zip(checks) {
            let id = check.id;
            let slot = match slot {
                Some(slot) => {
                    change.kept.push((slot, check.interval));
                    if let Some(entry) = self.entry_mut(slot) {
                        if entry.id != id {
                            change.renamed.push(slot);
                        }
                        entry.change_id(id, check.stable_after);
                    }
                    slot
                }
                None => {
                    let slot = self.insert(check);
                    change.added.push(slot);
                    slot
                }
            };
            self.ids.insert(id, slot);
        }
        change
    }

    /// Returns the check in a slot.
    pub fn entry(&self, slot: u32) -> Option<&ScheduledCheck<P, F>> {
        self.slots.get(slot as usize)?.entry.as_ref()
    }

    /// Returns the check in a slot.
    pub fn entry_mut(&mut self, slot: u32) -> Option<&mut ScheduledCheck<P, F>> {
        self.slots.get_mut(slot as usize)?.entry.as_mut()
    }

    /// Returns all checks.
    pub fn entries(&self) -> impl Iterator<Item = &ScheduledCheck<P, F>> {
        self.slots.iter().filter_map(|place| place.entry.as_ref())
    }

    /// Returns the identity of the next probe in a slot.
    pub fn next_probe_id(&self, slot: u32) -> ProbeId {
        ProbeId { slot, epoch: self.slots.get(slot as usize).map_or(0, |place| place.epoch.wrapping_add(1)) }
    }

    /// Records that this probe has started.
    pub fn set_newest(&mut self, id: ProbeId) {
        if let Some(place) = self.slots.get_mut(id.slot as usize) {
            place.epoch = id.epoch;
        }
    }

    /// Returns the identity of the probe at `index` among those of its check.
    pub fn probe_id(&self, slot: u32, index: usize) -> Option<ProbeId> {
        let place = self.slots.get(slot as usize)?;
        let age = place.entry.as_ref()?.probes.len().checked_sub(index + 1)?;
        Some(ProbeId { slot, epoch: place.epoch.wrapping_sub(age as u32) })
    }

    /// Returns the check of an unreported probe, and the probe's index.
    pub fn find(&mut self, id: ProbeId) -> Option<(&mut ScheduledCheck<P, F>, usize)> {
        let place = self.slots.get_mut(id.slot as usize)?;
        let age = place.epoch.wrapping_sub(id.epoch) as usize;
        let entry = place.entry.as_mut()?;
        let index = entry.probes.len().checked_sub(age)?.checked_sub(1)?;
        Some((entry, index))
    }

    /// Returns the slot of the check `id`.
    pub fn slot(&self, id: CheckId) -> Option<u32> {
        self.ids.get(&id).copied()
    }

    /// Returns the slot of `leaving` that each of `checks` reuses, and the slots that none reuses. Checks that are equal by
    /// value each keep the slot of their own identifier, because the controller counts outcomes by identifier.
    fn match_slots(&self, leaving: Vec<u32>, checks: &[AcceptedCheck<P>]) -> (Vec<Option<u32>>, Vec<u32>) {
        let mut by_id: HashMap<CheckId, u32> =
            leaving.iter().filter_map(|slot| Some((self.entry(*slot)?.id, *slot))).collect();
        let same_id = |check: &AcceptedCheck<P>| {
            let slot = *by_id.get(&check.id)?;
            self.entry(slot).filter(|entry| entry.check == check.check)?;
            by_id.remove(&check.id)
        };
        let mut reused: Vec<_> = checks.iter().map(same_id).collect();
        let mut by_value: HashMap<&Check, Vec<u32>> = HashMap::with_capacity(by_id.len());
        for slot in leaving {
            if let Some(entry) = self.entry(slot).filter(|entry| by_id.contains_key(&entry.id)) {
                by_value.entry(&entry.check).or_default().push(slot);
            }
        }
        for (slot, check) in reused.iter_mut().zip(checks).filter(|(slot, _)| slot.is_none()) {
            *slot = by_value.get_mut(&check.check).and_then(Vec::pop);
        }
        let mut dropped: Vec<_> = by_value.into_values().flatten().collect();
        dropped.sort_unstable();
        (reused, dropped)
    }

    fn insert(&mut self, check: AcceptedCheck<P>) -> u32 {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        if slot as usize == self.slots.len() {
            self.slots.push(TableSlot { epoch: 0, entry: None });
        }
        self.slots[slot as usize].entry = Some(ScheduledCheck::new(check));
        slot
    }
}
