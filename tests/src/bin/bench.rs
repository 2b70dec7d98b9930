//! Measures vpp-maglev beside HAProxy, keepalived and bare programs in C, and by itself.

use std::env;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use anyhow::{Context, ensure};
use clap::Parser;
use maglev_tests::bench::report::Report;
use maglev_tests::bench::{Bench, Options, probes};
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
    /// How many turns each checker has
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// How long a checker at work is looked at, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    window: f64,
    /// Numbers of backends that are probed
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1000,10000")]
    sizes: Vec<u32>,
    /// Only these probes: icmp, tcp, http, https
    #[arg(long, value_name = "PROBE,...", value_delimiter = ',')]
    probes: Option<Vec<String>>,
    /// Run in these namespaces
    #[arg(long, hide = true)]
    inside: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = if arguments.inside { run(arguments) } else { confine().await };
    ended.unwrap_or_else(|error| {
        eprintln!("bench: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs this program again, with a network and processes of its own, and files in a folder that goes with us.
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
    let Arguments { out, rounds, window, sizes, probes, .. } = arguments;
    let mut report = Report::read(&out)?;
    let mut bench = Bench::new(&env::temp_dir(), Options { rounds, window, sizes, probes })?;
    bench.screen.title("what a probe costs");
    report.parts.insert("probes".to_owned(), probes::run(&mut bench));
    report.write(&out)?;
    Ok(ExitCode::SUCCESS)
}
