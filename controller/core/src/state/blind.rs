//! Whether this host is cut off: when all that was up fails at once, it is as likely that nothing is seen as that nothing is
//! there.
//!
//! So verdicts then wait for one more round of fast probes. If something passes meanwhile, the outcomes to come decide as
//! ever; if nothing does, the verdicts are put in force. Of its fall, each backend waits once, and no longer than `fall`
//! times its `fast-interval`.

use alloc::vec::Vec;
use core::time::Duration;

use maglev_ipc::Outcome;

use super::backends::Backend;
use super::{Alarm, State, Turn};
use crate::event::{Blindness, Kind};
use crate::health::{Cause, Health, Tracker};
use crate::time::Mono;

/// Of fewer backends, "all" says nothing.
const FEW: usize = 3;

/// What is made of failures that come all at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Blind {
    doubt: Option<Doubt>,
    /// A round was waited for in vain, and nothing has passed since.
    confirmed: bool,
    /// The backend that passed last: where one that is fine is likely to be found.
    newest_pass: usize,
}

/// Verdicts wait.
#[derive(Clone, Debug)]
struct Doubt {
    until: Mono,
    /// Who would have fallen, and why.
    waiting: Vec<(usize, Cause)>,
    /// How many may pass without refuting it.
    spare: usize,
}

/// What a backend says about whether this host sees.
enum Sight {
    /// It was up and has failed, together with another.
    Fails,
    /// It is up and has missed nothing.
    Fine,
    /// Nothing.
    Nothing,
}

impl Blind {
    /// Until when verdicts wait at most, if they do.
    pub fn until(&self) -> Option<Mono> {
        self.doubt.as_ref().map(|doubt| doubt.until)
    }
}

impl State {
    /// Whether `outcome`, by which the backend would fall, is to wait; begins to wait if so.
    pub(super) fn waits(&mut self, index: usize, outcome: &Outcome, turn: &mut Turn) -> bool {
        let backend = &self.backends[index];
        let Some((_, healthcheck)) = &backend.healthcheck else { return false };
        if self.config.blind_threshold == 0 || !backend.tracker.would_fall(outcome) {
            return false;
        }
        if backend.tracker.doubted() {
            // It waits already, or has waited.
            return self.blind.doubt.is_some();
        }
        let wait = healthcheck.fast_interval * healthcheck.fall;
        if self.blind.confirmed
            || (self.blind.doubt.is_none() && !self.begin_to_doubt(index, outcome, wait, turn))
        {
            return false;
        }
        let until = turn.now.mono + wait;
        let Some(doubt) = &mut self.blind.doubt else { return false };
        doubt.waiting.push((index, outcome.into()));
        if until <= doubt.until {
            doubt.until = until;
            self.alarm(turn, wait, Alarm::Doubt);
        }
        true
    }

    /// Doubts, if all that was up fails at once.
    fn begin_to_doubt(&mut self, index: usize, outcome: &Outcome, wait: Duration, turn: &mut Turn) -> bool {
        let Some((failing, fine)) = self.failing_at_once(index, outcome) else { return false };
        let (of, until) = (failing + fine, turn.now.mono + wait);
        let spare = self.tolerated(of) - fine;
        self.blind.doubt = Some(Doubt { until, waiting: Vec::new(), spare });
        turn.event(Kind::Blind(Blindness::Suspected { failing, of, wait }));
        true
    }

    /// How many fail together with the backend, itself included, and how many are fine; if these are so few that all of them
    /// are taken to fail.
    fn failing_at_once(&self, index: usize, outcome: &Outcome) -> Option<(usize, usize)> {
        let since = self.backends[index].tracker.failing().unwrap_or(outcome.started);
        let interval = interval(&self.backends[index]);
        let (mut failing, mut fine, most) = (1, 0, self.tolerated(self.backends.len()));
        // Most times it is answered by the first that is looked at.
        for backend in self.backends.iter_from(self.blind.newest_pass) {
            match sight(backend, since, interval) {
                _ if core::ptr::eq(backend, &self.backends[index]) => {}
                Sight::Fails => failing += 1,
                Sight::Fine if fine == most => return None,
                Sight::Fine => fine += 1,
                Sight::Nothing => {}
            }
        }
        let of = failing + fine;
        (of >= FEW && fine <= self.tolerated(of)).then_some((failing, fine))
    }

    /// How many of `of` backends may be fine when all are taken to fail.
    fn tolerated(&self, of: usize) -> usize {
        of * usize::from(100_u8.saturating_sub(self.config.blind_threshold)) / 100
    }

    /// Hears a pass; `was_fine` says whether the backend was up and had missed nothing before it.
    pub(super) fn passed(&mut self, index: usize, was_fine: bool, turn: &mut Turn) {
        self.blind.newest_pass = index;
        if was_fine {
            return;
        }
        self.blind.confirmed = false;
        match &mut self.blind.doubt {
            Some(Doubt { spare: 0, .. }) => self.see_again(turn),
            Some(doubt) => doubt.spare -= 1,
            None => {}
        }
    }

    /// Leaves it to the outcomes to come who falls.
    pub(super) fn see_again(&mut self, turn: &mut Turn) {
        if self.blind.doubt.take().is_some() {
            turn.event(Kind::Blind(Blindness::Refuted));
        }
    }

    /// The round may be over.
    pub(super) fn end_doubt(&mut self, turn: &mut Turn) {
        let Some(doubt) = self.blind.doubt.take_if(|doubt| doubt.until <= turn.now.mono) else { return };
        self.blind.confirmed = true;
        turn.event(Kind::Blind(Blindness::Confirmed));
        let mut fallen = Vec::new();
        for (index, cause) in doubt.waiting {
            let transition = self.backends[index].tracker.fall(cause, turn.now.wall);
            if self.tell(index, transition, turn) {
                fallen.push(index);
            }
        }
        for index in fallen {
            self.refresh_frontends(index, turn);
        }
    }
}

/// Whether a backend that is up has missed nothing.
pub(super) fn is_fine(tracker: &Tracker) -> bool {
    tracker.health() == Health::Up && tracker.failing().is_none()
}

/// What `backend` says beside one that has been failing `since` and is probed each `own` interval.
fn sight(backend: &Backend, since: u64, own: Duration) -> Sight {
    let tracker = &backend.tracker;
    if backend.healthcheck.is_none() || !tracker.probed() {
        return Sight::Nothing;
    }
    match tracker.failing() {
        None if is_fine(tracker) => Sight::Fine,
        Some(failing) => {
            // Whatever cuts us off, the next probe of each fails. An interval varies by a tenth.
            let window = interval(backend).max(own) * 9 / 8;
            let apart = Duration::from_nanos(failing.abs_diff(since));
            if apart <= window { Sight::Fails } else { Sight::Nothing }
        }
        None => Sight::Nothing,
    }
}

fn interval(backend: &Backend) -> Duration {
    backend.healthcheck.as_ref().map_or(Duration::ZERO, |(_, healthcheck)| healthcheck.interval)
}
