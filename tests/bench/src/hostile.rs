//! Detection time of a failing backend beside a hostile server, relative to that beside the same server while it behaves.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::checker::CheckerKind;
use super::config::{self, Check, Probe};
use super::detection::{down_backend, nft};
use super::hostile_server::{HostileServer, Hostility};
use super::log::LogReader;
use super::report::{Figure, Part, median};
use super::{Bench, address};

/// Probe interval of the failing backends, as for the detection times.
const INTERVAL: Duration = Duration::from_secs(1);
const FAST: Duration = Duration::from_millis(100);
const FALL: u32 = 3;
/// Time until a failure counts as missed: several times the usual one.
const LONGEST: Duration = Duration::from_secs(12);
/// Failures per second, at times unrelated to those of the probes.
const PER_SECOND: u32 = 16;
/// Time before the first failure, and between the change of the hostile server and the next failure.
const WARM_UP: Duration = Duration::from_secs(4);
/// Backends that never fail, so that the last failures are no mass failure.
const STEADY: u32 = 10;
/// Backends of the hostile server.
const HOSTILE: u32 = 20;
/// Largest permitted relative delay.
const REACH: f64 = 1.2;

fn warm_up(bench: &Bench) -> Duration {
    if bench.options.is_trial() { INTERVAL } else { WARM_UP }
}

fn phase(bench: &Bench) -> Duration {
    warm_up(bench) + Duration::from_secs_f64(f64::from(bench.options.failures) / f64::from(PER_SECOND))
}

/// Returns the estimated total duration.
#[must_use]
pub fn total(bench: &Bench) -> Duration {
    (phase(bench) * 2 + LONGEST) * Hostility::ALL.len() as u32
}

/// Measures each kind of hostile server.
#[must_use]
pub fn run(bench: &mut Bench) -> Part {
    let mut part = bench.part();
    for hostility in Hostility::ALL {
        let name = hostility.name();
        let took = phase(bench) * 2 + LONGEST;
        match measure(bench, hostility) {
            Err(why) => {
                part.leave_out(format!("{name}: {why:#}"));
                bench.screen.report(took, &format!("{name}: left out"));
            }
            Ok([calm, hostile]) => {
                let ratio = median(&hostile) / median(&calm);
                let missed = bench.options.failures as usize - hostile.len();
                bench
                    .screen
                    .report(took, &format!("{name}: {ratio:.2} × the time until a silent backend is down"));
                part.add_figure(Figure::new(format!("{name}: until a silent backend is down"), "s", hostile));
                part.add_figure(
                    Figure::new(
                        format!("{name}: relative to the same server while it behaves"),
                        "×",
                        vec![ratio],
                    )
                    .at_most(REACH),
                );
                part.add_figure(
                    Figure::new(
                        format!("{name}: failures not found in {LONGEST:?}"),
                        "",
                        vec![missed as f64],
                    )
                    .at_most(0.0),
                );
            }
        }
    }
    part
}

/// Returns the detection times in s while the server behaves, and while it is hostile.
fn measure(bench: &mut Bench, hostility: Hostility) -> anyhow::Result<[Vec<f64>; 2]> {
    let (failures, warm_up) = (bench.options.failures, warm_up(bench));
    let first = failures * 2 + STEADY;
    let server = HostileServer::start(hostility, address::of(first), &bench.kit.directory)?;
    let mut checker = bench.start_ours(&configuration(first, hostility, server.authority()))?;
    let mut log = LogReader::open(&bench.kit.log("maglevd"))?;
    let silenced = SilencedBackends::begin()?;
    let mut down: BTreeMap<u32, Instant> = BTreeMap::new();
    let mut failed: BTreeMap<u32, Instant> = BTreeMap::new();
    let mut follow = |down: &mut BTreeMap<u32, Instant>, time: Duration| {
        log.follow(Instant::now() + time, |line, at| {
            if let Some(backend) = down_backend(CheckerKind::Ours, line) {
                down.entry(backend).or_insert(at);
            }
        })
    };
    for backend in 0..failures * 2 {
        if backend == failures {
            // The failures until then are found beside a server that behaves.
            follow(&mut down, WARM_UP)?;
            server.turn_hostile();
        }
        if backend % failures == 0 {
            follow(&mut down, warm_up)?;
            checker.check()?;
        }
        follow(&mut down, Duration::from_secs(1) / PER_SECOND)?;
        silenced.add(backend)?;
        failed.insert(backend, Instant::now());
    }
    let deadline = Instant::now() + LONGEST;
    while down.len() < failed.len() && Instant::now() < deadline {
        follow(&mut down, FAST)?;
    }
    checker.check()?;
    let times = |backends: std::ops::Range<u32>| {
        let found =
            backends.filter_map(|backend| down.get(&backend)?.checked_duration_since(failed[&backend]));
        found.filter(|time| *time <= LONGEST).map(|time| time.as_secs_f64()).collect()
    };
    Ok([times(0..failures), times(failures..failures * 2)])
}

/// Returns `maglevd`'s configuration of backends that answer pings, and of those of the hostile server after them.
fn configuration(backends: u32, hostility: Hostility, authority: &Path) -> String {
    let check = Check { fast: FAST, fall: FALL, interval: INTERVAL, ..Check::new(Probe::Icmp, backends) };
    let lines = |line: fn(u32) -> String| (backends..backends + HOSTILE).map(line).collect::<String>();
    let members = lines(|backend| format!("h{backend}: , "));
    let hostile = lines(|backend| {
        format!("    h{backend}: {{ address: {}, healthcheck: hostile }}\n", address::of(backend))
    });
    let healthcheck = hostility.healthcheck(authority);
    config::ours(&check)
        .replace("  backends:\n", &format!("    hostile: {{ {healthcheck} }}\n  backends:\n{hostile}"))
        .replace(
            "  frontends:\n",
            &format!(
                "  frontends:\n    hostile: {{ address: 172.31.0.1, pools: [ {{ name: all, backends: {{ {members} }} }} ] }}\n"
            ),
        )
}

/// A firewall that drops the pings of some backends, until dropped.
struct SilencedBackends;

impl SilencedBackends {
    fn begin() -> anyhow::Result<Self> {
        nft("add table ip silenced; add set ip silenced backends { type ipv4_addr; }; \
             add chain ip silenced input { type filter hook input priority 0; }; \
             add rule ip silenced input icmp type echo-request ip daddr @backends drop")?;
        Ok(Self)
    }

    fn add(&self, backend: u32) -> anyhow::Result<()> {
        nft(&format!("add element ip silenced backends {{ {} }}", address::of(backend)))
    }
}

impl Drop for SilencedBackends {
    fn drop(&mut self) {
        if let Err(why) = nft("delete table ip silenced") {
            eprintln!("bench: backends stay silent from now on: {why:#}");
        }
    }
}
