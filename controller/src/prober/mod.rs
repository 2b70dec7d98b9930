//! Prober: a link that reconnects whenever it is lost.

use std::path::PathBuf;
use std::sync::Arc;

use maglev_core::state::{CheckSet, Input};
use maglev_ipc::{CheckId, ToController, ToProber};
use maglev_ipc_link as link;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::metrics::Metrics;
use crate::retry::RetryState;

mod connect;
mod inbound;
mod outgoing;
mod session;
mod transport;

pub use connect::ProberConnector;
pub use inbound::ProberProtocol;

/// Command to the prober.
#[derive(Debug)]
pub enum ProberCommand {
    /// Run this set of checks in place of any other.
    Checks(CheckSet),
    /// Change the interval of a check.
    Pace(CheckId, std::time::Duration),
}

/// Connection to probers.
pub trait ConnectProber: Send + Sync + 'static {
    /// Transport of a connected prober.
    type Transport: MessageTransport;

    /// Connects to the prober of network namespace `netns`.
    fn connect(&self, netns: Option<&str>)
    -> impl Future<Output = Result<Self::Transport, LinkError>> + Send;

    /// Returns a failure of the link with the prober's own reason, if it can be had.
    fn explain(&self, fault: LinkError) -> impl Future<Output = LinkError> + Send {
        std::future::ready(fault)
    }
}

/// Message transport to a prober. Messages arrive complete and in order, or the link ends.
pub trait MessageTransport: Send + Sync {
    /// Sends a message, whole or not at all.
    ///
    /// # Errors
    /// [`link::Error::WouldBlock`] without room; all others end the link.
    fn send(&self, message: &ToProber) -> Result<(), link::Error>;

    /// Receives a message.
    ///
    /// # Errors
    /// [`link::Error::WouldBlock`] if there is none; all others end the link.
    fn receive(&mut self) -> Result<ToController, link::Error>;

    /// Waits until a message may be available.
    fn readable(&self) -> impl Future<Output = std::io::Result<()>> + Send;

    /// Waits until there may be room to send.
    fn writable(&self) -> impl Future<Output = std::io::Result<()>> + Send;
}

/// Task that manages the link to the prober.
pub struct ProberLink<R> {
    /// Connector of the prober.
    pub connector: R,
    /// Network namespace of the probes.
    pub netns: watch::Receiver<Option<String>>,
    /// Inputs to the core.
    pub inputs: mpsc::Sender<Vec<Input>>,
    /// Commands from the driver.
    pub commands: mpsc::UnboundedReceiver<ProberCommand>,
    /// Counters of link errors.
    pub metrics: Arc<Metrics>,
}

/// Failure of a link, or of connecting.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket is missing or inaccessible.
    #[error("{}: {source}", path.display())]
    Connect {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the system.
        source: maglev_ipc_link::Error,
    },
    /// The prober cannot be started.
    #[error(transparent)]
    Spawn(#[from] crate::spawner::Error),
    /// The peer has an untrusted user ID.
    #[error("the prober's socket belongs to the untrusted uid {0}")]
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
    /// The prober violated the protocol.
    #[error("the prober violated the protocol: {0}")]
    Protocol(&'static str),
    /// The prober sent nothing for too long.
    #[error("the prober sent nothing for {:?}", maglev_ipc::message::PEER_TIMEOUT)]
    Timeout,
    /// The prober reads nothing, or much less than it is sent.
    #[error("the prober does not read what it is sent")]
    Stalled,
    /// The link failed.
    #[error(transparent)]
    Link(#[from] maglev_ipc_link::Error),
    /// The link to a prober that is a service failed.
    #[error("{0}; the prober's log: journalctl -u 'vpp-maglevd-prober*'")]
    Service(Box<Self>),
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A spawned prober has exited; with its last words, or its status.
    #[error("the prober exited: {0}")]
    Exited(String),
    /// Probes must run in another network namespace.
    #[error("the network namespace has changed")]
    NetnsChanged,
    /// The driver has ended.
    #[error("maglevd is shutting down")]
    ShuttingDown,
}

impl LinkError {
    /// Returns the metric's label; `None` if the link ended on purpose.
    fn label(&self) -> Option<&'static str> {
        Some(match self {
            Self::Service(fault) => return fault.label(),
            Self::Connect { .. } | Self::Spawn(_) => "connect",
            Self::UntrustedPeer(_) => "untrusted_peer",
            Self::Version { .. } => "version",
            Self::Protocol(_)
            | Self::Link(maglev_ipc_link::Error::Malformed(_) | maglev_ipc_link::Error::TooLarge) => {
                "protocol"
            }
            Self::Timeout | Self::Stalled => "timeout",
            Self::Link(_) | Self::Io(_) | Self::Exited(_) => "lost",
            Self::NetnsChanged | Self::ShuttingDown => return None,
        })
    }
}

impl<R: ConnectProber> ProberLink<R> {
    /// Connects and serves links until the driver ends.
    pub async fn run(mut self) {
        let mut retry = RetryState::default();
        while !self.inputs.is_closed() {
            let netns = self.netns.borrow_and_update().clone();
            match self.connector.connect(netns.as_deref()).await {
                Ok(mut link) => {
                    let mut session = session::ProberSession::new(&mut self, &mut link);
                    let (fault, is_identified) = session.run().await;
                    // Dropping the link ends a child prober.
                    drop(link);
                    let fault = self.connector.explain(fault).await;
                    self.lost(&fault, is_identified, &mut retry).await;
                }
                Err(fault) => self.log_failure(&fault, &mut retry).await,
            }
            sleep(retry.pause()).await;
        }
    }

    async fn lost(&self, fault: &LinkError, is_identified: bool, retry: &mut RetryState) {
        if !is_identified {
            return self.log_failure(fault, retry).await;
        }
        retry.reset();
        self.count(fault);
        // No input of this session follows this one.
        let _ = self.inputs.send(vec![Input::ProberDown]).await;
        match fault {
            LinkError::NetnsChanged | LinkError::ShuttingDown => {
                info!(event = %"prober", reason = %fault, "prober disconnected");
            }
            fault => warn!(event = %"prober", reason = %fault, "prober lost; health is frozen"),
        }
    }

    fn count(&self, fault: &LinkError) {
        if let Some(reason) = fault.label() {
            self.metrics.count_link_error("prober", reason);
        }
    }

    async fn log_failure(&self, fault: &LinkError, retry: &mut RetryState) {
        self.count(fault);
        let text = fault.to_string();
        if retry.is_new_error(&text) {
            warn!(error = %text, "cannot connect to the prober, retrying");
            let _ = self.inputs.send(vec![Input::ProberUnreachable(text)]).await;
        } else {
            debug!(error = %text, "cannot connect to the prober");
        }
    }
}
