//! Receiving a check set, or an amendment to one: a transaction that takes effect whole at its commit, or not at all.

use std::collections::HashMap;
use std::time::Duration;

use maglev_ipc::check::{MAX_BUNDLE, MAX_BUNDLES, MAX_INTERVAL, MIN_INTERVAL};
use maglev_ipc::message::MAX_BATCH;
use maglev_ipc::{Check, CheckId, Probe, Refusal, Rhythm, Tls, ToController, Verify};

use crate::clock::Nanos;
use crate::course::{Change, Course, Member};
use crate::outbox::Outbox;
use crate::probe::{Plan, tls};
use crate::protocol::Violation;

/// So many checks are refused, one by one, or as many as may be in force if those are more. Beyond that the link ends: it is
/// what the refused may take of memory, and no configuration, however low `--max-checks` is.
const REFUSED: usize = 100_000;

/// What may be in force at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Checks.
    pub checks: u32,
    /// Probes a second.
    pub rate: u32,
}

/// A whole set, or an amendment to the one in force.
#[derive(Debug)]
pub struct Set {
    /// As the controller numbers it.
    pub generation: u64,
    /// What leaves the set in force; `None` is all of it.
    pub dropped: Option<Vec<CheckId>>,
    /// What is to be probed.
    pub members: Vec<Member<Plan>>,
    /// What is not, and why.
    pub refused: Vec<(CheckId, Refusal)>,
}

impl Set {
    /// Puts it in force, and has the controller told: what is refused, with the first set of a link what is known of the
    /// checks that go on, and that it is in force.
    pub fn enforce<F>(
        self,
        course: &mut Course<Plan, F>,
        outbox: &mut Outbox,
        is_first: bool,
        now: Nanos,
    ) -> Change<F> {
        let Self { generation, dropped, members, refused } = self;
        let change = match dropped {
            Some(gone) => course.amend(&gone, members, now),
            None => course.replace(members, now),
        };
        for (id, why) in refused {
            outbox.message(ToController::Refused { id, why });
        }
        if is_first {
            let slots = change.kept.iter().map(|(slot, _)| *slot);
            let mut streaks = course.streaks(slots).peekable();
            while streaks.peek().is_some() {
                outbox.message(ToController::Streaks(streaks.by_ref().take(MAX_BATCH).collect()));
            }
        }
        outbox.message(ToController::Committed { generation });
        change
    }
}

/// What a set holds, as far as amendments to it are judged by that.
#[derive(Debug, Default)]
pub struct Book {
    /// Probes a second of each member, in thousandths; `None` is a check that was refused.
    checks: HashMap<CheckId, Option<u64>>,
    bundles: HashMap<u32, u32>,
    members: usize,
    /// Probes a second of all members, in thousandths.
    rate: u64,
}

/// A set or an amendment that is being received.
#[derive(Debug)]
pub struct Staging {
    limits: Limits,
    set: Set,
    book: Book,
}

impl Staging {
    /// Begins a set.
    pub fn set(generation: u64, limits: Limits) -> Self {
        let set = Set { generation, dropped: None, members: Vec::new(), refused: Vec::new() };
        Self { limits, set, book: Book::default() }
    }

    /// Begins an amendment to the set that holds what stands in `book`.
    pub fn amendment(generation: u64, limits: Limits, book: Book) -> Self {
        let dropped = Some(Vec::new());
        Self { limits, set: Set { generation, dropped, members: Vec::new(), refused: Vec::new() }, book }
    }

    /// Takes a bundle.
    ///
    /// # Errors
    /// Too large, too many, a number that is taken, or part of an amendment.
    pub fn bundle(&mut self, id: u32, pem: &[u8], configs: &mut tls::Configs) -> Result<(), Violation> {
        if self.set.dropped.is_some() {
            return Err(Violation::Turn("Bundle"));
        }
        if pem.len() > MAX_BUNDLE || self.book.bundles.len() >= MAX_BUNDLES {
            return Err(Violation::Bound("a bundle"));
        }
        match self.book.bundles.insert(id, configs.add_bundle(pem)) {
            Some(_) => Err(Violation::TwiceBundle(id)),
            None => Ok(()),
        }
    }

    /// Takes the names of checks that leave.
    ///
    /// # Errors
    /// A name is not in the set, or this is no amendment, or one that has come to what is added.
    pub fn drop_checks(&mut self, ids: Vec<CheckId>) -> Result<(), Violation> {
        let Self { set, book, .. } = self;
        let dropped = set.dropped.as_mut().filter(|_| set.members.is_empty() && set.refused.is_empty());
        let dropped = dropped.ok_or(Violation::Turn("Drop"))?;
        for id in ids {
            // A refused one is in no slot.
            if let Some(rate) = book.checks.remove(&id).ok_or(Violation::Unknown(id))? {
                book.members -= 1;
                book.rate -= rate;
                dropped.push(id);
            }
        }
        Ok(())
    }

    /// Takes a check. One that will not be probed is kept among the refused; the others run all the same.
    ///
    /// # Errors
    /// The name is taken.
    pub fn check(
        &mut self,
        id: CheckId,
        rhythm: Rhythm,
        check: Check,
        configs: &mut tls::Configs,
    ) -> Result<(), Violation> {
        let Rhythm { interval, settled } = rhythm;
        if self.book.checks.contains_key(&id) {
            return Err(Violation::TwiceCheck(id));
        }
        if self.book.checks.len() - self.book.members >= (self.limits.checks as usize).max(REFUSED) {
            return Err(Violation::Bound("the number of checks"));
        }
        let rate = match self.admit(interval, check, configs) {
            Ok((check, plan)) => {
                self.set.members.push(Member { id, interval, settled, check, plan });
                Some(per_mille(interval))
            }
            Err(why) => {
                self.set.refused.push((id, why));
                None
            }
        };
        self.book.members += usize::from(rate.is_some());
        self.book.rate += rate.unwrap_or_default();
        self.book.checks.insert(id, rate);
        Ok(())
    }

    /// Ends the set or the amendment. Returns it, and what is in force with it.
    ///
    /// # Errors
    /// Another was begun.
    pub fn commit(self, generation: u64, configs: &mut tls::Configs) -> Result<(Set, Book), Violation> {
        if generation != self.set.generation {
            return Err(Violation::Turn("Commit of another generation"));
        }
        configs.retain(&self.book.bundles.values().copied().collect());
        Ok((self.set, self.book))
    }

    fn admit(
        &self,
        interval: Duration,
        mut check: Check,
        configs: &mut tls::Configs,
    ) -> Result<(Check, Plan), Refusal> {
        check.validate()?;
        if !interval_allowed(interval) {
            return Err(Refusal::Bounds { what: "interval".to_owned() });
        }
        if self.book.members >= self.limits.checks as usize {
            return Err(Refusal::Limit { what: format!("--max-checks {}", self.limits.checks) });
        }
        if self.book.rate + per_mille(interval) > u64::from(self.limits.rate) * 1000 {
            return Err(Refusal::Limit { what: format!("--max-rate {}", self.limits.rate) });
        }
        self.renumber(&mut check)?;
        let plan = Plan::compile(&check, configs)?;
        Ok((check, plan))
    }

    /// Names the check's bundle, if it has one, by content.
    fn renumber(&self, check: &mut Check) -> Result<(), Refusal> {
        let (Probe::Tcp { tls, .. } | Probe::Http { tls, .. }) = &mut check.probe else { return Ok(()) };
        let Some(Tls { verify: Verify::Bundle(id), .. }) = tls else { return Ok(()) };
        let number = self.book.bundles.get(id).copied();
        *id = number.ok_or_else(|| Refusal::Invalid(format!("bundle {id} was not sent")))?;
        Ok(())
    }
}

/// Whether checks may have this interval.
pub fn interval_allowed(interval: Duration) -> bool {
    (MIN_INTERVAL..=MAX_INTERVAL).contains(&interval)
}

/// Thousandths of a probe a second, rounded up.
fn per_mille(interval: Duration) -> u64 {
    1_000_000_000_u64.div_ceil((interval.as_micros() as u64).max(1))
}
