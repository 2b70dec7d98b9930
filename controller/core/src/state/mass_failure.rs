//! Whether this host is cut off: when all that was up fails at once, it is as likely that nothing is seen as that nothing is
//! there.
//!
//! So verdicts then wait for one more round of fast probes. If something passes meanwhile, the outcomes to come decide as
//! ever; if nothing does, the verdicts are put in force. Of its fall, each backend waits once, and no longer than `fall`
//! times its `fast-interval`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use maglev_ipc::Outcome;

use super::backends::Backend;
use super::{Ctx, State, Timer};
use crate::event::{Kind, MassFailureResult};
use crate::health::{Health, Tracker, TransitionCause};
use crate::time::MonoTime;

/// Of fewer backends, "all" says nothing.
const FEW: usize = 3;

/// What is made of failures that come all at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Blind {
    doubt: Option<Doubt>,
    /// A round was waited for in vain, and nobody has come back since. Who began to fail by then fails with those that fell.
    confirmed: Option<u64>,
    /// How many are [`Sight::Fine`].
    fine: usize,
    /// Those that are [`Sight::Fails`], by since when.
    failing: Arc<BTreeSet<(u64, usize)>>,
}

/// Verdicts wait.
#[derive(Clone, Debug)]
struct Doubt {
    until: MonoTime,
    /// Who would have fallen, by index, and why.
    waiting: BTreeMap<usize, TransitionCause>,
    /// How many may pass without refuting it.
    spare: usize,
}

/// What a backend says about whether this host sees.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Sight {
    /// It is up and has missed nothing.
    Fine,
    /// It fails since then; whether together with another is for that one to say.
    Fails(u64),
    /// Nothing.
    #[default]
    Nothing,
}

impl Blind {
    /// Until when verdicts wait at most, if they do.
    pub fn until(&self) -> Option<MonoTime> {
        self.doubt.as_ref().map(|doubt| doubt.until)
    }

    /// What the backend at `index` says turns from one into the other.
    fn ctx(&mut self, index: usize, from: Sight, to: Sight) {
        match from {
            Sight::Fine => self.fine = self.fine.saturating_sub(1),
            Sight::Fails(since) => _ = Arc::make_mut(&mut self.failing).remove(&(since, index)),
            Sight::Nothing => {}
        }
        match to {
            Sight::Fine => self.fine += 1,
            Sight::Fails(since) => _ = Arc::make_mut(&mut self.failing).insert((since, index)),
            Sight::Nothing => {}
        }
    }
}

impl State {
    /// Whether `outcome`, by which the backend would fall, is to wait; begins to wait if so.
    pub(super) fn waits(&mut self, index: usize, outcome: &Outcome, ctx: &mut Ctx) -> bool {
        let backend = &self.backends[index];
        let Some((_, healthcheck)) = &backend.healthcheck else { return false };
        if self.config.mass_failure_threshold == 0 || !backend.tracker.would_fall(outcome) {
            return false;
        }
        if backend.tracker.doubted() {
            // It waits already, or has waited: for another doubt than this it does not.
            return self.blind.doubt.as_ref().is_some_and(|doubt| doubt.waiting.contains_key(&index));
        }
        let wait = healthcheck.fast_interval * healthcheck.fall;
        let since = backend.tracker.failing().unwrap_or(outcome.started);
        if self.blind.confirmed.is_some_and(|latest| since <= latest)
            || (self.blind.doubt.is_none() && !self.begin_to_doubt(index, outcome, wait, ctx))
        {
            return false;
        }
        let until = ctx.now.mono + wait;
        let Some(doubt) = &mut self.blind.doubt else { return false };
        doubt.waiting.insert(index, outcome.into());
        if until <= doubt.until {
            doubt.until = until;
            self.set_timer(ctx, wait, Timer::Doubt);
        }
        true
    }

    /// Doubts, if all that was up fails at once.
    fn begin_to_doubt(&mut self, index: usize, outcome: &Outcome, wait: Duration, ctx: &mut Ctx) -> bool {
        let Some((failing, fine)) = self.failing_at_once(index, outcome) else { return false };
        let (total, until) = (failing + fine, ctx.now.mono + wait);
        let spare = self.tolerated(total) - fine;
        self.blind.doubt = Some(Doubt { until, waiting: BTreeMap::new(), spare });
        ctx.event(Kind::MassFailure(MassFailureResult::Suspected { failing, total, hold: wait }));
        true
    }

    /// How many fail together with the backend, itself included, and how many are fine; if these are so few that all of them
    /// are taken to fail.
    fn failing_at_once(&self, index: usize, outcome: &Outcome) -> Option<(usize, usize)> {
        let backend = &self.backends[index];
        let fine = self.blind.fine.saturating_sub(usize::from(backend.sight == Sight::Fine));
        // Nearly always it is answered here.
        if fine > self.tolerated(self.backends.len()) {
            return None;
        }
        let since = backend.tracker.failing().unwrap_or(outcome.started);
        let longest = self.longest_window();
        let (first, last) = (since.saturating_sub(longest), since.saturating_add(longest));
        let together = |&&(failing, other): &&(u64, usize)| {
            let apart = failing.abs_diff(since);
            other != index && apart <= window(interval(&self.backends[other]).max(interval(backend)))
        };
        let others = self.blind.failing.range((first, 0)..=(last, usize::MAX)).filter(together).count();
        let of = 1 + others + fine;
        (of >= FEW && fine <= self.tolerated(of)).then_some((1 + others, fine))
    }

    /// How far apart any two may begin to fail that fail at once.
    fn longest_window(&self) -> u64 {
        self.config.healthchecks.values().map(|h| window(h.interval)).max().unwrap_or_default()
    }

    /// How many of `of` backends may be fine when all are taken to fail.
    fn tolerated(&self, of: usize) -> usize {
        of * usize::from(100_u8.saturating_sub(self.config.mass_failure_threshold)) / 100
    }

    /// Hears a pass; `was_fine` says whether the backend was up and had missed nothing before it.
    pub(super) fn passed(&mut self, was_fine: bool, ctx: &mut Ctx) {
        if was_fine {
            return;
        }
        self.blind.confirmed = None;
        match &mut self.blind.doubt {
            Some(Doubt { spare: 0, .. }) => self.see_again(ctx),
            Some(doubt) => doubt.spare -= 1,
            None => {}
        }
    }

    /// Keeps what the backend says about whether this host sees.
    pub(super) fn note_sight(&mut self, index: usize) {
        let backend = &mut self.backends[index];
        let now = sight(backend);
        let before = core::mem::replace(&mut backend.sight, now);
        if before != now {
            self.blind.ctx(index, before, now);
        }
    }

    /// The same of all of them, after a change of what there is.
    pub(super) fn note_sights(&mut self) {
        self.blind.fine = 0;
        self.blind.failing = Arc::default();
        for (index, backend) in self.backends.iter_mut().enumerate() {
            backend.sight = sight(backend);
            self.blind.ctx(index, Sight::Nothing, backend.sight);
        }
    }

    /// Leaves it to the outcomes to come who falls.
    pub(super) fn see_again(&mut self, ctx: &mut Ctx) {
        if self.blind.doubt.take().is_some() {
            ctx.event(Kind::MassFailure(MassFailureResult::Dismissed));
        }
    }

    /// The round may be over.
    pub(super) fn end_doubt(&mut self, ctx: &mut Ctx) {
        let Some(doubt) = self.blind.doubt.take_if(|doubt| doubt.until <= ctx.now.mono) else { return };
        let newest = self.blind.failing.last().map_or(0, |(since, _)| *since);
        self.blind.confirmed = Some(newest.saturating_add(self.longest_window()));
        ctx.event(Kind::MassFailure(MassFailureResult::Confirmed));
        let mut fallen = Vec::new();
        for (index, cause) in doubt.waiting {
            let transition = self.backends[index].tracker.fall(cause, ctx.now.wall);
            if self.tell(index, transition, ctx) {
                fallen.push(index);
            }
        }
        for index in fallen {
            self.refresh_frontends(index, ctx);
        }
    }
}

/// Whether a backend that is up has missed nothing, as far as this host can tell.
pub(super) fn is_fine(tracker: &Tracker) -> bool {
    tracker.health() == Health::Up && tracker.failing().is_none() && !tracker.unheard() && !tracker.stale()
}

fn sight(backend: &Backend) -> Sight {
    let tracker = &backend.tracker;
    match tracker.failing() {
        _ if backend.healthcheck.is_none() || !tracker.probed() => Sight::Nothing,
        Some(since) => Sight::Fails(since),
        None if is_fine(tracker) => Sight::Fine,
        None => Sight::Nothing,
    }
}

/// How far apart, in nanoseconds, what fails at once begins to fail, probed at that interval: whatever cuts us off, the next
/// probe of each fails. An interval varies by a tenth.
fn window(interval: Duration) -> u64 {
    u64::try_from((interval * 9 / 8).as_nanos()).unwrap_or(u64::MAX)
}

fn interval(backend: &Backend) -> Duration {
    backend.healthcheck.as_ref().map_or(Duration::ZERO, |(_, healthcheck)| healthcheck.interval)
}
