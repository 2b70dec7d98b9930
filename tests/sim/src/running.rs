//! Handles on the daemons that run.

use std::sync::Arc;

use maglevd::handle::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::pipe::SimPipe;
use super::process::SimProcess;

/// A `maglevd` that runs.
pub struct RunningController {
    /// The process.
    pub process: Arc<SimProcess>,
    /// What its clients have.
    pub handle: Handle,
    /// Its tasks.
    pub tasks: JoinSet<()>,
    /// Reads its events.
    pub listener: JoinHandle<()>,
    /// Stops its tasks.
    pub stop: CancellationToken,
}

/// A prober that runs.
#[derive(Debug)]
pub struct RunningProber {
    /// The process.
    pub process: Arc<SimProcess>,
    /// Its socket.
    pub endpoint: mpsc::UnboundedSender<LinkPipes>,
    /// The end of its loop.
    pub task: JoinHandle<()>,
}

/// Both directions of a link: to the prober, and from it.
#[derive(Clone, Debug)]
pub struct LinkPipes {
    /// To the prober.
    pub to: Arc<SimPipe>,
    /// From the prober.
    pub from: Arc<SimPipe>,
}
