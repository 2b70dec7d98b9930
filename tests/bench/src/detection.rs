//! Detection time of failing backends, from each checker's log.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::Bench;
use super::checker::CheckerKind;
use super::config::{Check, Probe};
use super::log::LogReader;
use super::report::{Figure, Part, percentile};
use super::server::BackendHealth;

/// Probe interval.
const INTERVAL: Duration = Duration::from_secs(1);
const FAST: Duration = Duration::from_millis(100);
const FALL: u32 = 3;
/// Maximum detection time: an interval, and three timeouts of a second with pauses.
const LONGEST: Duration = Duration::from_secs(6);
/// Failures of each kind per second, at random times.
const PER_SECOND: u32 = 16;
/// Time before the first failure.
const WARM_UP: Duration = Duration::from_secs(4);

const KINDS: [(BackendHealth, &str); 2] =
    [(BackendHealth::Failing, "503"), (BackendHealth::Silent, "silent")];
/// Checker, adaptive timeouts, and the target for the median detection time of silent backends, in s.
const CHECKERS: [(CheckerKind, bool, Option<f64>); 4] = [
    (CheckerKind::Ours, false, Some(2.0)),
    (CheckerKind::Ours, true, Some(1.2)),
    (CheckerKind::Haproxy, false, None),
    (CheckerKind::Keepalived, false, None),
];

/// Number of backends with packet loss, its duration, and its rate.
const LOSING: u32 = 1000;
const LOSS: Duration = Duration::from_secs(10);
const ONE_IN: u32 = 100;

fn name(who: CheckerKind, auto: bool) -> String {
    if auto { format!("{}, timeout: auto", who.name()) } else { who.name().to_owned() }
}

/// Estimated duration of one checker.
fn estimate(bench: &Bench) -> Duration {
    WARM_UP + Duration::from_secs_f64(f64::from(bench.options.failures) / f64::from(PER_SECOND)) + LONGEST
}

/// Returns the estimated total duration.
#[must_use]
pub fn total(bench: &Bench) -> Duration {
    (estimate(bench) + LOSS + WARM_UP) * CHECKERS.len() as u32
}

/// Measures all checkers in turn.
#[must_use]
pub fn run(bench: &mut Bench) -> Part {
    let mut part = bench.part();
    for (who, auto, reach) in CHECKERS {
        let took = estimate(bench);
        match detect(bench, who, auto) {
            Err(why) => {
                part.leave_out(format!("{}: {why:#}", name(who, auto)));
                bench.screen.report(took, &format!("{}: left out", name(who, auto)));
            }
            Ok((times, wrong)) => {
                for (health, kind) in KINDS {
                    let times = times.get(kind).cloned().unwrap_or_default();
                    let (middle, late) = (percentile(&times, 50.0), percentile(&times, 99.0));
                    let text = format!(
                        "{}: {middle:.2} s until a {kind} backend is down, p99 {late:.2} s",
                        name(who, auto)
                    );
                    bench.screen.report(took / KINDS.len() as u32, &text);
                    let figure = Figure::new(format!("{kind}: {}", name(who, auto)), "s", times);
                    part.add_figure(match reach.filter(|_| health == BackendHealth::Silent) {
                        Some(most) => figure.at_most(most),
                        None => figure,
                    });
                }
                part.add_figure(Figure::new(
                    format!("wrong or missing transitions: {}", name(who, auto)),
                    "",
                    vec![wrong],
                ));
            }
        }
    }
    for (who, auto, _) in CHECKERS {
        let what = format!(
            "healthy backends reported down in {LOSS:?}, {LOSING} of them with a loss of one packet in {ONE_IN}"
        );
        match measure_loss(bench, who, auto) {
            Err(why) => part.leave_out(format!("loss, {}: {why:#}", name(who, auto))),
            Ok(wrong) => {
                let figure = Figure::new(format!("{what}: {}", name(who, auto)), "", vec![wrong]);
                part.add_figure(if who == CheckerKind::Ours { figure.at_most(0.0) } else { figure });
            }
        }
        bench.screen.report(LOSS + WARM_UP, &format!("{}, packet loss", name(who, auto)));
    }
    part
}

/// Adds packet loss between a checker and healthy backends, and returns the number of false DOWNs.
fn measure_loss(bench: &mut Bench, who: CheckerKind, auto: bool) -> anyhow::Result<f64> {
    let backends = LOSING.min(bench.options.sizes.iter().copied().max().unwrap_or(LOSING));
    let check =
        Check { fast: FAST, fall: FALL, interval: INTERVAL, auto, ..Check::new(Probe::Http, backends) };
    let mut checker = bench.start(who, &check)?;
    let part = checker.parts.last().context("no program")?.name;
    let mut log = LogReader::open(&bench.kit.log(part))?;
    thread::sleep(WARM_UP);
    checker.check()?;
    // Earlier lines do not count.
    log.lines()?;
    let _loss = PacketLoss::begin()?;
    let mut wrong = 0;
    let span = if bench.options.is_trial() { INTERVAL } else { LOSS };
    log.follow(Instant::now() + span, |line, _| wrong += u32::from(down_backend(who, line).is_some()))?;
    checker.check()?;
    Ok(wrong.into())
}

/// Drops one packet in [`ONE_IN`], until dropped.
struct PacketLoss;

impl PacketLoss {
    fn begin() -> anyhow::Result<Self> {
        nft(&format!(
            "add table ip loss; add chain ip loss input {{ type filter hook input priority 0; }}; \
             add rule ip loss input numgen random mod {ONE_IN} 0 drop"
        ))?;
        Ok(Self)
    }
}

impl Drop for PacketLoss {
    fn drop(&mut self) {
        if let Err(why) = nft("delete table ip loss") {
            eprintln!("bench: packets are lost from now on: {why:#}");
        }
    }
}

pub(super) fn nft(script: &str) -> anyhow::Result<()> {
    let output = Command::new("nft").arg(script).output().context("nft cannot be run")?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Fails backends at individual times. Returns detection times in s per kind, and the number of wrong or missing transitions.
fn detect(
    bench: &mut Bench,
    who: CheckerKind,
    auto: bool,
) -> anyhow::Result<(BTreeMap<&'static str, Vec<f64>>, f64)> {
    let failures = bench.options.failures;
    let backends = failures * KINDS.len() as u32;
    let check =
        Check { fast: FAST, fall: FALL, interval: INTERVAL, auto, ..Check::new(Probe::Http, backends) };
    let mut checker = bench.start(who, &check)?;
    let part = checker.parts.last().context("no program")?.name;
    let mut log = LogReader::open(&bench.kit.log(part))?;
    let state = bench.server.state.clone();
    thread::sleep(WARM_UP);
    checker.check()?;
    let mut down: BTreeMap<u32, Instant> = BTreeMap::new();
    let mut wrong = log.lines()?.iter().filter_map(|line| down_backend(who, line)).count();
    let span = Duration::from_secs_f64(f64::from(failures) / f64::from(PER_SECOND));
    let began = Instant::now();
    let mut failed: BTreeMap<u32, Instant> = BTreeMap::new();
    // An order unrelated to that of the probes: the step and the number of backends are coprime.
    for number in 0..backends {
        let backend = number.wrapping_mul(7919) % backends;
        let due = began + span * number / backends;
        log.follow(due, |line, at| {
            if let Some(backend) = down_backend(who, line) {
                down.entry(backend).or_insert(at);
            }
        })?;
        state.set_health(backend, KINDS[(number % 2) as usize].0);
        failed.insert(backend, Instant::now());
    }
    log.follow(Instant::now() + LONGEST, |line, at| {
        if let Some(backend) = down_backend(who, line) {
            down.entry(backend).or_insert(at);
        }
    })?;
    checker.check()?;
    drop(checker);
    let mut times: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for number in 0..backends {
        let backend = number.wrapping_mul(7919) % backends;
        state.set_health(backend, BackendHealth::Healthy);
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

/// Returns the backend that a log line reports as down.
pub(super) fn down_backend(who: CheckerKind, line: &str) -> Option<u32> {
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    match who {
        CheckerKind::Ours => {
            let goes_down = line.contains("backend changed state") && line.contains(" to=down");
            number(line.split_once("backend=b").filter(|_| goes_down)?.1)
        }
        CheckerKind::Haproxy => number(line.split_once("/b").filter(|_| line.contains(" is DOWN"))?.1),
        CheckerKind::Keepalived => {
            let (_, rest) = line.split_once(" service [")?;
            let goes_down = line.contains("Removing") || line.contains("Disabling");
            super::address::backend(rest.split(']').next().filter(|_| goes_down)?.parse().ok()?)
        }
        CheckerKind::Floor => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn down_transitions_are_parsed_from_logs() {
        let ours = "WARN backend changed state event=backend backend=b12 address=127.10.0.13 from=up to=down code=\"L7STS\"";
        assert_eq!(down_backend(CheckerKind::Ours, ours), Some(12));
        assert_eq!(down_backend(CheckerKind::Ours, &ours.replace("to=down", "to=up")), None);
        let haproxy = "Server p0/b12 is DOWN, reason: Layer7 wrong status";
        assert_eq!(down_backend(CheckerKind::Haproxy, haproxy), Some(12));
        let keepalived =
            "Sun Nov 22 10:00:00 2026: Removing service [127.10.0.13]:tcp:7002 from VS [198.18.0.1]:tcp:7002";
        assert_eq!(down_backend(CheckerKind::Keepalived, keepalived), Some(12));
    }
}
