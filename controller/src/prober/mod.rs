//! The prober: a link that is sought again whenever it is lost.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use maglev_core::state::{CheckSet, Input};
use maglev_ipc::{CheckId, ToController, ToProber, link};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::metrics::Metrics;
use crate::retry::RetryState;

mod connect;
mod inbound;
mod session;
mod transport;

pub use connect::{ProberAddress, ProberConnector};
pub use inbound::InboundProtocol;

/// Something to be told to the prober.
#[derive(Debug)]
pub enum ProberCommand {
    /// This set of checks is to be run, in place of any other.
    Checks(CheckSet),
    /// A check has a new interval.
    Pace(CheckId, std::time::Duration),
}

/// How probers are reached.
pub trait ConnectProber: Send + Sync + 'static {
    /// What a prober is spoken to on.
    type Transport: MessageTransport;

    /// Reaches a prober, which probes in the network namespace of that name.
    fn connect(&self, netns: Option<&str>)
    -> impl Future<Output = Result<Self::Transport, LinkError>> + Send;
}

/// A link to a prober. Messages arrive whole and in order, or the link has ended.
pub trait MessageTransport: Send + Sync {
    /// Sends a message, whole or not at all.
    ///
    /// # Errors
    /// [`link::Error::WouldBlock`] when there is no room; all others end the link.
    fn send(&self, message: &ToProber) -> Result<(), link::Error>;

    /// Receives a message.
    ///
    /// # Errors
    /// [`link::Error::WouldBlock`] when there is none yet; all others end the link.
    fn receive(&mut self) -> Result<ToController, link::Error>;

    /// Waits until there may be something to receive.
    fn readable(&self) -> impl Future<Output = std::io::Result<()>> + Send;

    /// Waits until there may be room to send.
    fn writable(&self) -> impl Future<Output = std::io::Result<()>> + Send;
}

/// The task that speaks to the prober.
pub struct ProberLink<R> {
    /// How the prober is reached.
    pub way: R,
    /// The network namespace that it is to probe in.
    pub netns: watch::Receiver<Option<String>>,
    /// To the core.
    pub inputs: mpsc::Sender<Vec<Input>>,
    /// From the core.
    pub commands: mpsc::UnboundedReceiver<ProberCommand>,
    /// Where faults are counted.
    pub metrics: Arc<Metrics>,
}

/// Why a link has ended, or was not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket is not there, or may not be opened.
    #[error("{}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: maglev_ipc::link::Error,
    },
    /// The prober cannot be started.
    #[error(transparent)]
    Spawn(#[from] crate::spawner::Error),
    /// Somebody else is at the other end.
    #[error("the prober's socket belongs to uid {0}, who is not to be trusted")]
    UntrustedPeer(u32),
    /// The prober is of another release.
    #[error(
        "the prober ({release}) speaks version {theirs} of the protocol, and this is version {}",
        maglev_ipc::VERSION
    )]
    Version {
        /// Its version.
        theirs: u16,
        /// Its release.
        release: String,
    },
    /// It said something out of turn.
    #[error("the prober does not keep to the protocol: {0}")]
    Protocol(&'static str),
    /// It is silent.
    #[error("the prober has been silent for {:?}", maglev_ipc::message::SILENCE)]
    Timeout,
    /// The link is lost.
    #[error(transparent)]
    ProberLink(#[from] maglev_ipc::link::Error),
    /// The system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Probes are to run in another network namespace.
    #[error("the network namespace has changed")]
    NetnsChanged,
    /// There is no core to tell.
    #[error("maglevd is shutting down")]
    ShuttingDown,
}

impl LinkError {
    /// What the fault is counted under.
    const fn label(&self) -> &'static str {
        match self {
            Self::Connect { .. } | Self::Spawn(_) => "connect",
            Self::UntrustedPeer(_) => "stranger",
            Self::Version { .. } => "version",
            Self::Protocol(_)
            | Self::ProberLink(maglev_ipc::link::Error::Malformed(_) | maglev_ipc::link::Error::TooLarge) => {
                "protocol"
            }
            Self::Timeout => "silent",
            Self::ProberLink(_) | Self::Io(_) => "lost",
            Self::NetnsChanged | Self::ShuttingDown => "closed",
        }
    }
}

impl<R: ConnectProber> ProberLink<R> {
    /// Keeps a link to the prober for as long as there is a core to tell.
    pub async fn run(mut self) {
        let mut retry = RetryState::default();
        let mut pending = VecDeque::new();
        while !self.inputs.is_closed() {
            let netns = self.netns.borrow_and_update().clone();
            match self.way.connect(netns.as_deref()).await {
                Ok(mut link) => {
                    let mut session = session::ProberSession::new(&mut self, &mut link, &mut pending);
                    let (fault, greeted) = session.run().await;
                    // A child ends with its link.
                    drop(link);
                    self.lost(&fault, greeted, &mut retry).await;
                }
                Err(fault) => self.log_failure(&fault, &mut retry).await,
            }
            sleep(retry.pause()).await;
        }
    }

    async fn lost(&self, fault: &LinkError, greeted: bool, retry: &mut RetryState) {
        if !greeted {
            return self.log_failure(fault, retry).await;
        }
        retry.reset();
        self.metrics.link_error("prober", fault.label());
        // Nothing of this session comes after this.
        let _ = self.inputs.send(vec![Input::ProberDown]).await;
        match fault {
            LinkError::NetnsChanged | LinkError::ShuttingDown => {
                info!(event = %"prober", reason = %fault, "prober released")
            }
            fault => warn!(event = %"prober", reason = %fault, "prober lost; health stays as it is"),
        }
    }

    async fn log_failure(&self, fault: &LinkError, retry: &mut RetryState) {
        self.metrics.link_error("prober", fault.label());
        let text = fault.to_string();
        if retry.is_new_error(&text) {
            warn!(error = %text, "no prober; it is tried again");
            let _ = self.inputs.send(vec![Input::ProberAway(text)]).await;
        } else {
            debug!(error = %text, "no prober");
        }
    }
}
