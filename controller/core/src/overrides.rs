//! Operators' overrides of the configuration. They survive reloads and restarts.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use core::ops::RangeInclusive;
use core::time::Duration;

pub use maglev_ipc::outcome::sanitize;

use crate::Name;
use crate::config::Config;
use crate::time::WallTime;

/// Largest number of overrides.
pub const MAX: usize = 100_000;

/// Longest reason, in bytes.
pub const MAX_REASON: usize = 200;

/// Longest name of an operator, in bytes. A longer one is truncated.
pub const MAX_WHO: usize = 128;

/// Bounds of an override's lifetime.
pub const LIFETIMES: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 60 * 60);

/// Metadata of an override, for the operator who finds it in force.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OverrideMeta {
    /// Requester.
    pub who: String,
    /// Time of the request.
    pub at: WallTime,
    /// Reason; may be empty.
    pub reason: String,
    /// Time of its expiry, if any.
    pub expires: Option<WallTime>,
}

/// Kind of an override.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OverrideKind {
    /// The backend is disabled.
    Disabled,
    /// The backend is enabled, although the configuration disables it.
    Enabled,
    /// The backend is not probed.
    Paused,
    /// The backend has this weight, 0 to 100, in one pool.
    Weight(u8),
}

impl OverrideKind {
    /// Names of all kinds, as [`Self::as_str`] returns them.
    pub const NAMES: [&str; 4] = ["disabled", "enabled", "paused", "weight"];

    /// Returns the name that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Paused => "paused",
            Self::Weight(_) => "weight",
        }
    }
}

/// One override.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// The backend.
    pub backend: Name,
    /// Frontend and pool of a weight; otherwise `None`.
    pub slot: Option<(Name, Name)>,
    /// Its kind.
    pub kind: OverrideKind,
    /// Its metadata.
    pub meta: Arc<OverrideMeta>,
}

impl Override {
    /// Reports whether its item is missing from the configuration.
    #[must_use]
    pub fn is_dangling(&self, config: &Config) -> bool {
        let Some((frontend, pool)) = &self.slot else { return !config.backends.contains_key(&self.backend) };
        let there = config.frontends.get(frontend).is_some_and(|frontend| {
            frontend.pools.iter().any(|p| p.name == *pool && p.backends.contains_key(&self.backend))
        });
        !there
    }

    /// Reports whether it has expired.
    #[must_use]
    pub fn is_expired(&self, now: WallTime) -> bool {
        self.meta.expires.is_some_and(|expires| expires <= now)
    }
}

/// A frontend, a pool of it, and a backend of that pool.
pub(crate) type SlotPath = (Name, Name, Name);

/// All overrides. Clones share the metadata.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Overrides {
    /// Enabled and disabled backends.
    pub(crate) enabled: BTreeMap<Name, (bool, Arc<OverrideMeta>)>,
    /// Paused backends. None of them is disabled by an override too.
    pub(crate) paused: BTreeMap<Name, Arc<OverrideMeta>>,
    pub(crate) weights: BTreeMap<SlotPath, (u8, Arc<OverrideMeta>)>,
}

impl Overrides {
    /// Returns the number of overrides.
    #[must_use]
    pub fn len(&self) -> usize {
        self.enabled.len() + self.paused.len() + self.weights.len()
    }

    /// Reports whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an override, and replaces one of the same kind for the same item. `Disabled` replaces `Paused` in either order.
    pub fn insert(&mut self, added: Override) {
        let Override { backend, slot, kind, meta } = added;
        match (kind, slot) {
            (OverrideKind::Weight(weight), Some((frontend, pool))) => {
                self.weights.insert((frontend, pool, backend), (weight, meta));
            }
            // A weight without a pool is invalid.
            (OverrideKind::Weight(_), None) => {}
            (OverrideKind::Disabled, _) => {
                self.paused.remove(&backend);
                self.enabled.insert(backend, (false, meta));
            }
            (OverrideKind::Enabled, _) => _ = self.enabled.insert(backend, (true, meta)),
            (OverrideKind::Paused, _) if self.enabled.get(&backend).is_some_and(|(enabled, _)| !enabled) => {}
            (OverrideKind::Paused, _) => _ = self.paused.insert(backend, meta),
        }
    }

    /// Reports whether `added` replaces another override.
    pub(crate) fn replaces(&self, added: &Override) -> bool {
        match (added.kind, &added.slot) {
            (OverrideKind::Weight(_), Some((frontend, pool))) => {
                let path = (Arc::clone(frontend), Arc::clone(pool), Arc::clone(&added.backend));
                self.weights.contains_key(&path)
            }
            (OverrideKind::Weight(_), None) => true,
            (OverrideKind::Disabled, _) => {
                self.enabled.contains_key(&added.backend) || self.paused.contains_key(&added.backend)
            }
            (OverrideKind::Enabled, _) => self.enabled.contains_key(&added.backend),
            (OverrideKind::Paused, _) => {
                let out = self.enabled.get(&added.backend).is_some_and(|(enabled, _)| !enabled);
                out || self.paused.contains_key(&added.backend)
            }
        }
    }

    /// Removes an override.
    pub(crate) fn remove(&mut self, gone: &Override) {
        match (gone.kind, &gone.slot) {
            (OverrideKind::Weight(_), Some((frontend, pool))) => {
                let path = (Arc::clone(frontend), Arc::clone(pool), Arc::clone(&gone.backend));
                self.weights.remove(&path);
            }
            (OverrideKind::Weight(_), None) => {}
            (OverrideKind::Disabled | OverrideKind::Enabled, _) => _ = self.enabled.remove(&gone.backend),
            (OverrideKind::Paused, _) => _ = self.paused.remove(&gone.backend),
        }
    }

    /// Returns the overrides of backends by name, then the weights by frontend, pool and backend.
    pub fn list(&self) -> impl Iterator<Item = Override> {
        // A backend can be enabled by one override and paused by another.
        let mut paused = self.paused.iter().map(paused).peekable();
        let mut enabled = self.enabled.iter().map(enabled).peekable();
        let backends = core::iter::from_fn(move || match (enabled.peek(), paused.peek()) {
            (Some(e), Some(p)) if e.backend <= p.backend => enabled.next(),
            (_, Some(_)) => paused.next(),
            (_, None) => enabled.next(),
        });
        backends.chain(self.weights.iter().map(weight))
    }

    /// Returns the overrides of one backend, without weights.
    pub fn of_backend(&self, name: &str) -> impl Iterator<Item = Override> {
        let enabled = self.enabled.get_key_value(name).map(enabled);
        let paused = self.paused.get_key_value(name).map(paused);
        enabled.into_iter().chain(paused)
    }
}

fn paused((backend, meta): (&Name, &Arc<OverrideMeta>)) -> Override {
    Override { backend: Arc::clone(backend), slot: None, kind: OverrideKind::Paused, meta: Arc::clone(meta) }
}

fn enabled((backend, (enabled, meta)): (&Name, &(bool, Arc<OverrideMeta>))) -> Override {
    let kind = if *enabled { OverrideKind::Enabled } else { OverrideKind::Disabled };
    Override { backend: Arc::clone(backend), slot: None, kind, meta: Arc::clone(meta) }
}

fn weight(((frontend, pool, backend), (weight, meta)): (&SlotPath, &(u8, Arc<OverrideMeta>))) -> Override {
    let slot = Some((Arc::clone(frontend), Arc::clone(pool)));
    Override {
        backend: Arc::clone(backend),
        slot,
        kind: OverrideKind::Weight(*weight),
        meta: Arc::clone(meta),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn of(backend: &str, kind: OverrideKind) -> Override {
        Override { backend: backend.into(), slot: None, kind, meta: Arc::default() }
    }

    #[test]
    fn list_is_sorted_by_name_weights_last() {
        let mut all = Overrides::default();
        let weight =
            Override { slot: Some(("web".into(), "first".into())), ..of("a", OverrideKind::Weight(7)) };
        for one in [
            weight,
            of("c", OverrideKind::Paused),
            of("a", OverrideKind::Paused),
            of("b", OverrideKind::Disabled),
            of("a", OverrideKind::Enabled),
        ] {
            all.insert(one);
        }
        let listed: Vec<_> = all.list().map(|o| (o.backend, o.kind)).collect();
        let expected = [
            ("a", OverrideKind::Enabled),
            ("a", OverrideKind::Paused),
            ("b", OverrideKind::Disabled),
            ("c", OverrideKind::Paused),
            ("a", OverrideKind::Weight(7)),
        ];
        assert_eq!(listed, expected.map(|(name, kind)| (Name::from(name), kind)));
        assert_eq!(all.len(), listed.len());
        assert_eq!(all.of_backend("a").count(), 2);
        for one in all.clone().list() {
            all.remove(&one);
        }
        assert!(all.is_empty());
    }

    #[test]
    fn disabled_replaces_paused_in_either_order() {
        for order in
            [[OverrideKind::Paused, OverrideKind::Disabled], [OverrideKind::Disabled, OverrideKind::Paused]]
        {
            let mut all = Overrides::default();
            for kind in order {
                all.insert(of("a", kind));
            }
            assert_eq!(all.list().map(|o| o.kind).collect::<Vec<_>>(), [OverrideKind::Disabled]);
        }
    }
}
