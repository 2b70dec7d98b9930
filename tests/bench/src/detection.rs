//! How long it takes until a backend that fails is called down, by each checker's own log.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::Bench;
use super::checker::Who;
use super::config::{Check, Probe};
use super::log::Log;
use super::report::{Figure, Part, percentile};
use super::server::Health;

/// How checkers are told to probe.
const INTERVAL: Duration = Duration::from_secs(1);
const FAST: Duration = Duration::from_millis(100);
const FALL: u32 = 3;
/// What the slowest can take: an interval, and three time-outs of a second with pauses between them.
const LONGEST: Duration = Duration::from_secs(6);
/// Failures of each kind in a second, at random instants.
const PER_SECOND: u32 = 16;
/// What comes before the first failure.
const WARM_UP: Duration = Duration::from_secs(4);

const KINDS: [(Health, &str); 2] = [(Health::Sick, "503"), (Health::Silent, "silent")];
/// Whose, whether our time-outs follow the answers, and what is to be reached where a backend is silent: the median in s.
const CHECKERS: [(Who, bool, Option<f64>); 4] = [
    (Who::Ours, false, Some(2.0)),
    (Who::Ours, true, Some(1.2)),
    (Who::Haproxy, false, None),
    (Who::Keepalived, false, None),
];

/// How many backends lose packets, and for how long; one packet in so many is lost.
const LOSING: u32 = 1000;
const LOSS: Duration = Duration::from_secs(10);
const ONE_IN: u32 = 100;

fn name(who: Who, auto: bool) -> String {
    if auto { format!("{}, timeout: auto", who.name()) } else { who.name().to_owned() }
}

/// How long one checker is believed to take.
fn estimate(bench: &Bench) -> Duration {
    WARM_UP + Duration::from_secs_f64(f64::from(bench.options.failures) / f64::from(PER_SECOND)) + LONGEST
}

/// How long all are believed to take.
#[must_use]
pub fn total(bench: &Bench) -> Duration {
    (estimate(bench) + LOSS + WARM_UP) * CHECKERS.len() as u32
}

/// Measures all checkers, one after the other.
#[must_use]
pub fn run(bench: &mut Bench) -> Part {
    let mut part = bench.part();
    for (who, auto, reach) in CHECKERS {
        let took = estimate(bench);
        match detect(bench, who, auto) {
            Err(why) => {
                part.leave_out(format!("{}: {why:#}", name(who, auto)));
                bench.screen.tell(took, &format!("{}: left out", name(who, auto)));
            }
            Ok((times, wrong)) => {
                for (health, kind) in KINDS {
                    let times = times.get(kind).cloned().unwrap_or_default();
                    let (middle, late) = (percentile(&times, 50.0), percentile(&times, 99.0));
                    let text = format!(
                        "{}: {middle:.2} s until a {kind} backend is down, p99 {late:.2} s",
                        name(who, auto)
                    );
                    bench.screen.tell(took / KINDS.len() as u32, &text);
                    let figure = Figure::new(format!("{kind}: {}", name(who, auto)), "s", times);
                    part.tell(match reach.filter(|_| health == Health::Silent) {
                        Some(most) => figure.at_most(most),
                        None => figure,
                    });
                }
                part.tell(Figure::new(
                    format!("wrong or missing verdicts: {}", name(who, auto)),
                    "",
                    vec![wrong],
                ));
            }
        }
    }
    for (who, auto, _) in CHECKERS {
        let what =
            format!("well backends called down in {LOSS:?}, {LOSING} of them losing one packet in {ONE_IN}");
        match lose(bench, who, auto) {
            Err(why) => part.leave_out(format!("loss, {}: {why:#}", name(who, auto))),
            Ok(wrong) => {
                let figure = Figure::new(format!("{what}: {}", name(who, auto)), "", vec![wrong]);
                part.tell(if who == Who::Ours { figure.at_most(0.0) } else { figure });
            }
        }
        bench.screen.tell(LOSS + WARM_UP, &format!("{} where packets are lost", name(who, auto)));
    }
    part
}

/// Lets packets be lost between a checker and backends that are all well, and counts those that it calls down.
fn lose(bench: &mut Bench, who: Who, auto: bool) -> anyhow::Result<f64> {
    let backends = LOSING.min(bench.options.sizes.iter().copied().max().unwrap_or(LOSING));
    let check =
        Check { fast: FAST, fall: FALL, interval: INTERVAL, auto, ..Check::new(Probe::Http, backends) };
    let mut checker = bench.start(who, &check)?;
    let part = checker.parts.last().context("no program")?.name;
    let mut log = Log::open(&bench.kit.log(part))?;
    thread::sleep(WARM_UP);
    checker.check()?;
    // What came before is another matter.
    log.lines()?;
    let _loss = Loss::begin()?;
    let mut wrong = 0;
    let span = if bench.options.is_trial() { INTERVAL } else { LOSS };
    log.follow(Instant::now() + span, |line, _| wrong += u32::from(verdict(who, line).is_some()))?;
    checker.check()?;
    Ok(wrong.into())
}

/// One packet in [`ONE_IN`] is lost on its way to whoever it is for, until dropped.
struct Loss;

impl Loss {
    fn begin() -> anyhow::Result<Self> {
        nft(&format!(
            "add table ip loss; add chain ip loss input {{ type filter hook input priority 0; }}; \
             add rule ip loss input numgen random mod {ONE_IN} 0 drop"
        ))?;
        Ok(Self)
    }
}

impl Drop for Loss {
    fn drop(&mut self) {
        if let Err(why) = nft("delete table ip loss") {
            eprintln!("bench: packets are lost from now on: {why:#}");
        }
    }
}

fn nft(script: &str) -> anyhow::Result<()> {
    let output = Command::new("nft").arg(script).output().context("nft cannot be run")?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Lets backends fail, each at an instant of its own. For each kind the times in s, and how many verdicts were wrong or did
/// not come.
fn detect(
    bench: &mut Bench,
    who: Who,
    auto: bool,
) -> anyhow::Result<(BTreeMap<&'static str, Vec<f64>>, f64)> {
    let failures = bench.options.failures;
    let backends = failures * KINDS.len() as u32;
    let check =
        Check { fast: FAST, fall: FALL, interval: INTERVAL, auto, ..Check::new(Probe::Http, backends) };
    let mut checker = bench.start(who, &check)?;
    let part = checker.parts.last().context("no program")?.name;
    let mut log = Log::open(&bench.kit.log(part))?;
    let state = bench.server.state.clone();
    thread::sleep(WARM_UP);
    checker.check()?;
    let mut down: BTreeMap<u32, Instant> = BTreeMap::new();
    let mut wrong = log.lines()?.iter().filter_map(|line| verdict(who, line)).count();
    let span = Duration::from_secs_f64(f64::from(failures) / f64::from(PER_SECOND));
    let began = Instant::now();
    let mut failed: BTreeMap<u32, Instant> = BTreeMap::new();
    // In an order that has nothing to do with that of the probes; the step has no divisor in common with their number.
    for number in 0..backends {
        let backend = number.wrapping_mul(7919) % backends;
        let due = began + span * number / backends;
        log.follow(due, |line, at| {
            if let Some(backend) = verdict(who, line) {
                down.entry(backend).or_insert(at);
            }
        })?;
        state.ail(backend, KINDS[(number % 2) as usize].0);
        failed.insert(backend, Instant::now());
    }
    log.follow(Instant::now() + LONGEST, |line, at| {
        if let Some(backend) = verdict(who, line) {
            down.entry(backend).or_insert(at);
        }
    })?;
    checker.check()?;
    drop(checker);
    let mut times: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for number in 0..backends {
        let backend = number.wrapping_mul(7919) % backends;
        state.ail(backend, Health::Well);
        match (down.get(&backend), failed.get(&backend)) {
            (Some(down), Some(failed)) if down >= failed => {
                let kind = KINDS[(number % 2) as usize].1;
                times.entry(kind).or_default().push(down.duration_since(*failed).as_secs_f64());
            }
            _ => wrong += 1,
        }
    }
    Ok((times, wrong as f64))
}

/// The backend that a line calls down.
fn verdict(who: Who, line: &str) -> Option<u32> {
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    match who {
        Who::Ours => {
            let goes_down = line.contains("backend changed state") && line.contains(" to=down");
            number(line.split_once("backend=b").filter(|_| goes_down)?.1)
        }
        Who::Haproxy => number(line.split_once("/b").filter(|_| line.contains(" is DOWN"))?.1),
        Who::Keepalived => {
            let (_, rest) = line.split_once(" service [")?;
            let goes_down = line.contains("Removing") || line.contains("Disabling");
            super::address::backend(rest.split(']').next().filter(|_| goes_down)?.parse().ok()?)
        }
        Who::Floor => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_from_each_checkers_log() {
        let ours = "WARN backend changed state event=backend backend=b12 address=127.10.0.13 from=up to=down code=\"L7STS\"";
        assert_eq!(verdict(Who::Ours, ours), Some(12));
        assert_eq!(verdict(Who::Ours, &ours.replace("to=down", "to=up")), None);
        let haproxy = "Server p0/b12 is DOWN, reason: Layer7 wrong status";
        assert_eq!(verdict(Who::Haproxy, haproxy), Some(12));
        let keepalived =
            "Sun Nov 22 10:00:00 2026: Removing service [127.10.0.13]:tcp:7002 from VS [198.18.0.1]:tcp:7002";
        assert_eq!(verdict(Who::Keepalived, keepalived), Some(12));
    }
}
