//! Notes on a plan: what a reload changes besides VPP's present state, and what it leaves there.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use maglev_time::TextDuration;

use super::operate::slot_subject;
use super::{Input, State};
use crate::Name;
use crate::config::Config;
use crate::dataplane::VipKey;
use crate::health::Health;
use crate::overrides::{Override, OverrideKind};
use crate::time::Now;

/// Number of names that a note lists.
const LISTED: usize = 10;

/// A note on a plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlanNote {
    /// Backends whose health is unknown from then on, so that steps follow once they are probed.
    Unknown(Vec<Name>),
    /// Frontends for which VPP keeps its weights until their backends are known.
    Held(Vec<Name>),
    /// Servers that leave a frontend, and keep their weight in VPP until a new one is up.
    Leaving {
        /// The frontend.
        frontend: Name,
        /// The servers.
        servers: Vec<IpAddr>,
        /// The longest time for which they stay.
        longest: Duration,
    },
    /// An override whose object leaves the configuration.
    OverrideLost {
        /// The override.
        lost: Override,
        /// Backends that have the address of the override's backend, and are not overridden: a rename ends maintenance.
        successors: Vec<Name>,
    },
    /// A dangling override whose object comes back.
    OverrideRegained(Override),
    /// VIPs in VPP that no frontend has, and that stay there.
    Foreign(Vec<VipKey>),
}

impl fmt::Display for PlanNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(names) => {
                write!(f, "unknown until they are probed, then further steps: {}", list(names))
            }
            Self::Held(names) => {
                write!(f, "VPP's weights stay until the backends are known: {}", list(names))
            }
            Self::Leaving { frontend, servers, longest } => write!(
                f,
                "servers that leave {frontend} stay in VPP until a new one is up, for {} at most: {}",
                TextDuration(*longest),
                list(servers)
            ),
            Self::OverrideLost { lost, successors } => {
                write!(
                    f,
                    "override `{}` has no effect any more: {} is gone",
                    lost.kind.as_str(),
                    target(lost)
                )?;
                if successors.is_empty() {
                    Ok(())
                } else {
                    write!(f, "; {} has its address, and no override", list(successors))
                }
            }
            Self::OverrideRegained(back) => {
                write!(f, "override `{}` has effect again: {} is back", back.kind.as_str(), target(back))
            }
            Self::Foreign(vips) => write!(f, "VIPs of no frontend that stay in VPP: {}", list(vips)),
        }
    }
}

/// Returns the object of an override.
fn target(one: &Override) -> String {
    match &one.slot {
        Some((frontend, pool)) => slot_subject([frontend, pool, &one.backend]),
        None => format!("backend {}", one.backend),
    }
}

/// Returns the first names, and the number of the others.
fn list<T: fmt::Display>(names: &[T]) -> String {
    let shown: Vec<_> = names.iter().take(LISTED).map(|name| format!("{name}")).collect();
    match names.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl State {
    /// Returns the notes on a reload.
    #[must_use]
    pub fn reload_notes(&self, config: &Arc<Config>, now: Now) -> Vec<PlanNote> {
        let mut trial = self.clone();
        trial.handle(Input::Reload(Arc::clone(config)), now, &mut Vec::new());
        self.notes_on(&trial)
    }

    /// Returns a note on the VIPs in VPP that no frontend has.
    pub(super) fn foreign_note(&self) -> Option<PlanNote> {
        let found = self.observed.fresh()?.vips.keys().copied();
        let foreign: Vec<_> = found.filter(|vip| !self.frontend_by_vip.contains_key(vip)).collect();
        (!foreign.is_empty()).then_some(PlanNote::Foreign(foreign))
    }

    /// Returns the notes on a reload that led to the state `after`.
    pub(super) fn notes_on(&self, after: &Self) -> Vec<PlanNote> {
        let mut notes = Vec::new();
        let was_known = |name: &Name| {
            let before = self.backends.search(|backend| backend.name.cmp(name));
            before.is_none_or(|index| self.backends[index].tracker.health() != Health::Unknown)
        };
        let unknown = after.backends.iter().filter(|backend| backend.tracker.health() == Health::Unknown);
        let unknown: Vec<_> = unknown.map(|b| Arc::clone(&b.name)).filter(was_known).collect();
        let was_held = |name: &Name| {
            let before = self.frontends.search(|frontend| frontend.name.cmp(name));
            before.is_some_and(|index| self.frontends[index].hold.is_some())
        };
        let held = after.frontends.iter().filter(|frontend| frontend.hold.is_some());
        let held: Vec<_> = held.map(|f| Arc::clone(&f.name)).filter(|name| !was_held(name)).collect();
        if !unknown.is_empty() {
            notes.push(PlanNote::Unknown(unknown));
        }
        if !held.is_empty() {
            notes.push(PlanNote::Held(held));
        }
        notes.extend(after.frontends.iter().filter(|f| !f.leaving.is_empty()).map(|f| PlanNote::Leaving {
            frontend: Arc::clone(&f.name),
            servers: f.leaving.iter().map(|server| server.address).collect(),
            longest: after.config.lb.startup_max_delay,
        }));
        notes.extend(self.override_notes(&after.config));
        notes
    }

    /// Returns the notes on a reload that concern overrides.
    #[must_use]
    pub fn override_notes(&self, config: &Config) -> Vec<PlanNote> {
        let by_address = self.successors(config);
        let note = |one: Override| match (one.is_dangling(&self.config), one.is_dangling(config)) {
            (false, true) => {
                let address = self.config.backends.get(&one.backend).map(|backend| backend.address);
                let is_taken_out = matches!(one.kind, OverrideKind::Disabled | OverrideKind::Paused);
                let successors =
                    address.filter(|_| is_taken_out).and_then(|address| by_address.get(&address));
                Some(PlanNote::OverrideLost {
                    lost: one,
                    successors: successors.cloned().unwrap_or_default(),
                })
            }
            (true, false) => Some(PlanNote::OverrideRegained(one)),
            _ => None,
        };
        self.overrides.list().filter_map(note).collect()
    }

    /// Returns the enabled backends by address that are new in `config`, and that no override takes out.
    fn successors(&self, config: &Config) -> BTreeMap<IpAddr, Vec<Name>> {
        let mut by_address: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, backend) in
            config.backends.iter().filter(|(name, _)| !self.config.backends.contains_key(*name))
        {
            if self.overrides.of_backend(name).next().is_none() && backend.enabled {
                by_address.entry(backend.address).or_default().push(Arc::clone(name));
            }
        }
        by_address
    }
}
