//! The simulator of VPP as a process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use maglev_vppsim::VppSimulator;
use tokio::signal::unix::{SignalKind, signal};

/// Exit status of a process that SIGABRT killed, as in a crash of VPP.
const ABORTED: u8 = 134;

/// A simulator of VPP: its binary API, its lb plugin and its stats socket, without packets.
#[derive(Parser)]
struct Arguments {
    /// Directory for `api.sock` and `stats.sock`
    #[arg(long)]
    dir: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { dir } = Arguments::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let sim = VppSimulator::start(&dir)?;
    println!("vppsim is ready at {}", sim.api_socket().display());

    let crash = tokio::task::spawn_blocking(move || {
        loop {
            if sim.wait_for(Duration::from_secs(3600), |vpp| vpp.crash_reason().is_some()) {
                return sim.wait_for_crash(Duration::ZERO);
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
