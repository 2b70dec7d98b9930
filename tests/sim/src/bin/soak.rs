//! Runs the simulation for as many seeds as are asked for, and says how much time that was.

#![expect(clippy::print_stdout, reason = "it is what it is for")]

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use maglev_sim::script::FaultScript;
use maglev_sim::{RunReport, run, seeds, shrink};
use nix::time::{ClockId, clock_gettime};

/// Runs the whole system in virtual time.
#[derive(Parser)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed; else one by the clock.
    #[arg(long)]
    first: Option<u64>,
    /// This seed alone, with what is left of its deeds, and its trace.
    #[arg(long)]
    seed: Option<String>,
    /// Stop at the first seed that fails.
    #[arg(long)]
    stop: bool,
    /// How many seconds of CPU time at most.
    #[arg(long, default_value_t = u64::MAX)]
    limit: u64,
}

/// Between two lines of progress, in seconds of CPU time.
const PROGRESS: u64 = 10;

fn main() -> Result<ExitCode, String> {
    let args = Args::parse();
    if let Some(line) = &args.seed {
        let report = run(&seeds::parse(line)?)?;
        println!("{}", report.trace.join("\n"));
        return Ok(trace(&report));
    }
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() << 16;
    let first = args.first.unwrap_or_else(by_clock);
    println!("seeds from {first} on");
    let (mut simulated, mut told, mut failed) = (Duration::ZERO, 0, 0);
    for seed in first..first.saturating_add(args.seeds) {
        let script = FaultScript::draw(seed, None);
        let report = run(&script)?;
        simulated += report.simulated;
        if !report.violations.is_empty() {
            failed += 1;
            let (shortest, report) = shrink::shrink(&script)?;
            println!("{shortest} # {}", report.violations.first().map_or("", String::as_str));
        }
        let used = used();
        let pipes = (args.stop && failed > 0)
            || used.as_secs() >= args.limit
            || seed + 1 == first.saturating_add(args.seeds);
        if pipes || used.as_secs() >= told + PROGRESS {
            told = used.as_secs();
            let (done, hours) = (seed + 1 - first, simulated.as_secs_f64() / 3600.0);
            let speed = simulated.as_secs_f64() / used.as_secs_f64();
            println!(
                "{done} seeds, {failed} failed, {hours:.1} hours simulated in {told} s of CPU time: {speed:.0} times as fast"
            );
        }
        if pipes {
            break;
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn trace(report: &RunReport) -> ExitCode {
    report.violations.iter().for_each(|wrong| println!("{wrong}"));
    println!("{:.1} s simulated, digest {:016x}", report.simulated.as_secs_f64(), report.digest);
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The CPU time of this process so far.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
