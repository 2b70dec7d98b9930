//! What can go wrong between a client and VPP.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::frame::TooLarge;
use crate::wire::Malformed;

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens at the path, or it may not be opened.
    #[error("cannot connect to VPP at {path}: {reason}", path = .path.display())]
    Connect {
        /// Of VPP's API socket.
        path: PathBuf,
        /// The system's answer.
        reason: Arc<io::Error>,
    },
    /// VPP lacks messages, or has them in another layout. An older VPP has no server weights.
    #[error("VPP {version} lacks {}; VPP 26.10 or later is needed", missing.join(", "))]
    Unsupported {
        /// Names with checksums.
        missing: Vec<String>,
        /// VPP's own words.
        version: String,
    },
    /// VPP runs without the plugin.
    #[error("VPP {version} has not loaded lb_plugin.so")]
    NoPlugin {
        /// VPP's own words.
        version: String,
    },
    /// VPP did not answer in time. It may still do what was asked.
    #[error("no answer to {message} within {limit:?}")]
    Timeout {
        /// What was asked.
        message: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// VPP answered that it will not.
    #[error("{message} refused: {name} ({retval})")]
    Refused {
        /// What was asked.
        message: &'static str,
        /// VPP's error number.
        retval: i32,
        /// The number's name, see [`crate::retval::name`].
        name: &'static str,
    },
    /// Not sent, as VPP does not survive it.
    #[error("{message} not sent, as it would kill VPP: {why}")]
    Hazard {
        /// What was to be asked.
        message: &'static str,
        /// What is deadly about it.
        why: &'static str,
    },
    /// The connection has ended. Whether VPP did what was asked is not known.
    #[error("connection to VPP lost: {0}")]
    Lost(Closed),
}

/// Why a connection has ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Closed {
    /// VPP closed it, most likely by exiting.
    #[error("closed by VPP")]
    Eof,
    /// The socket failed.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// VPP no longer answers.
    #[error("no answer to {message} within {limit:?}")]
    Silent {
        /// What was asked.
        message: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// VPP said something that makes no sense.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The last [`crate::Client`] was dropped.
    #[error("closed by us")]
    Released,
}

/// Something VPP never says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A giant.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// An answer that cannot be read.
    #[error("malformed answer to {message}: {fault}")]
    Malformed {
        /// What was asked.
        message: &'static str,
        /// What is wrong with the answer.
        fault: Malformed,
    },
    /// An answer to another question.
    #[error("message {id} is no answer to {message}")]
    Mismatch {
        /// What was asked.
        message: &'static str,
        /// The number of what came.
        id: u16,
    },
    /// A payload without so much as a number and a context.
    #[error("a message without a head: {0}")]
    Headless(Malformed),
    /// A dump that does not end.
    #[error("more than {limit} records in answer to {message}")]
    Endless {
        /// What was asked.
        message: &'static str,
        /// The most that is accepted.
        limit: usize,
    },
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<TooLarge> for Closed {
    fn from(error: TooLarge) -> Self {
        Self::Violation(error.into())
    }
}

impl Error {
    pub(crate) const fn refused(message: &'static str, retval: i32) -> Self {
        Self::Refused { message, retval, name: crate::retval::name(retval) }
    }
}
