//! Expected overrides, tracked from the successful commands.

use std::collections::BTreeMap;
use std::time::Duration;

use maglev_core::Name;
use maglev_core::config::Config;
use maglev_core::health::{BackendAction, Health};
use maglev_core::overrides::OverrideKind;
use maglev_core::time::WallTime;
use maglev_core::view::View;

/// Tolerance for the delay of an expiry.
const LATE: Duration = Duration::from_millis(10);

#[derive(Default)]
pub struct ExpectedOverrides {
    paused: BTreeMap<Name, Option<WallTime>>,
    enabled: BTreeMap<Name, (bool, Option<WallTime>)>,
    weights: BTreeMap<(Name, Name, Name), (u8, Option<WallTime>)>,
}

impl ExpectedOverrides {
    /// Records a successful action on a backend.
    pub fn record_action(
        &mut self,
        name: Name,
        action: BackendAction,
        expires: Option<WallTime>,
        config: &Config,
    ) {
        let configured = config.backends.get(&name).map(|b| b.enabled);
        let was_out = self.is_disabled(&name, configured);
        match (action, configured) {
            (BackendAction::Pause, _) => _ = self.paused.insert(name, expires),
            (BackendAction::Resume, _) => _ = self.paused.remove(&name),
            (BackendAction::Disable, _) => {
                self.paused.remove(&name);
                self.enabled.insert(name, (false, expires));
            }
            (BackendAction::Enable, None) => _ = self.enabled.remove(&name),
            (BackendAction::Enable, Some(configured)) => {
                if was_out {
                    self.paused.remove(&name);
                }
                if configured {
                    self.enabled.remove(&name);
                } else {
                    self.enabled.insert(name, (true, expires));
                }
            }
        }
    }

    /// Records a successful change of a weight.
    pub fn record_weight(&mut self, path: (Name, Name, Name), weight: Option<u8>, expires: Option<WallTime>) {
        match weight {
            Some(weight) => _ = self.weights.insert(path, (weight, expires)),
            None => _ = self.weights.remove(&path),
        }
    }

    pub fn weight(&self, path: &(Name, Name, Name)) -> Option<u8> {
        self.weights.get(path).map(|(weight, _)| *weight)
    }

    fn is_disabled(&self, name: &Name, configured: Option<bool>) -> bool {
        self.enabled.get(name).map(|(enabled, _)| *enabled).or(configured) == Some(false)
    }

    /// Checks that overrides expire exactly in time, and that every backend follows them.
    pub fn check(&mut self, view: &View, config: &Config) {
        let now = view.at.wall;
        if self.expiries().any(|at| at <= now && now - at < LATE) {
            return;
        }
        let lasts = |expires: &Option<WallTime>| expires.is_none_or(|at| at > now);
        self.paused.retain(|_, expires| lasts(expires));
        self.enabled.retain(|_, (_, expires)| lasts(expires));
        self.weights.retain(|_, (_, expires)| lasts(expires));
        for backend in &view.backends {
            let out = self.is_disabled(&backend.name, Some(config.backends[&backend.name].enabled));
            let paused = self.paused.contains_key(&backend.name);
            assert_eq!(backend.health == Health::Disabled, out, "{backend:?}");
            assert_eq!(backend.health == Health::Paused, paused && !out, "{backend:?}");
        }
        let mut kept = 0;
        for listed in view.overrides.list() {
            let (expires, name) = (listed.meta.expires, listed.backend);
            let lines = match (listed.kind, listed.slot) {
                (OverrideKind::Weight(weight), Some((frontend, pool))) => {
                    self.weights.get(&(frontend, pool, name)) == Some(&(weight, expires))
                }
                (OverrideKind::Paused, _) => self.paused.get(&name) == Some(&expires),
                (kind, _) => self.enabled.get(&name) == Some(&(kind == OverrideKind::Enabled, expires)),
            };
            assert!(lines, "{:?}", view.overrides);
            kept += 1;
        }
        assert_eq!(kept, self.all().count(), "{:?}", view.overrides);
    }

    fn all(&self) -> impl Iterator<Item = &Option<WallTime>> {
        let (enabled, weights) = (self.enabled.values(), self.weights.values());
        self.paused.values().chain(enabled.map(|(_, e)| e)).chain(weights.map(|(_, e)| e))
    }

    fn expiries(&self) -> impl Iterator<Item = WallTime> {
        self.all().filter_map(|expires| *expires)
    }
}
