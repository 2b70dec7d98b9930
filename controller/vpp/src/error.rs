//! Errors of the client.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::frame::FrameTooLarge;
use crate::wire::MalformedMessage;

/// Reason for a failed call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The socket is missing or not accessible, or nothing listens on it.
    #[error("cannot connect to VPP at {path}: {reason}", path = .path.display())]
    Connect {
        /// Path of VPP's API socket.
        path: PathBuf,
        /// Error of the system call.
        reason: Arc<io::Error>,
    },
    /// VPP lacks messages, or has other layouts of them. An older VPP has no server weights.
    #[error("VPP {version} lacks {}; VPP 26.10 or later is needed", missing.join(", "))]
    Unsupported {
        /// Names of the messages with their checksums.
        missing: Vec<String>,
        /// Version as VPP reports it.
        version: String,
    },
    /// VPP has not loaded the lb plugin.
    #[error("VPP {version} has not loaded lb_plugin.so")]
    NoPlugin {
        /// Version as VPP reports it.
        version: String,
    },
    /// VPP did not reply in time. It may still execute the request.
    #[error("no answer to {message} within {limit:?}")]
    Timeout {
        /// Name of the request.
        message: &'static str,
        /// The timeout.
        limit: Duration,
    },
    /// VPP replied with an error.
    #[error("{message} refused: {name} ({retval})")]
    Refused {
        /// Name of the request.
        message: &'static str,
        /// VPP's error number.
        retval: i32,
        /// Name of the number, see [`crate::retval::name`].
        name: &'static str,
    },
    /// The request was not sent because it is out of the client's bounds.
    #[error("{message} not sent, as it is out of bounds: {why}")]
    Hazard {
        /// Name of the request.
        message: &'static str,
        /// The property.
        why: &'static str,
    },
    /// The connection ended. VPP may have executed the request.
    #[error("connection to VPP lost: {0}")]
    Lost(CloseReason),
}

/// Reason for the end of a connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CloseReason {
    /// VPP closed the connection, usually by exiting.
    #[error("closed by VPP")]
    Eof,
    /// The socket failed.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// VPP no longer replies.
    #[error("no answer to {message} within {limit:?}")]
    Unresponsive {
        /// Name of the request.
        message: &'static str,
        /// The timeout.
        limit: Duration,
    },
    /// VPP violated the protocol.
    #[error(transparent)]
    Violation(#[from] ProtocolViolation),
    /// The last [`crate::VppClient`] was dropped.
    #[error("closed by the client")]
    ClientDropped,
}

/// A violation of the protocol by VPP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolViolation {
    /// A frame exceeds the limit.
    #[error(transparent)]
    TooLarge(#[from] FrameTooLarge),
    /// A reply does not decode.
    #[error("malformed reply to {message}: {fault}")]
    Malformed {
        /// Name of the request.
        message: &'static str,
        /// The mistake.
        fault: MalformedMessage,
    },
    /// A reply has the type of another request.
    #[error("message {id} is not a reply to {message}")]
    Mismatch {
        /// Name of the request.
        message: &'static str,
        /// Message number of the reply.
        id: u16,
    },
    /// A payload is too short for a message number and a context.
    #[error("message without a header: {0}")]
    MissingHeader(MalformedMessage),
    /// A dump has too many records.
    #[error("more than {limit} records in reply to {message}")]
    TooManyRecords {
        /// Name of the dump.
        message: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl From<io::Error> for CloseReason {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<FrameTooLarge> for CloseReason {
    fn from(error: FrameTooLarge) -> Self {
        Self::Violation(error.into())
    }
}

impl Error {
    pub(crate) const fn refused(message: &'static str, retval: i32) -> Self {
        Self::Refused { message, retval, name: crate::retval::name(retval) }
    }
}
