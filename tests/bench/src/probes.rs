//! Checkers in turn: cost of a probe, punctuality, and memory.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use super::checker::{Checker, CheckerKind, Program};
use super::config::{Check, Probe};
use super::report::{Figure, Part, Round};
use super::server;
use super::tap::{ProbePacket, ProbeTap};
use super::usage::{KernelCounters, ResourceUsage};

/// Timeout to reach the nominal rate. Afterwards the actual rate is measured.
const WARM_UP: Duration = Duration::from_secs(20);
/// Sufficient fraction of the nominal rate.
const PACE: f64 = 0.8;
/// Poll interval of the rate.
const LOOK: Duration = Duration::from_millis(500);
/// Delay between reaching the rate and the measurement.
const SETTLE: Duration = Duration::from_secs(1);
/// Probes per reused connection.
const FRESH_EVERY: u32 = 10;

const OURS: CheckerKind = CheckerKind::Ours;
const HAPROXY: CheckerKind = CheckerKind::Haproxy;
const KEEPALIVED: CheckerKind = CheckerKind::Keepalived;
const FLOOR: CheckerKind = CheckerKind::Floor;

/// Probes and checkers; each is measured with each number of backends.
const CASES: [(Probe, &[CheckerKind]); 7] = [
    (Probe::Icmp, &[OURS, FLOOR, KEEPALIVED]),
    (Probe::TcpHalf, &[OURS, FLOOR, HAPROXY]),
    (Probe::TcpFull, &[OURS, FLOOR, KEEPALIVED]),
    (Probe::Http, &[OURS, FLOOR, HAPROXY, KEEPALIVED]),
    (Probe::HttpKept, &[OURS, FLOOR]),
    (Probe::Https, &[OURS, HAPROXY, KEEPALIVED]),
    (Probe::HttpsKept, &[OURS]),
];
/// Maximum TLS handshakes per second that a machine of this kind can do at both ends.
const MAX_HANDSHAKES: u32 = 2000;

/// Comparisons of CPU time: our probe, the other checker and its probe, and the target for the ratio.
const RATIOS: [(Probe, CheckerKind, Probe, Option<f64>); 11] = [
    (Probe::Icmp, HAPROXY, Probe::TcpHalf, Some(0.35)),
    (Probe::Icmp, KEEPALIVED, Probe::Icmp, None),
    (Probe::TcpHalf, HAPROXY, Probe::TcpHalf, Some(0.5)),
    (Probe::TcpFull, HAPROXY, Probe::TcpHalf, Some(1.1)),
    (Probe::TcpFull, KEEPALIVED, Probe::TcpFull, None),
    (Probe::Http, HAPROXY, Probe::Http, Some(0.95)),
    (Probe::Http, KEEPALIVED, Probe::Http, None),
    (Probe::HttpKept, HAPROXY, Probe::Http, Some(0.4)),
    (Probe::Https, HAPROXY, Probe::Https, None),
    (Probe::Https, KEEPALIVED, Probe::Https, None),
    (Probe::HttpsKept, HAPROXY, Probe::Https, Some(0.3)),
];
/// Target for the prober's cost, relative to the C program.
const OVER_FLOOR: f64 = 1.3;
const PROBER: &str = "maglevd-prober";

/// Returns the selected cases.
fn chosen(bench: &Bench) -> Vec<(Probe, &'static [CheckerKind], u32)> {
    let sizes = bench.options.sizes.iter();
    let of_size = |&size| CASES.iter().map(move |&(probe, all)| (probe, all, size));
    let mut chosen: Vec<_> = sizes.flat_map(of_size).collect();
    if let Some(names) = &bench.options.probes {
        chosen.retain(|(probe, ..)| names.iter().any(|name| *name == probe.family()));
    }
    chosen
}

fn window(bench: &Bench, check: &Check) -> Duration {
    let window = Duration::from_secs_f64(bench.options.window);
    if check.probe.is_kept() && !bench.options.is_trial() {
        window.max(check.interval * FRESH_EVERY)
    } else {
        window
    }
}

/// Returns the estimated duration of a round.
fn estimate(bench: &Bench, check: &Check) -> Duration {
    window(bench, check) + SETTLE + 3 * LOOK
}

/// Returns the estimated total duration.
#[must_use]
pub fn total(bench: &Bench) -> Duration {
    let turns = chosen(bench).into_iter();
    let one = turns.map(|(probe, all, size)| estimate(bench, &Check::new(probe, size)) * all.len() as u32);
    one.sum::<Duration>() * bench.options.rounds
}

/// Measures all selected cases.
#[must_use]
pub fn run(bench: &mut Bench) -> Part {
    let mut part = bench.part();
    let cases = chosen(bench);
    for round in 1..=bench.options.rounds {
        for &(probe, all, size) in &cases {
            for &who in all {
                turn(bench, &mut part, who, probe, size, round);
            }
        }
    }
    let sizes = bench.options.sizes.clone();
    for size in sizes {
        follow(&mut part, size);
    }
    part
}

fn turn(bench: &mut Bench, part: &mut Part, who: CheckerKind, probe: Probe, size: u32, round: u32) {
    let check = Check::new(probe, size);
    let what = format!("{} with {}, {size} backends", probe.name(), who.name());
    let took = estimate(bench, &check);
    if probe == Probe::Https && size > MAX_HANDSHAKES {
        part.leave_out(format!(
            "{} at {size} backends: more handshakes per second than this machine can do at both ends",
            probe.name()
        ));
        bench.screen.report(took, &format!("{what}: left out"));
        return;
    }
    match measure(bench, who, &check) {
        Err(why) => {
            part.leave_out(format!("{what}: {why:#}"));
            bench.screen.report(took, &format!("{what}: left out"));
        }
        Ok(found) => {
            let (cpu, achieved) = (found.cpu, found.achieved * 100.0);
            let (rounds, late) = (bench.options.rounds, found.late[0]);
            let found_text =
                format!("{cpu:.1} µs a probe, {achieved:.1} % of the probes, p99 {late:.1} ms late");
            bench.screen.report(took, &format!("{round}/{rounds} {what}: {found_text}"));
            part.add(who.name(), probe.name(), size, check.interval.as_secs_f64(), found);
        }
    }
}

/// Runs one round: starts the checker, waits for its nominal rate, and measures.
///
/// # Errors
/// If the checker does not start or exits.
pub fn measure(bench: &mut Bench, who: CheckerKind, check: &Check) -> anyhow::Result<Round> {
    let arrivals = bench.server.state.arrivals.clone();
    arrivals.forget();
    let packet = match check.probe {
        Probe::Icmp => Some(ProbePacket::Echo),
        Probe::TcpHalf | Probe::TcpFull => Some(ProbePacket::Syn(server::TCP)),
        _ => None,
    };
    let _tap = packet.map(|packet| ProbeTap::new(packet, check.backends, arrivals.clone())).transpose()?;
    let mut checker = bench.start(who, check)?;
    settle(bench, &mut checker, check)?;
    arrivals.begin();
    let before = CounterSnapshot::now(bench, &checker, check)?;
    thread::sleep(window(bench, check));
    let after = CounterSnapshot::now(bench, &checker, check)?;
    let gaps = arrivals.gaps();
    checker.check()?;
    Ok(before.until(&after, check, who, &gaps))
}

/// Waits for the nominal rate or the timeout.
///
/// # Errors
/// If the checker exits.
pub fn settle(bench: &Bench, checker: &mut Checker, check: &Check) -> anyhow::Result<()> {
    let began = Instant::now();
    let wanted = pace(check) * LOOK.as_secs_f64();
    let mut last = count(bench, check.probe)?;
    let mut looks = 0;
    while looks < 2 && began.elapsed() < WARM_UP {
        thread::sleep(LOOK);
        checker.check()?;
        let now = count(bench, check.probe)?;
        looks = if (now - last) as f64 >= wanted * PACE { looks + 1 } else { 0 };
        last = now;
    }
    if !bench.options.is_trial() {
        thread::sleep(SETTLE);
    }
    Ok(())
}

/// Returns the nominal rate in probes per second.
fn pace(check: &Check) -> f64 {
    f64::from(check.backends) / check.interval.as_secs_f64()
}

/// Returns the number of probes that arrived, from the server or, for probes invisible to it, from kernel counters. A half-open
/// probe ends with one reset from either side.
///
/// # Errors
/// If the kernel counters cannot be read.
pub fn count(bench: &Bench, probe: Probe) -> anyhow::Result<u64> {
    Ok(match probe {
        Probe::Icmp => KernelCounters::now()?.get("Icmp.InEchos"),
        Probe::TcpHalf => KernelCounters::now()?.get("Tcp.OutRsts"),
        _ => bench.server.state.served.load(Ordering::Relaxed),
    })
}

/// A snapshot of the counters.
struct CounterSnapshot {
    at: Instant,
    count: u64,
    programs: BTreeMap<String, ResourceUsage>,
}

impl CounterSnapshot {
    fn now(bench: &Bench, checker: &Checker, check: &Check) -> anyhow::Result<Self> {
        let usage = |part: &Program| Ok((part.name.to_owned(), ResourceUsage::of(&part.pids())?));
        let programs = checker.parts.iter().map(usage).collect::<anyhow::Result<_>>()?;
        Ok(Self { at: Instant::now(), count: count(bench, check.probe)?, programs })
    }

    fn until(&self, end: &Self, check: &Check, who: CheckerKind, gaps: &[Duration]) -> Round {
        let probes = end.count - self.count;
        let per_probe = |time: Duration| time.as_secs_f64() * 1e6 / probes.max(1) as f64;
        let (mut cpu, mut ticks, mut system) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let (mut parts, mut memory) = (BTreeMap::new(), BTreeMap::new());
        for (name, after) in &end.programs {
            let before = self.programs.get(name).copied().unwrap_or_default();
            let own = after.cpu - before.cpu;
            cpu += own;
            system += after.system - before.system;
            ticks += after.system - before.system + after.user - before.user;
            parts.insert(name.clone(), per_probe(own));
            memory.insert(name.clone(), after.rss as f64 / f64::from(1 << 20));
        }
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let gap = [50, 99, 100].map(|percent| {
            let index = gaps.len().saturating_sub(1) * percent / 100;
            gaps.get(index).copied().map_or(0.0, ms)
        });
        let meant = ms(check.interval) * (1.0 + who.jitter());
        let seconds = (end.at - self.at).as_secs_f64();
        Round {
            cpu: per_probe(cpu),
            parts,
            system: system.as_secs_f64() / ticks.as_secs_f64().max(1e-9),
            probes,
            achieved: probes as f64 / (pace(check) * seconds),
            gap,
            late: [gap[1], gap[2]].map(|gap| (gap - meant).max(0.0)),
            memory,
        }
    }
}

/// Adds figures derived from the cases: ratios per round.
fn follow(part: &mut Part, size: u32) {
    let mut figures = Vec::new();
    let whole = |round: &Round| round.cpu;
    for (probe, who, other, most) in RATIOS {
        let ours = part.case(OURS.name(), probe.name(), size);
        let mut name = format!(
            "{}: vpp-maglev relative to {}'s {}, {size} backends",
            probe.name(),
            who.name(),
            other.name()
        );
        let mut theirs = part.case(who.name(), other.name(), size);
        if theirs.is_none() && other == Probe::Https {
            theirs = part.cases.iter().find(|case| case.who == who.name() && case.probe == other.name());
            if let Some(theirs) = theirs {
                name += &format!(" (theirs {})", theirs.backends);
            }
        }
        let (Some(ours), Some(theirs)) = (ours, theirs) else { continue };
        let values = ours.rounds.iter().map(whole).zip(theirs.rounds.iter().map(whole));
        let figure = Figure::new(name, "×", values.map(|(ours, theirs)| ours / theirs).collect());
        // The target applies to the larger number.
        figures.push(match most.filter(|_| size >= 10_000) {
            Some(most) => figure.at_most(most),
            None => figure,
        });
    }
    for (probe, ..) in CASES {
        let ours = part.case(OURS.name(), probe.name(), size);
        let Some((ours, floor)) = ours.zip(part.case(FLOOR.name(), probe.name(), size)) else { continue };
        let alone = ours.rounds.iter().filter_map(|round| round.parts.get(PROBER).copied());
        let values = alone.zip(floor.rounds.iter().map(whole)).map(|(ours, floor)| ours / floor).collect();
        let name = format!("{}: maglevd-prober relative to the C floor, {size} backends", probe.name());
        let figure = Figure::new(name, "×", values);
        figures.push(if size >= 10_000 { figure.at_most(OVER_FLOOR) } else { figure });
    }
    let ours: Vec<_> =
        part.cases.iter().filter(|case| case.who == OURS.name() && case.backends == size).collect();
    for case in ours {
        let all = |of: fn(&Round) -> f64| case.rounds.iter().map(of).collect::<Vec<_>>();
        let name = |what: &str| format!("{}: {what}, {size} backends", case.probe);
        let achieved =
            Figure::new(name("probes of vpp-maglev that arrived"), "%", all(|round| round.achieved * 100.0));
        figures.push(achieved.at_least(99.9));
        let late = Figure::new(name("vpp-maglev's lateness, p99"), "ms", all(|round| round.late[0]));
        figures.push(late.at_most(10.0));
    }
    figures.into_iter().for_each(|figure| part.add_figure(figure));
}
