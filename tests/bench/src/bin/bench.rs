//! Measures vpp-maglev beside HAProxy, keepalived and bare programs in C, and by itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::{env, fs};

use anyhow::{Context, ensure};
use clap::Parser;
use maglev_bench::page::{self, PARTS};
use maglev_bench::report::{Part, Report};
use maglev_bench::screen::Screen;
use maglev_bench::{Bench, Options, detection, following, own, plot, probes};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Measures vpp-maglev beside HAProxy, keepalived and bare programs in C, and by itself.
///
/// Needs root, for namespaces of its own; whatever it starts ends with it.
#[derive(Parser)]
struct Arguments {
    /// Where the results are kept
    #[arg(long, value_name = "FOLDER", default_value = "docs/performance")]
    out: PathBuf,
    /// The page that shows them
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Only these parts: probes, detection, following, own
    #[arg(long, value_name = "PART,...", value_delimiter = ',', default_value = "probes,detection,following,own", value_parser = PARTS.map(|(name, _)| name))]
    only: Vec<String>,
    /// How many turns each checker has
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// How long a checker at work is looked at, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    window: f64,
    /// Numbers of backends that are probed
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1000,10000")]
    sizes: Vec<u32>,
    /// How many backends fail in each way, where it is measured how soon that is known
    #[arg(long, value_name = "N", default_value_t = 200)]
    failures: u32,
    /// Only these probes
    #[arg(long, value_name = "PROBE,...", value_delimiter = ',', value_parser = ["icmp", "tcp", "http", "https"])]
    probes: Option<Vec<String>>,
    /// Run in these namespaces
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = if arguments.inside { run(arguments) } else { confine() };
    ended.unwrap_or_else(|error| {
        eprintln!("bench: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs this program again, with a network and processes of its own, and files in a folder that goes with us.
#[tokio::main(flavor = "current_thread")]
async fn confine() -> anyhow::Result<ExitCode> {
    ensure!(nix::unistd::geteuid().is_root(), "namespaces of its own need root");
    let folder = tempfile::Builder::new().prefix("maglev-bench-").tempdir()?;
    let mut command = Command::new("setpriv");
    // If we are killed, unshare is; if unshare is, so is its child, and with that all processes of the namespace.
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
        .env("TMPDIR", folder.path())
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

/// Waits until somebody wants an end.
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
    let mut bench = Bench::new(&env::temp_dir(), Options { rounds, window, sizes, failures, probes })?;
    let total = [
        ("probes", probes::total(&bench)),
        ("detection", detection::total(&bench)),
        ("following", following::TOTAL),
        ("own", own::TOTAL),
    ];
    bench.screen = Screen::new(total.iter().filter(|(name, _)| is_wanted(name)).map(|(_, time)| *time).sum());
    let mut left_out = 0;
    for (name, title) in PARTS.into_iter().filter(|(name, _)| is_wanted(name)) {
        bench.screen.title(title);
        let part = match name {
            "probes" => probes::run(&mut bench),
            "detection" => detection::run(&mut bench),
            "following" => following::run(&mut bench).unwrap_or_else(|why| nothing(&bench, name, &why)),
            _ => own::run(&mut bench).unwrap_or_else(|why| nothing(&bench, name, &why)),
        };
        left_out += part.left_out.len();
        report.parts.insert(name.to_owned(), part);
        // After each, so that a run that is broken off was not for nothing.
        keep(&report, &out, page.as_deref())?;
    }
    println!("\n{}", page::render(&report));
    println!("kept in {}; left out: {left_out}", out.display());
    Ok(ExitCode::SUCCESS)
}

/// A part of which nothing came.
fn nothing(bench: &Bench, name: &str, why: &anyhow::Error) -> Part {
    let mut part = bench.part();
    part.leave_out(format!("{name}: {why:#}"));
    part
}

/// Writes everything that is kept.
fn keep(report: &Report, out: &Path, page: Option<&Path>) -> anyhow::Result<()> {
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
