//! The checks in force, each in a slot of its own, and what is remembered of each.

use std::collections::HashMap;
use std::time::Duration;

use maglev_ipc::{Check, CheckId, Outcome, Streak};

use crate::clock::Nanos;
use crate::probe::icmp::Ping;
use crate::probe::{Flight, Plan};
use crate::set::Member;

/// Names the check in a slot. What comes late for a check that is gone finds another epoch.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    /// The slot.
    pub slot: u32,
    /// How often the slot has changed hands.
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

/// One check in force.
#[derive(Debug)]
pub struct Held {
    /// What the controller calls it.
    pub id: CheckId,
    /// What is probed.
    pub check: Check,
    /// How.
    pub plan: Plan,
    /// Between the starts of two probes, before the jitter.
    pub interval: Duration,
    /// How many probes have started.
    pub seq: u64,
    /// When the newest probe started.
    pub started: Nanos,
    /// When that start was due: what the next one is counted from.
    pub slated: Nanos,
    /// When the next start is due.
    pub due: Nanos,
    /// Whether it is due and waits for its turn.
    pub ready: bool,
    /// The probe in flight.
    pub flight: Option<Flight>,
    /// The last echo request that was answered.
    pub answered: Option<Ping>,
    /// What came of the probes so far.
    pub history: History,
}

/// The verdicts on a check, as a controller that comes back wants them.
#[derive(Debug, Default)]
pub struct History {
    last: Option<Outcome>,
    passes: u64,
    known: u8,
}

impl History {
    /// Remembers an outcome, if it is a verdict.
    pub fn record(&mut self, outcome: &Outcome) {
        let Some(passed) = outcome.code.passed() else { return };
        self.passes = self.passes << 1 | u64::from(passed);
        self.known = (self.known + 1).min(64);
        self.last = Some(outcome.clone());
    }

    fn streak(&self, id: CheckId) -> Option<Streak> {
        let last = Outcome { check: id, ..self.last.clone()? };
        Some(Streak { last, passes: self.passes, known: self.known })
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
#[derive(Debug, Default)]
pub struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    ids: HashMap<CheckId, u32>,
}

#[derive(Debug, Default)]
struct Slot {
    epoch: u32,
    held: Option<Held>,
}

impl Table {
    /// Puts a new set in force. A check that is equal by value to one in force keeps its slot with all that is in
    /// it, its probe in flight included.
    pub fn replace(&mut self, members: Vec<Member>) -> Change {
        let (places, dropped) = self.places(&members);
        let mut change = Change { dropped, ..Change::default() };
        // What leaves makes room before what is new takes it.
        for slot in &change.dropped {
            self.clear(*slot);
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
    pub fn held(&self, slot: u32) -> Option<&Held> {
        self.slots.get(slot as usize)?.held.as_ref()
    }

    /// The check in a slot.
    pub fn held_mut(&mut self, slot: u32) -> Option<&mut Held> {
        self.slots.get_mut(slot as usize)?.held.as_mut()
    }

    /// The name of what is in a slot.
    pub fn key(&self, slot: u32) -> Key {
        Key { slot, epoch: self.slots.get(slot as usize).map_or(0, |slot| slot.epoch) }
    }

    /// Whether the check of that name is still in force.
    pub fn is_current(&self, key: Key) -> bool {
        self.key(key.slot) == key && self.held(key.slot).is_some()
    }

    /// The slot of the check that the controller calls `id`.
    pub fn slot(&self, id: CheckId) -> Option<u32> {
        self.ids.get(&id).copied()
    }

    /// How many connections are open.
    pub fn connections(&self) -> u64 {
        let open = |held: &&Held| matches!(held.flight, Some(Flight::Stream(_)));
        self.slots.iter().filter_map(|slot| slot.held.as_ref()).filter(open).count() as u64
    }

    /// What is known of the checks in `slots`.
    pub fn streaks(&self, slots: impl Iterator<Item = u32>) -> impl Iterator<Item = Streak> {
        slots.filter_map(|slot| self.held(slot)).filter_map(|held| held.history.streak(held.id))
    }

    /// The slot that each of `members` has already, if any, and the slots of all others.
    fn places(&self, members: &[Member]) -> (Vec<Option<u32>>, Vec<u32>) {
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

    fn clear(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        place.held = None;
        place.epoch = place.epoch.wrapping_add(1);
        self.free.push(slot);
    }

    fn insert(&mut self, member: Member) -> u32 {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        if slot as usize == self.slots.len() {
            self.slots.push(Slot::default());
        }
        let Member { id, interval, check, plan } = member;
        self.slots[slot as usize].held = Some(Held {
            id,
            check,
            plan,
            interval,
            seq: 0,
            started: 0,
            slated: 0,
            due: 0,
            ready: false,
            flight: None,
            answered: None,
            history: History::default(),
        });
        slot
    }
}
