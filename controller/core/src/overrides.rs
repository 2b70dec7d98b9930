//! In what operators have overridden the configuration: what outlives a reload and a restart.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use core::ops::RangeInclusive;
use core::time::Duration;

pub use maglev_ipc::outcome::sanitize;

use crate::Name;
use crate::config::Config;
use crate::time::WallTime;

/// How many overrides there are at most.
pub const MAX: usize = 100_000;

/// The longest reason, in bytes.
pub const MAX_REASON: usize = 200;

/// The longest name of an operator, in bytes. What is longer is cut.
pub const MAX_WHO: usize = 128;

/// How long an override may last that ends by itself.
pub const LIFETIMES: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 60 * 60);

/// What goes with an override, for whoever finds it in force at night.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OverrideMeta {
    /// Who asked for it.
    pub who: String,
    /// When.
    pub at: WallTime,
    /// Why; may be empty.
    pub reason: String,
    /// When it is undone by itself; `None` is never.
    pub expires: Option<WallTime>,
}

/// What an override says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OverrideKind {
    /// The backend is out.
    Disabled,
    /// The backend is in, although the configuration has it disabled.
    Enabled,
    /// The backend is not probed.
    Paused,
    /// The backend has this weight, 0 to 100, in one pool.
    Weight(u8),
}

impl OverrideKind {
    /// Every kind, by the words of [`Self::as_str`].
    pub const NAMES: [&str; 4] = ["disabled", "enabled", "paused", "weight"];

    /// The kind as users see it.
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
    /// The frontend and the pool; for a weight only.
    pub slot: Option<(Name, Name)>,
    /// What it says.
    pub kind: OverrideKind,
    /// Who, when, why, and for how long.
    pub meta: Arc<OverrideMeta>,
}

impl Override {
    /// Whether what it is about is not in the configuration.
    #[must_use]
    pub fn is_dangling(&self, config: &Config) -> bool {
        let Some((frontend, pool)) = &self.slot else { return !config.backends.contains_key(&self.backend) };
        let there = config.frontends.get(frontend).is_some_and(|frontend| {
            frontend.pools.iter().any(|p| p.name == *pool && p.backends.contains_key(&self.backend))
        });
        !there
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_expired(&self, now: WallTime) -> bool {
        self.meta.expires.is_some_and(|expires| expires <= now)
    }
}

/// A frontend, a pool of it, and a backend of that.
pub(crate) type Path = (Name, Name, Name);

/// Every override. Its clones share the notes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Overrides {
    /// Backends that are in, or out, whatever the configuration says.
    pub(crate) enabled: BTreeMap<Name, (bool, Arc<OverrideMeta>)>,
    /// Backends that are not probed. None of them is out by an override too.
    pub(crate) paused: BTreeMap<Name, Arc<OverrideMeta>>,
    pub(crate) weights: BTreeMap<Path, (u8, Arc<OverrideMeta>)>,
}

impl Overrides {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.enabled.len() + self.paused.len() + self.weights.len()
    }

    /// Whether the configuration holds as it stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds one, in place of any of the same kind about the same thing. To be out replaces a pause, whichever came
    /// first.
    pub fn insert(&mut self, added: Override) {
        let Override { backend, slot, kind, meta } = added;
        match (kind, slot) {
            (OverrideKind::Weight(weight), Some((frontend, pool))) => {
                self.weights.insert((frontend, pool, backend), (weight, meta));
            }
            // Of no pool: there is no such thing.
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

    /// Whether `added` takes the place of another.
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

    /// Takes one away.
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

    /// Those of backends by name, then those of weights by frontend, pool and backend.
    pub fn list(&self) -> impl Iterator<Item = Override> {
        // A backend can be in by one override and paused by another.
        let mut paused = self.paused.iter().map(paused).peekable();
        let mut enabled = self.enabled.iter().map(enabled).peekable();
        let backends = core::iter::from_fn(move || match (enabled.peek(), paused.peek()) {
            (Some(e), Some(p)) if e.backend <= p.backend => enabled.next(),
            (_, Some(_)) => paused.next(),
            (_, None) => enabled.next(),
        });
        backends.chain(self.weights.iter().map(weight))
    }

    /// Those of one backend, weights apart.
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

fn weight(((frontend, pool, backend), (weight, meta)): (&Path, &(u8, Arc<OverrideMeta>))) -> Override {
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
    fn they_are_listed_by_name_and_weights_last() {
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
    fn who_is_out_is_not_paused() {
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
