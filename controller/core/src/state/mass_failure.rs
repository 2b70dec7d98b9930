//! Mass-failure detection: if nearly all healthy backends fail at once, this host may have lost its own network.
//!
//! The core then defers DOWN transitions for one more round of fast probes. Each backend is deferred at most once per run of
//! failures, and for at most `fall` times its `fast-interval`.
//!
//! ```text
//!                failures of at least MIN_BACKENDS, share ≥ mass-failure-threshold
//!     no window ────────────────────────────────────────────────────────────► window open
//!         ▲                                                                   (DOWN deferred)
//!         │  dismissed: more than `passes_left` recoveries,                      │    │
//!         ├─ prober lost, or configuration replaced: later outcomes decide ◄─────┘    │
//!         │                                                                           │
//!         └─ confirmed: the window ends, and deferred backends go down ◄──────────────┘
//! ```
//!
//! After a confirmation, backends that started to fail in the same outage go down without a deferral, until one recovers.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use maglev_ipc::Outcome;

use super::backends::BackendEntry;
use super::{Ctx, State, Timer};
use crate::event::{Kind, MassFailureResult};
use crate::health::{Signal, TransitionCause};
use crate::time::MonoTime;

/// Smallest number of backends from which a mass failure is inferred.
const MIN_BACKENDS: usize = 3;

/// Detection state for all backends.
#[derive(Clone, Debug, Default)]
pub(super) struct MassFailure {
    pending: Option<PendingWindow>,
    /// Set by a confirmation, cleared by a recovery. Backends that started failing before this time belong to the confirmed
    /// outage.
    confirmed_until: Option<u64>,
    /// Number of backends with [`Signal::Healthy`].
    healthy: usize,
    /// Backends with [`Signal::FailingSince`], as (start, index).
    failing: Arc<BTreeSet<(u64, usize)>>,
}

/// Open window in which DOWN transitions are deferred.
#[derive(Clone, Debug)]
struct PendingWindow {
    until: MonoTime,
    /// Causes of the deferred transitions, by backend index.
    deferred: BTreeMap<usize, TransitionCause>,
    /// Number of recoveries that do not dismiss the suspicion.
    passes_left: usize,
}

impl MassFailure {
    /// Returns the end of the open window.
    pub fn pending_until(&self) -> Option<MonoTime> {
        self.pending.as_ref().map(|window| window.until)
    }

    /// Replaces the signal of the backend at `index`.
    pub fn replace_signal(&mut self, index: usize, from: Signal, to: Signal) {
        match from {
            Signal::Healthy => self.healthy = self.healthy.saturating_sub(1),
            Signal::FailingSince(since) => _ = Arc::make_mut(&mut self.failing).remove(&(since, index)),
            Signal::Neutral => {}
        }
        match to {
            Signal::Healthy => self.healthy += 1,
            Signal::FailingSince(since) => _ = Arc::make_mut(&mut self.failing).insert((since, index)),
            Signal::Neutral => {}
        }
    }

    /// Discards all signals.
    pub fn clear_signals(&mut self) {
        self.healthy = 0;
        self.failing = Arc::default();
    }

    /// Reports whether the backend at `index` is deferred in the open window.
    fn is_deferred(&self, index: usize) -> bool {
        self.pending.as_ref().is_some_and(|window| window.deferred.contains_key(&index))
    }

    /// Reports whether a failure since `since` belongs to the outage confirmed last.
    fn is_confirmed(&self, since: u64) -> bool {
        self.confirmed_until.is_some_and(|latest| since <= latest)
    }

    /// Counts a recovery. Returns true if it exceeds the window's allowance.
    fn record_recovery(&mut self) -> bool {
        self.confirmed_until = None;
        match &mut self.pending {
            Some(PendingWindow { passes_left: 0, .. }) => true,
            Some(window) => {
                window.passes_left -= 1;
                false
            }
            None => false,
        }
    }
}

impl State {
    /// Reports whether the DOWN transition caused by `outcome` is deferred; opens a window if this is a new mass failure.
    pub(super) fn defers_down(&mut self, index: usize, outcome: &Outcome, ctx: &mut Ctx) -> bool {
        let backend = &self.backends[index];
        let Some((_, healthcheck)) = &backend.healthcheck else { return false };
        if self.config.mass_failure_threshold == 0 || !backend.tracker.would_go_down(outcome) {
            return false;
        }
        if backend.tracker.is_down_deferred() {
            // Each backend is deferred at most once, and only within the window that deferred it.
            return self.mass_failure.is_deferred(index);
        }
        let wait = healthcheck.fast_interval * healthcheck.fall;
        let since = backend.tracker.failing_since().unwrap_or(outcome.started);
        if self.mass_failure.is_confirmed(since)
            || (self.mass_failure.pending.is_none() && !self.open_window(index, outcome, wait, ctx))
        {
            return false;
        }
        let until = ctx.now.mono + wait;
        let Some(window) = &mut self.mass_failure.pending else { return false };
        window.deferred.insert(index, outcome.into());
        if until <= window.until {
            window.until = until;
            self.set_timer(ctx, wait, Timer::MassFailureWindow);
        }
        true
    }

    /// Opens a window if the failure of the backend at `index` is part of a mass failure.
    fn open_window(&mut self, index: usize, outcome: &Outcome, wait: Duration, ctx: &mut Ctx) -> bool {
        let Some((failing, healthy)) = self.correlated_failures(index, outcome) else { return false };
        let (total, until) = (failing + healthy, ctx.now.mono + wait);
        let passes_left = self.tolerated(total) - healthy;
        self.mass_failure.pending = Some(PendingWindow { until, deferred: BTreeMap::new(), passes_left });
        ctx.event(Kind::MassFailure(MassFailureResult::Suspected { failing, total, hold: wait }));
        true
    }

    /// Returns the numbers of backends that fail together with this one, itself included, and of healthy ones; `None` if the
    /// failing share is below the threshold.
    fn correlated_failures(&self, index: usize, outcome: &Outcome) -> Option<(usize, usize)> {
        let backend = &self.backends[index];
        let healthy =
            self.mass_failure.healthy.saturating_sub(usize::from(backend.signal == Signal::Healthy));
        // Fast exit for an ordinary failure: its cost must not depend on the number of failing backends.
        if healthy > self.tolerated(self.backends.len()) {
            return None;
        }
        let since = backend.tracker.failing_since().unwrap_or(outcome.started);
        let longest = self.longest_correlation();
        let (first, last) = (since.saturating_sub(longest), since.saturating_add(longest));
        let together = |&&(failing, other): &&(u64, usize)| {
            let apart = failing.abs_diff(since);
            other != index && apart <= correlation(interval(&self.backends[other]).max(interval(backend)))
        };
        let others =
            self.mass_failure.failing.range((first, 0)..=(last, usize::MAX)).filter(together).count();
        let total = 1 + others + healthy;
        (total >= MIN_BACKENDS && healthy <= self.tolerated(total)).then_some((1 + others, healthy))
    }

    /// Returns the largest correlation distance of all healthchecks.
    fn longest_correlation(&self) -> u64 {
        self.config.healthchecks.values().map(|h| correlation(h.interval)).max().unwrap_or_default()
    }

    /// Returns the number of `total` backends that may be healthy in a mass failure.
    fn tolerated(&self, total: usize) -> usize {
        total * usize::from(100_u8.saturating_sub(self.config.mass_failure_threshold)) / 100
    }

    /// Records a pass. Only the pass of a backend that was not healthy is a recovery.
    pub(super) fn on_recovery(&mut self, was_healthy: bool, ctx: &mut Ctx) {
        if !was_healthy && self.mass_failure.record_recovery() {
            self.cancel_window(ctx);
        }
    }

    /// Updates the signal of one backend.
    pub(super) fn update_signal(&mut self, index: usize) {
        let backend = &mut self.backends[index];
        let signal = backend.current_signal();
        let before = core::mem::replace(&mut backend.signal, signal);
        if before != signal {
            self.mass_failure.replace_signal(index, before, signal);
        }
    }

    /// Recounts the signals of all backends, after a change of the configuration.
    pub(super) fn recount_signals(&mut self) {
        self.mass_failure.clear_signals();
        for (index, backend) in self.backends.iter_mut().enumerate() {
            backend.signal = backend.current_signal();
            self.mass_failure.replace_signal(index, Signal::Neutral, backend.signal);
        }
    }

    /// Dismisses the suspicion: later outcomes decide.
    pub(super) fn cancel_window(&mut self, ctx: &mut Ctx) {
        if self.mass_failure.pending.take().is_some() {
            ctx.event(Kind::MassFailure(MassFailureResult::Dismissed));
        }
    }

    /// Closes a window that has ended, and takes the deferred backends down.
    pub(super) fn close_window(&mut self, ctx: &mut Ctx) {
        let ended = self.mass_failure.pending.take_if(|window| window.until <= ctx.now.mono);
        let Some(window) = ended else { return };
        let newest = self.mass_failure.failing.last().map_or(0, |(since, _)| *since);
        self.mass_failure.confirmed_until = Some(newest.saturating_add(self.longest_correlation()));
        ctx.event(Kind::MassFailure(MassFailureResult::Confirmed));
        let mut moved = Vec::new();
        for (index, cause) in window.deferred {
            let transition = self.backends[index].tracker.confirm_down(cause, ctx.now.wall);
            if self.publish_transition(index, transition, ctx) {
                moved.push(index);
            }
        }
        for index in moved {
            self.refresh_frontends_of(index, ctx);
        }
    }
}

/// Returns the largest distance in nanoseconds between the first failures of one outage: one interval, as the next probe of
/// each backend fails. The jitter of an interval is a tenth.
fn correlation(interval: Duration) -> u64 {
    u64::try_from((interval * 9 / 8).as_nanos()).unwrap_or(u64::MAX)
}

fn interval(backend: &BackendEntry) -> Duration {
    backend.healthcheck.as_ref().map_or(Duration::ZERO, |(_, healthcheck)| healthcheck.interval)
}
