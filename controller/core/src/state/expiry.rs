//! Overrides whose time is over.
//!
//! Their time is told by the wall clock, as it goes on while the machine is off. That clock can be set, so it is looked at
//! again every so often, however far away the next expiry is.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::operate::undoing;
use super::{Ctx, State, Timer};
use crate::event::{EXPIRY, Kind};
use crate::health::{BackendAction, Transition};
use crate::overrides::{Override, OverrideKind};
use crate::time::WallTime;

/// The clock is looked at again after this long at the latest,
const LONGEST: Duration = Duration::from_secs(60);

/// and not before this: one that lags a little behind the other is no reason to look without a pause.
const SHORTEST: Duration = Duration::from_millis(10);

impl State {
    /// Undoes every override whose time is over, and asks to be woken for the next.
    pub(super) fn expire(&mut self, ctx: &mut Ctx) {
        let over = self.take_overdue(ctx);
        let (mut moves, mut touched) = (Vec::new(), BTreeSet::new());
        for (gone, _) in &over {
            match &gone.slot {
                Some((frontend, pool)) => touched.extend(self.weigh([frontend, pool, &gone.backend], None)),
                None => moves.extend(self.put_back(gone, ctx)),
            }
        }
        self.tell_overdue(&over, ctx);
        self.follow(moves, touched, ctx);
    }

    /// Takes away the overrides whose time is over, each with what held until now.
    pub(super) fn take_overdue(&mut self, ctx: &Ctx) -> Vec<(Override, Option<String>)> {
        let over: Vec<_> = self.overrides.list().filter(|o| o.is_expired(ctx.now.wall)).collect();
        for gone in &over {
            Arc::make_mut(&mut self.overrides).remove(gone);
        }
        self.timers.retain(|(_, timer)| *timer != Timer::Expire);
        if let Some(next) = self.overrides.list().filter_map(|o| o.meta.expires).min() {
            self.watch_expiry(next, ctx);
        }
        over.into_iter().map(|gone| (gone.clone(), self.held(&gone))).collect()
    }

    pub(super) fn tell_overdue(&self, over: &[(Override, Option<String>)], ctx: &mut Ctx) {
        for (gone, from) in over {
            let (from, to) = (from.clone(), self.held(gone));
            ctx.event(Kind::Operator(undoing(gone, EXPIRY, from, to)));
        }
    }

    /// Gives a backend the state that it would have without an override that is gone.
    fn put_back(&mut self, gone: &Override, ctx: &Ctx) -> Option<(usize, Transition)> {
        let index = self.backend(&gone.backend)?;
        let configured = self.config.backends.get(&gone.backend).is_some_and(|b| b.enabled);
        // Where the configuration says what the override said, nothing changes.
        let action = match gone.kind {
            OverrideKind::Paused => BackendAction::Resume,
            OverrideKind::Enabled if !configured => BackendAction::Disable,
            OverrideKind::Disabled if configured => BackendAction::Enable,
            OverrideKind::Enabled | OverrideKind::Disabled | OverrideKind::Weight(_) => return None,
        };
        // What cannot be resumed is a pause beneath which the configuration has disabled the backend.
        let transition = self.backends[index].tracker.operate(action, ctx.now.wall).ok().flatten()?;
        Some((index, transition))
    }

    /// Asks to be woken when an override expires.
    pub(super) fn watch_expiry(&mut self, expires: WallTime, ctx: &Ctx) {
        let after = (expires - ctx.now.wall).clamp(SHORTEST, LONGEST);
        let at = ctx.now.mono + after;
        if self.timers.iter().any(|(set, timer)| *timer == Timer::Expire && *set <= at) {
            return;
        }
        self.timers.retain(|(_, timer)| *timer != Timer::Expire);
        self.timers.insert((at, Timer::Expire));
    }
}
