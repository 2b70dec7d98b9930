//! The overrides that must be in force, and those that may be on disk. An override that was acknowledged as persisted must
//! survive any crash.

use std::collections::{BTreeMap, BTreeSet};

use maglev_core::health::BackendAction;
use maglev_core::overrides::{OverrideKind, Overrides};

use super::config_model::ConfigModel;

/// The target of an override.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum OverrideTarget {
    /// The state of a backend.
    Backend(usize),
    /// The weight of a backend in a pool of a frontend.
    Weight(usize, usize, usize),
}

/// The value of an override.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum OverrideValue {
    /// No override.
    #[default]
    None,
    /// The backend is paused.
    Paused,
    /// The backend is disabled.
    Disabled,
    /// Weight.
    Weight(u8),
}

/// All expected overrides.
#[derive(Debug, Default)]
pub struct ExpectedOverrides {
    /// Overrides in force.
    in_force: BTreeMap<OverrideTarget, OverrideValue>,
    /// Values that the disk may have instead.
    possible: BTreeMap<OverrideTarget, BTreeSet<OverrideValue>>,
    /// Requests without an answer.
    requested: BTreeMap<OverrideTarget, OverrideValue>,
}

impl ExpectedOverrides {
    /// Overrides in force.
    pub fn of(&self, target: OverrideTarget) -> OverrideValue {
        self.in_force.get(&target).copied().unwrap_or_default()
    }

    /// Requests an action on a backend. Returns `None` if a request for it is pending.
    pub fn request(&mut self, backend: usize, action: BackendAction) -> Option<OverrideTarget> {
        let target = OverrideTarget::Backend(backend);
        let now = self.of(target);
        let then = match (action, now) {
            (BackendAction::Pause, OverrideValue::None) => OverrideValue::Paused,
            (BackendAction::Disable, _) => OverrideValue::Disabled,
            (BackendAction::Resume, OverrideValue::Paused)
            | (BackendAction::Enable, OverrideValue::Disabled) => OverrideValue::None,
            (_, now) => now,
        };
        self.begin_request(target, then)
    }

    /// Requests a weight. Returns `None` if a request for it is pending.
    pub fn request_weight(
        &mut self,
        slot: (usize, usize, usize),
        weight: Option<u8>,
    ) -> Option<OverrideTarget> {
        self.begin_request(
            OverrideTarget::Weight(slot.0, slot.1, slot.2),
            weight.map_or(OverrideValue::None, OverrideValue::Weight),
        )
    }

    fn begin_request(&mut self, target: OverrideTarget, value: OverrideValue) -> Option<OverrideTarget> {
        if self.requested.contains_key(&target) {
            return None;
        }
        self.requested.insert(target, value);
        self.add_possible(target, value);
        Some(target)
    }

    fn add_possible(&mut self, target: OverrideTarget, value: OverrideValue) {
        let now = self.of(target);
        self.possible.entry(target).or_insert_with(|| BTreeSet::from([now])).insert(value);
    }

    /// Applies a request. `kept` means that this and all other overrides in force are on disk. Returns false if the request was
    /// not pending.
    pub fn apply(&mut self, target: OverrideTarget, kept: bool) -> bool {
        let Some(value) = self.requested.remove(&target) else { return false };
        self.in_force.insert(target, value);
        if kept {
            let requested = &self.requested;
            self.possible.retain(|target, _| requested.contains_key(target));
        }
        true
    }

    /// Removes a rejected request.
    pub fn reject(&mut self, target: OverrideTarget) {
        self.requested.remove(&target);
    }

    /// Forgets pending requests after a crash: each was applied, or was not.
    pub fn forget_requests(&mut self) {
        self.requested.clear();
    }

    /// Takes over the overrides that `maglevd` loaded from disk. Returns the changed ones, or a violation.
    pub fn load(&mut self, overrides: &Overrides) -> Result<Vec<OverrideTarget>, String> {
        let found: BTreeMap<_, _> = overrides
            .list()
            .filter_map(|o| {
                let backend = ConfigModel::number(&o.backend)?;
                Some(match (o.kind, &o.slot) {
                    (OverrideKind::Weight(weight), Some((frontend, pool))) => {
                        let slot = OverrideTarget::Weight(
                            ConfigModel::number(frontend)?,
                            ConfigModel::number(pool)?,
                            backend,
                        );
                        (slot, OverrideValue::Weight(weight))
                    }
                    (OverrideKind::Paused, _) => (OverrideTarget::Backend(backend), OverrideValue::Paused),
                    _ => (OverrideTarget::Backend(backend), OverrideValue::Disabled),
                })
            })
            .collect();
        let mut changed = Vec::new();
        let targets: BTreeSet<_> =
            self.in_force.keys().chain(self.possible.keys()).chain(found.keys()).copied().collect();
        for target in targets {
            let (is, was) = (found.get(&target).copied().unwrap_or_default(), self.of(target));
            let allowed = self.possible.get(&target).map_or(is == was, |all| all.contains(&is));
            if !allowed {
                return Err(format!("an override is lost: {target:?} was {was:?}, but the disk has {is:?}"));
            }
            if is != was {
                changed.push(target);
            }
        }
        self.possible.clear();
        self.in_force = found;
        Ok(changed)
    }
}
