mod overlap;
mod schedule;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use maglev_ipc::{Outcome, ProbeKind as Kind, ProbeTimeout};

use super::scheduled_check::MAX_PROBES;
use super::*;

const MS: Nanos = 1_000_000;
const SECOND: Duration = Duration::from_secs(1);
/// The shortest there is between two starts of a check in doubt.
const FAST: Duration = Duration::from_millis(100);
const OK: Verdict = Verdict::from_code(OutcomeCode::L4Ok);

fn check(last: u8) -> Check {
    let target = Ipv4Addr::new(192, 0, 2, last).into();
    Check {
        target,
        source: None,
        timeout: ProbeTimeout::Fixed(SECOND),
        fast_interval: FAST,
        probe: Kind::Icmp,
    }
}

/// A probe is known by what its target ends in.
fn last(check: &Check) -> u8 {
    let IpAddr::V4(v4) = check.target else { panic!("{check:?}") };
    v4.octets()[3]
}

fn member(id: u32, last: u8) -> AcceptedCheck<()> {
    AcceptedCheck { id: CheckId(id), interval: SECOND, settled: 3, check: check(last), plan: () }
}

/// When a server answers a probe that reaches it at that time; `None` is never.
type Server = fn(&mut fastrand::Rng, u8, Nanos) -> Option<Nanos>;

/// A scheduler without a host: its probes are answered as the test says.
struct World {
    scheduler: Scheduler<(), u8>,
    now: Nanos,
    server: Server,
    /// What each answer comes to.
    verdict: Verdict,
    random: fastrand::Rng,
    /// What is in flight, when it started, and when it will be answered.
    flying: Vec<(Nanos, ProbeId, Option<Nanos>)>,
    outcomes: Vec<Outcome>,
    /// Which of the outcomes change nothing.
    settled: Vec<bool>,
    starts: Vec<Nanos>,
}

fn at_once(_: &mut fastrand::Rng, _: u8, now: Nanos) -> Option<Nanos> {
    Some(now)
}

fn never(_: &mut fastrand::Rng, _: u8, _: Nanos) -> Option<Nanos> {
    None
}

impl World {
    fn new(rate: u32, server: Server) -> Self {
        Self {
            scheduler: Scheduler::new(7, rate, 0),
            now: 0,
            server,
            verdict: OK,
            random: fastrand::Rng::with_seed(7),
            flying: Vec::new(),
            outcomes: Vec::new(),
            settled: Vec::new(),
            starts: Vec::new(),
        }
    }

    fn of(members: Vec<AcceptedCheck<()>>, server: Server) -> Self {
        let mut world = Self::new(100_000, server);
        world.scheduler.replace_set(members, 0);
        world
    }

    /// One turn, at that time.
    fn turn(&mut self, now: Nanos) {
        self.now = now;
        let (answered, flying) =
            self.flying.iter().partition(|(.., answer)| answer.is_some_and(|at| at <= now));
        self.flying = flying;
        let answered: Vec<(Nanos, ProbeId, Option<Nanos>)> = answered;
        for (_, key, _) in answered {
            assert!(self.scheduler.finish_probe(key, self.verdict.clone(), now).is_some());
        }
        self.scheduler.process_timers(now, |(), _, _| Verdict::from_code(OutcomeCode::L4Tout));
        let Self { flying, starts, random, .. } = self;
        let mut start = |key, check: &Check| {
            starts.push(now);
            flying.push((now, key, (self.server)(random, last(check), now)));
            last(check)
        };
        while self.scheduler.start_next(now, |key, check, ()| StartResult::InFlight(start(key, check))) {}
        self.flying.retain(|(_, key, _)| self.scheduler.in_flight_mut(*key).is_some());
        for OutcomeReport { outcome, is_batchable } in self.scheduler.take_reports() {
            self.outcomes.push(outcome);
            self.settled.push(is_batchable);
        }
    }

    /// When something happens next.
    fn next(&self) -> Nanos {
        let answers = self.flying.iter().filter_map(|(.., answer)| *answer);
        answers.chain([self.scheduler.next_wakeup(self.now)]).min().unwrap()
    }

    /// Turns as they fall due, up to that time.
    fn run(&mut self, until: Nanos) {
        while let next = self.next()
            && next <= until
        {
            self.turn(next);
        }
        self.now = until;
    }

    fn run_for(&mut self, time: Duration) {
        self.run(self.now + nanos(time));
    }

    fn keys(&self) -> Vec<ProbeId> {
        self.flying.iter().map(|(_, key, _)| *key).collect()
    }
}
