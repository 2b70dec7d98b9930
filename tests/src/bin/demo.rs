//! Shows how the weights in VPP follow the health of real servers.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use maglev_tests::demo::show::{Act, DemoRun};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// Shows how the weights in VPP follow the health of real servers.
#[derive(Parser)]
struct Arguments {
    /// Keep everything running until Ctrl-C
    #[arg(long)]
    stay: bool,
}

const OPENING: Act = Act {
    title: "maglevd starts, finds three healthy servers, and programs VPP",
    running: [true, true, true],
    weights: [20, 10, 0],
};

const ACTS: [Act; 4] = [
    Act { title: "web1 stops", running: [false, true, true], weights: [0, 10, 0] },
    Act {
        title: "web2 stops too: the first pool is down, the second takes over",
        running: [false, false, true],
        weights: [0, 0, 20],
    },
    Act { title: "web2 starts again", running: [false, true, true], weights: [0, 10, 0] },
    Act { title: "web1 starts again", running: [true, true, true], weights: [20, 10, 0] },
];

/// Pause for the reader after the table of an act.
const PAUSE: Duration = Duration::from_secs(3);

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let Arguments { stay } = Arguments::parse();
    // The unfinished branch is dropped, and with the show all its processes.
    let ended = tokio::select! {
        biased;
        interrupted = interrupt(stay) => interrupted,
        ended = show(stay) => ended.map(|()| ExitCode::SUCCESS),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

async fn show(stay: bool) -> anyhow::Result<()> {
    let mut show = DemoRun::open().await?;
    show.play(&OPENING).await?;
    if stay {
        show.hand_over()?;
        return show.follow().await;
    }
    for act in &ACTS {
        if show.is_interactive() {
            sleep(PAUSE).await;
        }
        show.play(act).await?;
    }
    show.close()?;
    Ok(())
}

/// Waits for a signal to stop, which the end of the terminal is too. Returns its exit code.
async fn interrupt(stay: bool) -> anyhow::Result<ExitCode> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut hang_ups = signal(SignalKind::hangup())?;
    let asked = if stay { 0 } else { 130 };
    let code = tokio::select! {
        _ = interrupts.recv() => asked,
        _ = terminations.recv() => asked,
        _ = hang_ups.recv() => 129,
    };
    Ok(code.into())
}
