//! Runs the simulation for a number of seeds, and prints the simulated time.

#![expect(clippy::print_stdout, reason = "it is a command")]

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use maglev_sim::script::FaultScript;
use maglev_sim::{RunReport, run, seeds, shrink};
use nix::time::{ClockId, clock_gettime};

/// Simulates the whole system in virtual time
#[derive(Parser)]
struct Args {
    /// Number of seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// First seed [default: by the clock]
    #[arg(long)]
    first: Option<u64>,
    /// Replay one seed, optionally with the indexes of its faults, and print its trace
    #[arg(long)]
    seed: Option<String>,
    /// Stop at the first failing seed
    #[arg(long)]
    stop: bool,
    /// Maximum CPU time in seconds
    #[arg(long, default_value_t = u64::MAX)]
    limit: u64,
}

/// CPU time between two lines of progress, in seconds.
const PROGRESS: u64 = 10;

fn main() -> Result<ExitCode, String> {
    let args = Args::parse();
    if let Some(line) = &args.seed {
        let report = run(&seeds::parse(line)?)?;
        println!("{}", report.trace.join("\n"));
        return Ok(print_result(&report));
    }
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() << 16;
    let first = args.first.unwrap_or_else(by_clock);
    println!("starting at seed {first}");
    let (mut simulated, mut reported, mut failed) = (Duration::ZERO, 0, 0);
    for seed in first..first.saturating_add(args.seeds) {
        let script = FaultScript::draw(seed, None);
        let report = run(&script)?;
        simulated += report.simulated;
        if !report.violations.is_empty() {
            failed += 1;
            let (shortest, report) = shrink::shrink(&script)?;
            println!("{shortest} # {}", report.violations.first().map_or("", String::as_str));
        }
        let used = cpu_time();
        let is_last = (args.stop && failed > 0)
            || used.as_secs() >= args.limit
            || seed + 1 == first.saturating_add(args.seeds);
        if is_last || used.as_secs() >= reported + PROGRESS {
            reported = used.as_secs();
            let (done, hours) = (seed + 1 - first, simulated.as_secs_f64() / 3600.0);
            let speed = simulated.as_secs_f64() / used.as_secs_f64();
            println!(
                "{done} seeds, {failed} failed, {hours:.1} hours simulated in {reported} s of CPU time ({speed:.0} times real time)"
            );
        }
        if is_last {
            break;
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_result(report: &RunReport) -> ExitCode {
    report.violations.iter().for_each(|violation| println!("{violation}"));
    println!("{:.1} s simulated, digest {:016x}", report.simulated.as_secs_f64(), report.digest);
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the CPU time of this process.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
