//! Expiry of overrides.
//!
//! Overrides expire by the wall clock, which runs while the machine is off. As that clock can be set, it is compared again
//! after [`MAX_PAUSE`] at the latest.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::operate::audit_removal;
use super::{Ctx, State, Timer};
use crate::event::{EXPIRY, Kind};
use crate::health::{BackendAction, Transition};
use crate::overrides::{Override, OverrideKind};
use crate::time::WallTime;

/// Longest pause between two comparisons with the wall clock.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Shortest pause: a wall clock that lags a little behind must not cause a busy loop.
const MIN_PAUSE: Duration = Duration::from_millis(10);

impl State {
    /// Removes all expired overrides, and schedules the next expiry.
    pub(super) fn expire_overrides(&mut self, ctx: &mut Ctx) {
        let expired = self.take_expired(ctx);
        let (mut transitions, mut touched) = (Vec::new(), BTreeSet::new());
        for (gone, _) in &expired {
            match &gone.slot {
                Some((frontend, pool)) => {
                    touched.extend(self.set_weight([frontend, pool, &gone.backend], None));
                }
                None => transitions.extend(self.restore(gone, ctx)),
            }
        }
        self.audit_expired(&expired, ctx);
        self.apply_operations(transitions, touched, ctx);
    }

    /// Removes the expired overrides, and returns each with its former value.
    pub(super) fn take_expired(&mut self, ctx: &Ctx) -> Vec<(Override, Option<String>)> {
        let expired: Vec<_> = self.overrides.list().filter(|o| o.is_expired(ctx.now.wall)).collect();
        for gone in &expired {
            Arc::make_mut(&mut self.overrides).remove(gone);
        }
        self.timers.retain(|(_, timer)| *timer != Timer::OverrideExpiry);
        if let Some(next) = self.overrides.list().filter_map(|o| o.meta.expires).min() {
            self.schedule_expiry(next, ctx);
        }
        expired.into_iter().map(|gone| (gone.clone(), self.current_value(&gone))).collect()
    }

    /// Publishes the audit entries of expired overrides.
    pub(super) fn audit_expired(&self, expired: &[(Override, Option<String>)], ctx: &mut Ctx) {
        for (gone, from) in expired {
            let (from, to) = (from.clone(), self.current_value(gone));
            ctx.event(Kind::Operator(audit_removal(gone, EXPIRY, from, to)));
        }
    }

    /// Restores the state that a backend has without the expired override.
    fn restore(&mut self, gone: &Override, ctx: &Ctx) -> Option<(usize, Transition)> {
        let index = self.backend(&gone.backend)?;
        let configured = self.config.backends.get(&gone.backend).is_some_and(|b| b.enabled);
        // If the configuration asks for the same as the override, nothing changes.
        let action = match gone.kind {
            OverrideKind::Paused => BackendAction::Resume,
            OverrideKind::Enabled if !configured => BackendAction::Disable,
            OverrideKind::Disabled if configured => BackendAction::Enable,
            OverrideKind::Enabled | OverrideKind::Disabled | OverrideKind::Weight(_) => return None,
        };
        // Resume is rejected if the configuration has disabled the paused backend: it stays disabled.
        let transition = self.backends[index].tracker.operate(action, ctx.now.wall).ok().flatten()?;
        Some((index, transition))
    }

    /// Schedules a timer for an expiry, unless an earlier one is set.
    pub(super) fn schedule_expiry(&mut self, expires: WallTime, ctx: &Ctx) {
        let after = (expires - ctx.now.wall).clamp(MIN_PAUSE, MAX_PAUSE);
        let at = ctx.now.mono + after;
        if self.timers.iter().any(|(set, timer)| *timer == Timer::OverrideExpiry && *set <= at) {
            return;
        }
        self.timers.retain(|(_, timer)| *timer != Timer::OverrideExpiry);
        self.timers.insert((at, Timer::OverrideExpiry));
    }
}
