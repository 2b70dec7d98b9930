//! Startup holds: weights stay in VPP while the health behind them is unknown.
//!
//! ```text
//!            VPP read, and startup-max-delay over          each backend known,
//!             since the prober began to probe              or none keeps its weight
//!   frozen ──────────────────────────────────► following ───────────────────────────► no hold
//!     │                                            ▲                                     ▲
//!     │  each backend known, startup-min-delay over│ reload that restarts a backend      │
//!     └────────────────────────────────────────────┼─────────────────────────────────────┘
//!                                                  └── no hold
//! ```
//!
//! | hold      | a known backend            | an unknown backend that VPP serves | other unknown backends |
//! |-----------|----------------------------|------------------------------------|------------------------|
//! | frozen    | keeps its weight in VPP    | keeps its weight in VPP            | have none              |
//! | following | has the weight of its health | counts as up until a verdict     | have none              |
//!
//! Only a verdict about a backend, or an operator, takes a weight away. A static backend, or one that an operator has taken
//! out, gives no knowledge of the others.

use alloc::vec::Vec;

use super::frontends::{FrontendEntry, FrontendSlot, StartupHold};
use super::{Ctx, State};
use crate::dataplane::{ActualVip, VipKey};
use crate::health::Health;
use crate::time::MonoTime;

impl State {
    /// Reports whether VPP gives weight to a backend of a frontend. Backends that an operator has taken out do not count.
    pub(super) fn has_weight_in_vpp(&self, frontend: &FrontendEntry, found: Option<&ActualVip>) -> bool {
        let has = |slot: &FrontendSlot| found.is_some_and(|vip| vip.serves(&slot.address));
        frontend.slots.iter().any(|slot| self.is_holdable(slot) && has(slot))
    }

    /// Reports whether a hold keeps the backend's weight in VPP.
    pub(super) fn is_holdable(&self, slot: &FrontendSlot) -> bool {
        !matches!(self.backends[slot.backend].tracker.health(), Health::Paused | Health::Disabled)
    }

    /// Reports whether a backend has no verdict.
    pub(super) fn is_unknown(&self, slot: &FrontendSlot) -> bool {
        self.backends[slot.backend].tracker.health() == Health::Unknown
    }

    /// Recomputes all frontends with a hold or with leaving servers.
    pub(super) fn refresh_held_frontends(&mut self, ctx: &mut Ctx) {
        for index in 0..self.frontends.len() {
            if self.frontends[index].is_held() {
                self.refresh_frontend(index, ctx);
            }
        }
    }

    /// Waives `startup-min-delay`: the prober kept running, so its histories are current.
    pub(super) fn waive_min_delay(&mut self, ctx: &Ctx) {
        for index in 0..self.frontends.len() {
            if self.frontends[index].hold.is_some_and(|hold| ctx.now.mono < hold.not_before)
                && let Some(hold) = &mut self.frontends[index].hold
            {
                hold.not_before = ctx.now.mono;
            }
        }
    }

    /// Records the unknown backends of held frontends that VPP serves, after a full read. They stay recorded if another VPP
    /// does not have them.
    pub(super) fn mark_served_slots(&mut self) {
        for index in 0..self.frontends.len() {
            let frontend = &self.frontends[index];
            if frontend.hold.is_none() {
                continue;
            }
            let vip = frontend.vip;
            let is_served = |slot: &FrontendSlot| slot.is_served || self.serves_unknown(&vip, slot);
            let served: Vec<_> = frontend.slots.iter().map(is_served).collect();
            self.frontends[index].set_served(&served);
        }
    }

    /// Reports whether VPP gives weight to a backend that is unknown.
    pub(super) fn serves_unknown(&self, vip: &VipKey, slot: &FrontendSlot) -> bool {
        self.is_unknown(slot)
            && self.observed.latest().is_some_and(|actual| actual.serves(vip, &slot.address))
    }

    /// Moves a frontend's hold on, or ends it; the diagram above has the conditions.
    pub(super) fn advance_hold(&mut self, index: usize, now: MonoTime) {
        let frontend = &self.frontends[index];
        let Some(hold) = frontend.hold else { return };
        let served: Vec<_> = frontend.slots.iter().map(|s| s.is_served && self.is_unknown(s)).collect();
        let all_known = !frontend.slots.iter().any(|slot| self.is_unknown(slot));
        let follows_health = hold.follows_health || self.is_overdue(hold, now);
        let is_over = all_known && now >= hold.not_before || follows_health && !served.contains(&true);
        let frontend = &mut self.frontends[index];
        frontend.set_served(&served);
        frontend.hold = (!is_over).then_some(StartupHold { follows_health, ..hold });
    }

    /// Reports whether VPP was read, and `startup-max-delay` is over since the prober has begun to probe.
    fn is_overdue(&self, hold: StartupHold, now: MonoTime) -> bool {
        let delay = self.config.lb.startup_max_delay;
        self.observed.latest().is_some()
            && self.prober.probing_since.is_some_and(|since| now >= hold.since.max(since) + delay)
    }
}
