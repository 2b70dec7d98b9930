mod overlap;
mod schedule;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use maglev_ipc::{Outcome, ProbeKind as Kind, ProbeTimeout};

use super::scheduled_check::MAX_PROBES;
use super::*;

const MS: Nanos = 1_000_000;
const SECOND: Duration = Duration::from_secs(1);
/// Interval of overlapping probes.
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

/// Identifies a probe by the last octet of its target.
fn last_octet(check: &Check) -> u8 {
    let IpAddr::V4(v4) = check.target else { panic!("{check:?}") };
    v4.octets()[3]
}

fn accepted_check(id: u32, last: u8) -> AcceptedCheck<()> {
    AcceptedCheck { id: CheckId(id), interval: SECOND, stable_after: 3, check: check(last), plan: () }
}

/// Returns the reply time of a probe that arrives at a given time; `None` for no reply.
type ServerModel = fn(&mut fastrand::Rng, u8, Nanos) -> Option<Nanos>;

/// A scheduler whose probes a server model answers.
struct SimulatedHost {
    scheduler: Scheduler<(), u8>,
    now: Nanos,
    server: ServerModel,
    /// Verdict of each reply.
    verdict: Verdict,
    random: fastrand::Rng,
    /// Probes in flight: start time, identity and reply time.
    in_flight: Vec<(Nanos, ProbeId, Option<Nanos>)>,
    outcomes: Vec<Outcome>,
    /// Batchable flag of each outcome.
    batchable: Vec<bool>,
    starts: Vec<Nanos>,
}

fn at_once(_: &mut fastrand::Rng, _: u8, now: Nanos) -> Option<Nanos> {
    Some(now)
}

fn never(_: &mut fastrand::Rng, _: u8, _: Nanos) -> Option<Nanos> {
    None
}

impl SimulatedHost {
    fn new(rate: u32, server: ServerModel) -> Self {
        Self {
            scheduler: Scheduler::new(7, StartLimits { rate, rate_per_address: 200 }, 0),
            now: 0,
            server,
            verdict: OK,
            random: fastrand::Rng::with_seed(7),
            in_flight: Vec::new(),
            outcomes: Vec::new(),
            batchable: Vec::new(),
            starts: Vec::new(),
        }
    }

    fn with_checks(checks: Vec<AcceptedCheck<()>>, server: ServerModel) -> Self {
        let mut world = Self::new(100_000, server);
        world.scheduler.replace_set(checks, 0);
        world
    }

    /// Runs one iteration.
    fn iterate(&mut self, now: Nanos) {
        self.now = now;
        let (answered, in_flight) =
            self.in_flight.iter().partition(|(.., answer)| answer.is_some_and(|at| at <= now));
        self.in_flight = in_flight;
        let answered: Vec<(Nanos, ProbeId, Option<Nanos>)> = answered;
        for (_, key, _) in answered {
            assert!(self.scheduler.finish_probe(key, self.verdict.clone(), now).is_some());
        }
        self.scheduler.process_timers(now, |(), _, _| Verdict::from_code(OutcomeCode::L4Tout));
        let Self { in_flight, starts, random, .. } = self;
        let mut start = |key, check: &Check| {
            starts.push(now);
            in_flight.push((now, key, (self.server)(random, last_octet(check), now)));
            last_octet(check)
        };
        while self.scheduler.start_next(now, |key, check, ()| StartResult::InFlight(start(key, check))) {}
        self.in_flight.retain(|(_, key, _)| self.scheduler.in_flight_mut(*key).is_some());
        for OutcomeReport { outcome, is_batchable } in self.scheduler.take_reports() {
            self.outcomes.push(outcome);
            self.batchable.push(is_batchable);
        }
    }

    /// Returns the time of the next reply or wakeup.
    fn next(&self) -> Nanos {
        let answers = self.in_flight.iter().filter_map(|(.., answer)| *answer);
        answers.chain([self.scheduler.next_wakeup(self.now)]).min().unwrap()
    }

    /// Runs iterations up to a time.
    fn run(&mut self, until: Nanos) {
        while let next = self.next()
            && next <= until
        {
            self.iterate(next);
        }
        self.now = until;
    }

    fn run_for(&mut self, time: Duration) {
        self.run(self.now + nanos(time));
    }

    fn probe_ids(&self) -> Vec<ProbeId> {
        self.in_flight.iter().map(|(_, key, _)| *key).collect()
    }
}
