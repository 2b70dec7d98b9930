//! Context of one frontend, computed once for all lines about it.

use alloc::format;
use alloc::string::{String, ToString};

use super::super::State;
use super::super::frontends::{FrontendEntry, FrontendSlot};
use super::format::{in_brackets, known, list};
use crate::dataplane::{ActualVip, DesiredVip};
use crate::failover::Decision;
use crate::health::Health;
use crate::time::Now;

/// Context of one frontend.
pub struct FrontendContext<'a> {
    pub state: &'a State,
    pub frontend: &'a FrontendEntry,
    pub now: Now,
    pub decision: Decision,
    /// The VIP in VPP, if VPP was read.
    pub found: Option<&'a ActualVip>,
    /// The desired VIP.
    pub wanted: DesiredVip,
}

impl<'a> FrontendContext<'a> {
    pub fn new(state: &'a State, frontend: &'a FrontendEntry, now: Now) -> Self {
        let found = state.observed.vip(&frontend.vip);
        Self {
            state,
            frontend,
            now,
            decision: state.decision(frontend),
            found,
            wanted: state.desired(frontend, found, now.mono),
        }
    }

    pub fn health(&self, slot: &FrontendSlot) -> Health {
        self.state.backends[slot.backend].tracker.health()
    }

    pub fn name(&self, slot: &FrontendSlot) -> &'a str {
        &self.state.backends[slot.backend].name
    }

    pub fn pool_name(&self, pool: usize) -> &'a str {
        &self.frontend.config.pools[pool].name
    }

    /// Returns the slots with their effective weights.
    pub fn slots(&self) -> impl Iterator<Item = (&'a FrontendSlot, u8)> {
        self.frontend.slots.iter().zip(self.decision.weights.iter().copied())
    }

    pub fn slots_of(&self, pool: usize) -> impl Iterator<Item = &'a FrontendSlot> + Clone {
        self.frontend.slots.iter().filter(move |slot| slot.pool == pool)
    }

    pub fn can_serve(&self, slot: &FrontendSlot) -> bool {
        slot.weight > 0 && (self.health(slot) == Health::Up || self.keeps_weight(slot))
    }

    /// Reports whether a backend counts as up until a verdict, because VPP serves it.
    fn keeps_weight(&self, slot: &FrontendSlot) -> bool {
        self.health(slot) == Health::Unknown && self.frontend.keeps_weight(slot)
    }

    /// Returns the unknown backends of better pools, for which a held frontend waits before it promotes `pool`.
    pub fn awaited(&self, pool: usize) -> impl Iterator<Item = &'a FrontendSlot> + Clone {
        let held = self.frontend.waits_for_unknown();
        let undecided = move |s: &&FrontendSlot| {
            held && s.pool < pool && s.weight > 0 && self.health(s) == Health::Unknown
        };
        self.frontend.slots.iter().filter(undecided)
    }

    /// Returns the condition for the promotion of a pool.
    fn waits_for(&self, pool: usize) -> String {
        known(self.awaited(pool).map(|s| self.name(s)))
    }

    /// Reports whether a backend of that pool would be effective once up.
    fn would_serve(&self, pool: usize) -> bool {
        let undecided = |s: &FrontendSlot| s.pool < pool && s.weight > 0 && self.health(s) == Health::Unknown;
        match self.decision.active {
            Some(active) if self.only_leaving_serve() => {
                pool <= active || !self.frontend.slots.iter().any(undecided)
            }
            Some(active) => pool <= active,
            None => self.awaited(pool).next().is_none(),
        }
    }

    /// Reports whether only servers that have left the frontend have weight.
    fn only_leaving_serve(&self) -> bool {
        !self.frontend.leaving.is_empty() && self.slots().all(|(_, effective)| effective == 0)
    }

    /// Returns the reason of a backend's effective weight.
    pub fn reason(&self, slot: &FrontendSlot) -> String {
        let (health, weight) = (self.health(slot), slot.weight);
        let source = self.weight_source(slot);
        match (health, self.decision.active) {
            (Health::Up, _) if weight == 0 => source,
            (Health::Up, Some(active)) if active == slot.pool => source,
            (Health::Up, Some(active)) => {
                format!("it stands by with {weight} ({source}), while pool {} serves", self.pool_name(active))
            }
            (Health::Up, None) => {
                format!("it waits with {weight} ({source}) until {}", self.waits_for(slot.pool))
            }
            _ if self.keeps_weight(slot) && self.decision.active == Some(slot.pool) && weight > 0 => {
                format!(
                    "it is unknown, and keeps its weight in VPP until a verdict; once up it has {weight} ({source})"
                )
            }
            _ if weight == 0 => format!("it is {health}; once up it has 0 ({source})"),
            _ if self.would_serve(slot.pool) => format!("it is {health}; once up it has {weight} ({source})"),
            _ => format!("it is {health}; once up it stands by with {weight} ({source})"),
        }
    }

    /// Returns the source of a backend's own weight.
    fn weight_source(&self, slot: &FrontendSlot) -> String {
        let name = self.name(slot);
        let configured = self.frontend.config.pools[slot.pool].backends.get(name);
        match configured {
            Some(configured) if slot.overridden => self.overridden(slot, *configured),
            _ => "as configured".to_string(),
        }
    }

    /// Returns the role of a pool, and its reason.
    pub fn pool(&self, pool: usize) -> String {
        let name = self.pool_name(pool);
        let (all, able) =
            (self.slots_of(pool).count(), self.slots_of(pool).filter(|s| self.can_serve(s)).count());
        let is_stale = |s: &&FrontendSlot| self.can_serve(s) && self.state.is_stale_slot(s);
        let stale = self.slots_of(pool).filter(is_stale).map(|s| format!("{} is stale", self.name(s)));
        let stale = in_brackets(Some(list(stale)).as_deref().filter(|list| !list.is_empty()));
        let unable = || {
            let reason = |s: &FrontendSlot| match self.health(s) {
                Health::Up => format!("{} has weight 0", self.name(s)),
                health => format!("{} is {health}", self.name(s)),
            };
            list(self.slots_of(pool).filter(|s| !self.can_serve(s)).map(reason))
        };
        let has_leaving = self.frontend.leaving.iter().any(|server| server.pool == pool);
        let besides = if has_leaving { " besides leaving servers" } else { "" };
        let can = || format!("{able} of {all} can{besides}");
        match self.decision.active {
            active if all == 0 && (active != Some(pool) || !has_leaving) => format!("{name} has no backends"),
            Some(active) if active == pool && able == all => format!("{name} serves: {}{stale}", can()),
            Some(active) if active == pool => format!("{name} serves: {} ({}){stale}", can(), unable()),
            Some(active) if active < pool => {
                let better = self.pool_name(active);
                let rest =
                    if able == 0 { format!(", and could not serve: {}", unable()) } else { String::new() };
                format!("{name} stands by, as {better} comes first{rest}")
            }
            _ if able == 0 => format!("{name} cannot serve: {}", unable()),
            _ => {
                format!("{name} could serve, but waits until {}", self.waits_for(pool))
            }
        }
    }
}
