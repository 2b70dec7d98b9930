//! Measures vpp-maglev against HAProxy, keepalived and minimal C programs, and its own costs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::{env, fs};

use anyhow::{Context, ensure};
use clap::Parser;
use maglev_bench::page::{self, PARTS};
use maglev_bench::report::{Part, Report};
use maglev_bench::screen::ProgressScreen;
use maglev_bench::{Bench, BenchOptions, detection, following, hostile, own, plot, probes};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Measures vpp-maglev against HAProxy, keepalived and minimal C programs, and its own costs.
///
/// Needs root, to create namespaces. All child processes end with it.
#[derive(Parser)]
struct Arguments {
    /// Directory of the results
    #[arg(long, value_name = "DIR", default_value = "docs/performance")]
    out: PathBuf,
    /// Page that shows the results
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Only these parts: probes, detection, hostile, following, own
    #[arg(long, value_name = "PART,...", value_delimiter = ',', default_value = "probes,detection,hostile,following,own", value_parser = PARTS.map(|(name, _)| name))]
    only: Vec<String>,
    /// Rounds per checker
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// Length of each measurement, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    window: f64,
    /// Numbers of backends to probe
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1000,10000")]
    sizes: Vec<u32>,
    /// Number of backends that fail in each way, for detection times
    #[arg(long, value_name = "N", default_value_t = 200)]
    failures: u32,
    /// Only these types of probe
    #[arg(long, value_name = "PROBE,...", value_delimiter = ',', value_parser = ["icmp", "tcp", "http", "https"])]
    probes: Option<Vec<String>>,
    /// Run inside the prepared namespaces
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = if arguments.inside { run(arguments) } else { run_in_namespaces() };
    ended.unwrap_or_else(|error| {
        eprintln!("bench: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs this program again in its own network and PID namespaces, with a temporary directory.
#[tokio::main(flavor = "current_thread")]
async fn run_in_namespaces() -> anyhow::Result<ExitCode> {
    ensure!(nix::unistd::geteuid().is_root(), "creating namespaces needs root");
    let directory = tempfile::Builder::new().prefix("maglev-bench-").tempdir()?;
    let mut command = Command::new("setpriv");
    // The death of this process kills unshare, which kills its child and with it the PID namespace.
    command
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child=KILL",
        ])
        .arg(env::current_exe()?)
        .arg("--inside")
        .args(env::args_os().skip(1))
        .env("TMPDIR", directory.path())
        .kill_on_drop(true);
    let mut child = command.spawn().context("setpriv")?;
    let ended = tokio::select! {
        biased;
        () = interrupt()? => {
            child.kill().await?;
            Ok(ExitCode::from(130))
        }
        status = child.wait() => status.map(|status: ExitStatus| if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    };
    Ok(ended?)
}

/// Waits for a signal to stop.
fn interrupt() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut hang_ups = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupts.recv() => (),
            _ = terminations.recv() => (),
            _ = hang_ups.recv() => (),
        }
    })
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { out, page, only, rounds, window, sizes, failures, probes, .. } = arguments;
    let mut report = Report::read(&out)?;
    let is_wanted = |name: &str| only.iter().any(|part| part == name);
    let mut bench = Bench::new(&env::temp_dir(), BenchOptions { rounds, window, sizes, failures, probes })?;
    let total = [
        ("probes", probes::total(&bench)),
        ("detection", detection::total(&bench)),
        ("hostile", hostile::total(&bench)),
        ("following", following::TOTAL),
        ("own", own::TOTAL),
    ];
    bench.screen =
        ProgressScreen::new(total.iter().filter(|(name, _)| is_wanted(name)).map(|(_, time)| *time).sum());
    let mut left_out = 0;
    for (name, title) in PARTS.into_iter().filter(|(name, _)| is_wanted(name)) {
        bench.screen.title(title);
        let part = match name {
            "probes" => probes::run(&mut bench),
            "detection" => detection::run(&mut bench),
            "hostile" => hostile::run(&mut bench),
            "following" => following::run(&mut bench).unwrap_or_else(|why| empty_part(&bench, name, &why)),
            _ => own::run(&mut bench).unwrap_or_else(|why| empty_part(&bench, name, &why)),
        };
        left_out += part.left_out.len();
        report.parts.insert(name.to_owned(), part);
        // Saved after each part, so that an interrupted run keeps its results.
        write_results(&report, &out, page.as_deref())?;
    }
    println!("\n{}", page::render(&report));
    println!("results are in {}; left out: {left_out}", out.display());
    Ok(ExitCode::SUCCESS)
}

/// Returns a part without results.
fn empty_part(bench: &Bench, name: &str, why: &anyhow::Error) -> Part {
    let mut part = bench.part();
    part.leave_out(format!("{name}: {why:#}"));
    part
}

/// Writes results, pictures and page.
fn write_results(report: &Report, out: &Path, page: Option<&Path>) -> anyhow::Result<()> {
    report.write(out)?;
    if let Some(probes) = report.parts.get("probes") {
        let sizes: BTreeSet<_> = probes.cases.iter().map(|case| case.backends).collect();
        for size in sizes {
            let picture = plot::draw(probes, size).unwrap_or_default();
            fs::write(out.join(format!("probes-{size}.svg")), picture)?;
        }
    }
    page.map_or(Ok(()), |page| page::update(page, report))
}
