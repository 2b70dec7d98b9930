//! The simulator of VPP as a process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use maglev_vppsim::Sim;
use tokio::signal::unix::{SignalKind, signal};

/// What a process killed by SIGABRT, as a crashing VPP is, looks like to a shell.
const ABORTED: u8 = 134;

/// A VPP that is not VPP: its binary API, its lb plugin and its stats socket, without packets.
#[derive(Parser)]
struct Arguments {
    /// Where `api.sock` and `stats.sock` are made.
    #[arg(long)]
    dir: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { dir } = Arguments::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let sim = Sim::start(&dir)?;
    println!("vppsim is ready at {}", sim.api_socket().display());

    let crash = tokio::task::spawn_blocking(move || {
        loop {
            if sim.wait_for(Duration::from_secs(3600), |vpp| vpp.crashed().is_some()) {
                return sim.expect_crash(Duration::ZERO);
            }
        }
    });
    tokio::select! {
        reason = crash => {
            eprintln!("vppsim: crashed: {}", reason?.unwrap_or_default());
            std::process::exit(ABORTED.into());
        }
        _ = terminate.recv() => std::process::exit(0),
        _ = interrupt.recv() => std::process::exit(0),
    }
}
