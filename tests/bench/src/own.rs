//! Own costs: start-up, idle, scrapes, and growth with the number of backends.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::Bench;
use super::checker::{self, Checker, CheckerKind};
use super::config::{Check, Probe};
use super::probes::{self, count};
use super::report::{Figure, Part};
use super::usage::ResourceUsage;
use maglev_lab::metrics;

/// Address of our metrics.
pub const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9091);
/// Repetitions of each measurement.
const TIMES: usize = 5;
/// Timeout for a checker to start probing.
const PATIENCE: Duration = Duration::from_secs(20);
/// Probe interval of an idle system.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// Numbers of backends for the growth of costs.
const GROWTH: [u32; 5] = [100, 1000, 5000, 20_000, 50_000];
/// Estimated total duration.
pub const TOTAL: Duration = Duration::from_secs(100);
const CONTROLLER: &str = "maglevd";

/// Measures everything in this part.
///
/// # Errors
/// If a program does not start.
pub fn run(bench: &mut Bench) -> anyhow::Result<Part> {
    let mut part = bench.part();
    let backends = *bench.options.sizes.iter().max().unwrap_or(&10_000);
    starts(bench, backends, &mut part)?;
    bench.screen.report(TOTAL / 10, "start to first probe");
    scrapes(bench, backends, &mut part)?;
    bench.screen.report(TOTAL / 10, "scrapes");
    for who in [CheckerKind::Ours, CheckerKind::Haproxy] {
        if let Err(why) = rest(bench, who, backends, &mut part) {
            part.leave_out(format!("{} idle: {why:#}", who.name()));
        }
        bench.screen.report(TOTAL / 5, &format!("{} at rest", who.name()));
    }
    growth(bench, &mut part)?;
    bench.screen.report(TOTAL * 2 / 5, "growth");
    Ok(part)
}

/// Measures the time from the start of the first program to the first probe.
fn starts(bench: &mut Bench, backends: u32, part: &mut Part) -> anyhow::Result<()> {
    let check = Check::new(Probe::Http, backends);
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let before = count(bench, check.probe)?;
        let checker = bench.start(CheckerKind::Ours, &check)?;
        let began = checker.parts.iter().map(|part| part.began).min().context("no program")?;
        while count(bench, check.probe)? == before {
            ensure!(began.elapsed() < PATIENCE, "no probe arrives");
            thread::sleep(Duration::from_micros(200));
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    part.add_figure(
        Figure::new(format!("start to first probe, {backends} backends"), "ms", times).at_most(100.0),
    );
    Ok(())
}

/// Measures the cost of a scrape, beyond the background load.
fn scrapes(bench: &mut Bench, backends: u32, part: &mut Part) -> anyhow::Result<()> {
    let check =
        Check { interval: IDLE_INTERVAL, fast: IDLE_INTERVAL, ..Check::new(Probe::TcpFull, backends) };
    let checker = bench
        .start(CheckerKind::Ours, &check)
        .or_else(|_| bench.start(CheckerKind::Ours, &Check { probe: Probe::Http, ..check }))?;
    thread::sleep(Duration::from_secs(3));
    let (mut cpu, mut bytes, mut took) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let (idle, span) = used(&checker, || thread::sleep(Duration::from_millis(500)))?;
        let rate = idle.as_secs_f64() / span.as_secs_f64();
        let mut length = 0;
        let (busy, span) = used(&checker, || length = metrics::get(METRICS, "/metrics", "").len())?;
        cpu.push((busy.as_secs_f64() - rate * span.as_secs_f64()).max(0.0) * 1e3);
        took.push(span.as_secs_f64() * 1e3);
        bytes.push(length as f64 / f64::from(1 << 20));
    }
    let name = |what: &str| format!("/metrics at {backends} backends: {what}");
    part.add_figure(Figure::new(name("CPU time"), "ms", cpu).at_most(50.0));
    part.add_figure(Figure::new(name("duration"), "ms", took));
    part.add_figure(Figure::new(name("size"), "MiB", bytes));
    Ok(())
}

/// Returns the controller's CPU time during `work`, and its duration.
fn used(checker: &Checker, work: impl FnOnce()) -> anyhow::Result<(Duration, Duration)> {
    let maglevd = checker.parts.iter().find(|part| part.name == CONTROLLER).context("no maglevd")?;
    let pids = maglevd.pids();
    let (before, began) = (ResourceUsage::of(&pids)?, Instant::now());
    work();
    Ok((ResourceUsage::of(&pids)?.cpu - before.cpu, began.elapsed()))
}

/// Measures the cost of checkers that probe each backend every 10 s.
fn rest(bench: &mut Bench, who: CheckerKind, backends: u32, part: &mut Part) -> anyhow::Result<()> {
    let check = Check { interval: IDLE_INTERVAL, fast: IDLE_INTERVAL, ..Check::new(Probe::Http, backends) };
    let mut checker = bench.start(who, &check)?;
    // First probes are spread over a second, or over the interval.
    thread::sleep(Duration::from_secs(3));
    checker.check()?;
    let pids: Vec<_> = checker.parts.iter().flat_map(checker::Program::pids).collect();
    let before = ResourceUsage::of(&pids)?;
    let began = Instant::now();
    thread::sleep(IDLE_INTERVAL);
    let after = ResourceUsage::of(&pids)?;
    let share = (after.cpu - before.cpu).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    part.add_figure(Figure::new(
        format!("{}: HTTP every 10 s, {backends} backends", who.name()),
        "% of a CPU",
        vec![share],
    ));
    Ok(())
}

/// Measures the growth of costs with the number of backends.
fn growth(bench: &mut Bench, part: &mut Part) -> anyhow::Result<()> {
    let largest = *bench.options.sizes.iter().max().unwrap_or(&10_000) * 5;
    let (mut sizes, mut seconds, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for backends in GROWTH.into_iter().filter(|&backends| backends <= largest) {
        let check = Check::new(Probe::Icmp, backends);
        let round = match probes::measure(bench, CheckerKind::Ours, &check) {
            Ok(round) => round,
            Err(why) => {
                part.leave_out(format!("{backends} backends: {why:#}"));
                continue;
            }
        };
        let spent = round.cpu * f64::from(backends) / 1e4;
        sizes.push(f64::from(backends));
        seconds.push(spent);
        let mib: Vec<_> =
            ["maglevd-prober", CONTROLLER].map(|name| round.memory.get(name).copied().unwrap_or(0.0)).into();
        let name = |what: &str| format!("ICMP every second, {backends} backends: {what}");
        part.add_figure(Figure::new(name("CPU time per probe"), "µs", vec![round.cpu]));
        part.add_figure(Figure::new(name("probes that arrived"), "%", vec![round.achieved * 100.0]));
        part.add_figure(Figure::new(name("memory of the prober"), "MiB", vec![mib[0]]));
        part.add_figure(Figure::new(name("memory of the controller"), "MiB", vec![mib[1]]));
        memory.push(mib);
        part.add(CheckerKind::Ours.name(), Probe::Icmp.name(), backends, 1.0, round);
    }
    part.add_figure(Figure::new(
        "growth exponent of CPU time with the backends",
        "",
        vec![slope(&sizes, &seconds, f64::ln)],
    ));
    for (index, (what, reach)) in [("the prober", 2.0), ("the controller", 4.0)].into_iter().enumerate() {
        let mib: Vec<_> = memory.iter().map(|mib| mib[index] * 1024.0).collect();
        let per_backend = vec![slope(&sizes, &mib, |value| value)];
        part.add_figure(
            Figure::new(format!("memory of {what} per additional backend"), "KiB", per_backend)
                .at_most(reach),
        );
    }
    Ok(())
}

/// Returns the slope of the least-squares line on these scales.
fn slope(x: &[f64], y: &[f64], scale: fn(f64) -> f64) -> f64 {
    let points: Vec<_> = x.iter().zip(y).map(|(&x, &y)| (scale(x), scale(y))).collect();
    let count = points.len() as f64;
    let (mean_x, mean_y) =
        (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count);
    let covariance: f64 = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
    covariance / points.iter().map(|p| (p.0 - mean_x).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_exponent_is_computed() {
        let x = [1.0, 10.0, 100.0];
        assert!((slope(&x, &[3.0, 300.0, 30_000.0], f64::ln) - 2.0).abs() < 1e-9);
        assert!((slope(&x, &[7.0, 25.0, 205.0], |value| value) - 2.0).abs() < 1e-9);
    }
}
