//! What operators want, and what may be on the disk: whatever they were told is kept has to be there after any crash.

use std::collections::{BTreeMap, BTreeSet};

use maglev_core::health::BackendAction;
use maglev_core::overrides::{OverrideKind, Overrides};

use super::shape::Shape;

/// What can be overridden.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// A backend's state.
    Backend(usize),
    /// The weight of a backend in a pool of a frontend.
    Weight(usize, usize, usize),
}

/// What it is overridden by.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Wish {
    /// Nothing.
    #[default]
    None,
    /// The backend is not probed.
    Paused,
    /// The backend is out.
    Disabled,
    /// This weight.
    Weight(u8),
}

/// All wishes.
#[derive(Debug, Default)]
pub struct Wishes {
    /// What is in force.
    force: BTreeMap<Subject, Wish>,
    /// What may be on the disk instead.
    possible: BTreeMap<Subject, BTreeSet<Wish>>,
    /// What was asked and is not answered yet.
    asked: BTreeMap<Subject, Wish>,
}

impl Wishes {
    /// What is in force.
    pub fn of(&self, subject: Subject) -> Wish {
        self.force.get(&subject).copied().unwrap_or_default()
    }

    /// What an action makes of a backend; `None` if it is not asked twice at a time.
    pub fn ask(&mut self, backend: usize, action: BackendAction) -> Option<Subject> {
        let subject = Subject::Backend(backend);
        let now = self.of(subject);
        let then = match (action, now) {
            (BackendAction::Pause, Wish::None) => Wish::Paused,
            (BackendAction::Disable, _) => Wish::Disabled,
            (BackendAction::Resume, Wish::Paused) | (BackendAction::Enable, Wish::Disabled) => Wish::None,
            (_, now) => now,
        };
        self.begin(subject, then)
    }

    /// Asks for a weight; `None` if one is asked for already.
    pub fn weigh(&mut self, slot: (usize, usize, usize), weight: Option<u8>) -> Option<Subject> {
        self.begin(Subject::Weight(slot.0, slot.1, slot.2), weight.map_or(Wish::None, Wish::Weight))
    }

    fn begin(&mut self, subject: Subject, wish: Wish) -> Option<Subject> {
        if self.asked.contains_key(&subject) {
            return None;
        }
        self.asked.insert(subject, wish);
        self.may_be(subject, wish);
        Some(subject)
    }

    fn may_be(&mut self, subject: Subject, wish: Wish) {
        let now = self.of(subject);
        self.possible.entry(subject).or_insert_with(|| BTreeSet::from([now])).insert(wish);
    }

    /// It is done, and on the disk if `kept`; then so is everything else that is in force. Says whether it was still asked.
    pub fn done(&mut self, subject: Subject, kept: bool) -> bool {
        let Some(wish) = self.asked.remove(&subject) else { return false };
        self.force.insert(subject, wish);
        if kept {
            let asked = &self.asked;
            self.possible.retain(|subject, _| asked.contains_key(subject));
        }
        true
    }

    /// It was refused.
    pub fn refused(&mut self, subject: Subject) {
        self.asked.remove(&subject);
    }

    /// `maglevd` is gone: what was asked was done, or was not.
    pub fn lost(&mut self) {
        self.asked.clear();
    }

    /// `maglevd` has begun with what it found on the disk. What has changed by that, or what is wrong with it.
    pub fn found(&mut self, overrides: &Overrides) -> Result<Vec<Subject>, String> {
        let found: BTreeMap<_, _> = overrides
            .list()
            .filter_map(|o| {
                let backend = Shape::number(&o.backend)?;
                Some(match (o.kind, &o.slot) {
                    (OverrideKind::Weight(weight), Some((frontend, pool))) => {
                        let slot = Subject::Weight(Shape::number(frontend)?, Shape::number(pool)?, backend);
                        (slot, Wish::Weight(weight))
                    }
                    (OverrideKind::Paused, _) => (Subject::Backend(backend), Wish::Paused),
                    _ => (Subject::Backend(backend), Wish::Disabled),
                })
            })
            .collect();
        let mut changed = Vec::new();
        let subjects: BTreeSet<_> =
            self.force.keys().chain(self.possible.keys()).chain(found.keys()).copied().collect();
        for subject in subjects {
            let (is, was) = (found.get(&subject).copied().unwrap_or_default(), self.of(subject));
            let allowed = self.possible.get(&subject).map_or(is == was, |all| all.contains(&is));
            if !allowed {
                return Err(format!("an override is lost: {subject:?} was {was:?}, and the disk has {is:?}"));
            }
            if is != was {
                changed.push(subject);
            }
        }
        self.possible.clear();
        self.force = found;
        Ok(changed)
    }
}
