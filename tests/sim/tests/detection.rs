#![cfg(test)]

//! Detection time of silent backends, and absence of false positives: the prober's scheduler and the controller's health
//! tracking, combined in virtual time with seeded jitter, loss and latency.

use std::net::Ipv4Addr;
use std::time::Duration;

use maglev_core::config::{Healthcheck, Probe};
use maglev_core::health::{Health, Thresholds, Tracker};
use maglev_core::time::WallTime;
use maglev_ipc::{Check, CheckId, OutcomeCode, ProbeKind as Kind, ProbeTimeout};
use maglevd_prober::probe_id::ProbeId;
use maglevd_prober::scheduler::{AcceptedCheck, Scheduler, StartLimits, StartResult};
use maglevd_prober::verdict::Verdict;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const BACKENDS: usize = 200;
const FIXED: ProbeTimeout = ProbeTimeout::Fixed(Duration::from_secs(1));
const AUTO: ProbeTimeout = ProbeTimeout::Auto { min: Duration::from_millis(50), max: Duration::from_secs(1) };

/// Latency of a server at a given time; `None` for no reply.
type LatencyModel = Box<dyn Fn(&mut fastrand::Rng, u64) -> Option<u64>>;

/// Backends, their probes and their health.
struct DetectionSim {
    now: u64,
    scheduler: Scheduler<(), ()>,
    random: fastrand::Rng,
    healthcheck: Healthcheck,
    backends: Vec<(Tracker, LatencyModel)>,
    /// Times of replies and the probes they belong to.
    answers: Vec<(u64, ProbeId)>,
    /// Transitions: time, backend and new health.
    transitions: Vec<(u64, usize, Health)>,
    probes: usize,
}

impl DetectionSim {
    fn new(timeout: ProbeTimeout, fall: u32, server: impl Fn() -> LatencyModel) -> Self {
        let healthcheck = Healthcheck {
            probe: Probe::Icmp,
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_millis(100),
            down_interval: Duration::from_secs(1),
            timeout,
            rise: 2,
            fall,
            source4: None,
            source6: None,
        };
        let limits = Thresholds { rise: 2, fall };
        let tracker = || Tracker::new(limits, 5, Health::Unknown, WallTime(0));
        let mut scheduler = Scheduler::new(1, StartLimits { rate: 100_000, rate_per_address: 200 }, 0);
        let member = |n: usize| AcceptedCheck {
            id: CheckId(n as u32),
            interval: healthcheck.fast_interval,
            stable_after: limits.stable_after(),
            check: check(&healthcheck, n),
            plan: (),
        };
        scheduler.replace_set((0..BACKENDS).map(member).collect(), 0);
        Self {
            now: 0,
            scheduler,
            random: fastrand::Rng::with_seed(1),
            healthcheck,
            backends: (0..BACKENDS).map(|_| (tracker(), server())).collect(),
            answers: Vec::new(),
            transitions: Vec::new(),
            probes: 0,
        }
    }

    fn run(&mut self, until: u64) {
        loop {
            let answer = self.answers.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX);
            let next = answer.min(self.scheduler.next_wakeup(self.now));
            if next > until {
                break;
            }
            self.now = next;
            self.step();
        }
        self.now = until;
    }

    fn step(&mut self) {
        let Self { now, scheduler, random, backends, answers, probes, .. } = self;
        for (_, key) in answers.extract_if(.., |(at, _)| *at <= *now) {
            scheduler.finish_probe(key, Verdict::from_code(OutcomeCode::L7Ok), *now);
        }
        scheduler.process_timers(*now, |(), (), _| Verdict::from_code(OutcomeCode::L4Tout));
        while scheduler.start_next(*now, |key, check, ()| {
            *probes += 1;
            let answer = backends[index(check)].1(random, *now);
            answers.extend(answer.map(|after| (*now + after, key)));
            StartResult::InFlight(())
        }) {}
        self.apply_outcomes();
    }

    /// Passes outcomes to the controller without delay, and sets the resulting intervals.
    fn apply_outcomes(&mut self) {
        let outcomes: Vec<_> = self.scheduler.take_reports().map(|report| report.outcome).collect();
        for outcome in outcomes {
            let index = outcome.check.0 as usize;
            let tracker = &mut self.backends[index].0;
            if let Some(transition) = tracker.record_outcome(&outcome, false, WallTime(self.now)) {
                self.transitions.push((self.now, index, transition.to));
            }
            let pace = tracker.probe_interval(&self.healthcheck);
            self.scheduler.set_intervals(&[(outcome.check, pace)], self.now);
        }
    }
}

fn check(healthcheck: &Healthcheck, index: usize) -> Check {
    let target = Ipv4Addr::from_bits(0x0a00_0000 + index as u32).into();
    Check { probe: Kind::Icmp, ..healthcheck.check(target) }
}

fn index(check: &Check) -> usize {
    let std::net::IpAddr::V4(v4) = check.target else { panic!("{check:?}") };
    (v4.to_bits() - 0x0a00_0000) as usize
}

/// A server on the local network: 0.5 to 2 ms, plus 20 ms for one reply in a hundred.
fn local_latency(random: &mut fastrand::Rng) -> u64 {
    let tail = if random.u8(0..100) == 0 { 20 * MS } else { 0 };
    random.u64(MS / 2..2 * MS) + tail
}

/// Silences each backend at its own time. Returns the detection times in ascending order.
fn detection_times(timeout: ProbeTimeout) -> Vec<Duration> {
    let mut sim = DetectionSim::new(timeout, 3, || Box::new(|random, _| Some(local_latency(random))));
    sim.run(20 * SECOND);
    assert!(sim.backends.iter().all(|(tracker, _)| tracker.health() == Health::Up));
    let mut instants = Vec::new();
    for (_, server) in &mut sim.backends {
        let instant = sim.now + sim.random.u64(0..10 * SECOND);
        instants.push(instant);
        *server = Box::new(move |random, now| (now < instant).then(|| local_latency(random)));
    }
    sim.transitions.clear();
    sim.run(sim.now + 20 * SECOND);
    let downs = sim.transitions.iter().map(|(at, backend, to)| {
        assert_eq!(*to, Health::Down);
        Duration::from_nanos(at - instants[*backend])
    });
    let mut times: Vec<_> = downs.collect();
    assert_eq!(times.len(), BACKENDS);
    times.sort();
    times
}

#[test]
fn silent_backend_is_detected_soon() {
    for (timeout, median, longest) in [(FIXED, 1750, 2350), (AUTO, 950, 1550)] {
        let times = detection_times(timeout);
        let at = |percent: usize| times[(BACKENDS - 1) * percent / 100].as_millis();
        println!("{timeout:?}: {} {} {} {} (p50, p90, p99, max, in ms)", at(50), at(90), at(99), at(100));
        assert!(at(50) <= median && at(100) <= longest, "{} {}", at(50), at(100));
    }
}

/// Runs ten minutes and asserts no transitions and no more than `most` probes.
fn assert_no_transitions(timeout: ProbeTimeout, fall: u32, most: usize, server: impl Fn() -> LatencyModel) {
    let mut sim = DetectionSim::new(timeout, fall, server);
    sim.run(20 * SECOND);
    sim.transitions.clear();
    sim.probes = 0;
    sim.run(sim.now + 600 * SECOND);
    assert_eq!(sim.transitions, [], "{timeout:?}");
    let each = sim.probes / BACKENDS;
    assert!((590..=most).contains(&each), "{timeout:?}: {each} probes of each backend in 600 s");
}

#[test]
fn random_loss_takes_nothing_down() {
    for timeout in [FIXED, AUTO] {
        assert_no_transitions(timeout, 3, 680, || {
            Box::new(|random, _| (random.u8(0..100) > 0).then(|| local_latency(random)))
        });
    }
}

#[test]
fn slow_server_stays_up_without_extra_probes() {
    for timeout in [FIXED, AUTO] {
        assert_no_transitions(timeout, 1, 680, || Box::new(|random, _| Some(random.u64(250 * MS..350 * MS))));
    }
}

#[test]
fn tenfold_latency_increase_keeps_server_up() {
    // Latency rises tenfold at one instant, and a single failure would be enough.
    for usual in [MS, 5 * MS, 20 * MS, 80 * MS] {
        assert_no_transitions(AUTO, 1, 680, || {
            Box::new(move |random, now| {
                let spread = random.u64(usual * 9 / 10..usual * 11 / 10);
                Some(if now < 60 * SECOND { spread } else { usual * 10 })
            })
        });
    }
}

#[test]
fn repeated_pauses_take_nothing_down() {
    // Every 10 s the server pauses for 300 ms, then answers all queued requests.
    assert_no_transitions(AUTO, 3, 720, || {
        Box::new(|random, now| {
            let into = now % (10 * SECOND);
            Some(local_latency(random) + (300 * MS).saturating_sub(into))
        })
    });
}
