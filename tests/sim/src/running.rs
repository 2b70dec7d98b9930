//! Handles of the running daemons.

use std::sync::Arc;

use maglevd::handle::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::pipe::SimPipe;
use super::process::SimProcess;

/// A running `maglevd`.
pub struct RunningController {
    /// Its process.
    pub process: Arc<SimProcess>,
    /// Its clients' handle.
    pub handle: Handle,
    /// Its tasks.
    pub tasks: JoinSet<()>,
    /// Reads its events.
    pub listener: JoinHandle<()>,
    /// Stops its tasks.
    pub stop: CancellationToken,
}

/// A running prober.
#[derive(Debug)]
pub struct RunningProber {
    /// Its process.
    pub process: Arc<SimProcess>,
    /// Its socket's accept queue.
    pub endpoint: mpsc::UnboundedSender<LinkPipes>,
    /// Its loop.
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
