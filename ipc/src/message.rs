//! The messages, one enum per direction. A change of their encoding raises [`VERSION`].

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{Check, CheckId, RejectReason, Schedule};
use crate::outcome::{Outcome, ProberStats, VerdictHistory};

/// Version of the messages. `Hello` keeps its place and its encoding in every version, so that ends of different versions
/// can say so.
pub const VERSION: u16 = 6;

/// Largest encoded message in bytes. One message is one packet of the socket.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Largest number of outcomes, histories, intervals, ids or checks in one message. Full messages stay below
/// [`MAX_MESSAGE`], but those with large checks: they hold fewer.
pub const MAX_BATCH: usize = 200;

/// Interval at which each end sends `Heartbeat`.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Time without a message after which an end closes the link.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// A message of the controller.
///
/// The first one is `Hello`. Then come check sets: `Begin`, any number of `Bundle` and `Checks`, `Commit`. At its `Commit`
/// a set replaces the one before it. Instead of a set, an amendment may change the one in force: `Amend`, any number of
/// `Drop`, then of `Checks`, `Commit`. `SetIntervals` and `Heartbeat` may stand anywhere after `Hello`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ToProber {
    /// The first message.
    Hello {
        /// The sender's [`VERSION`].
        version: u16,
        /// The sender's release, for logs.
        release: String,
    },
    /// Begins a check set.
    Begin {
        /// Grows with every set and amendment.
        generation: u64,
    },
    /// Begins an amendment to the set in force.
    Amend {
        /// Grows with every set and amendment.
        generation: u64,
    },
    /// Removes checks from the set in force. Part of an amendment, before its `Checks`.
    Drop(Vec<CheckId>),
    /// CA certificates for checks of this set, and of later amendments to it. Part of a set only.
    Bundle {
        /// Number of the bundle within the set.
        id: u32,
        /// The certificates in PEM.
        pem: Vec<u8>,
    },
    /// Adds checks to the set or amendment, under their ids on this link.
    Checks(Vec<(CheckId, Schedule, Check)>),
    /// Completes the set or amendment and puts it in force.
    Commit {
        /// Generation of `Begin` or `Amend`.
        generation: u64,
    },
    /// New intervals for checks of the set in force, counted from the start of each check's last probe.
    SetIntervals(Vec<(CheckId, Duration)>),
    /// Keeps the link alive.
    Heartbeat,
}

/// A message of the prober.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ToController {
    /// The first message.
    Hello {
        /// The sender's [`VERSION`].
        version: u16,
        /// The sender's release, for logs.
        release: String,
        /// Random number of this prober process, constant until it exits.
        instance: u64,
    },
    /// A check of the current set or amendment that the prober will not run.
    Rejected {
        /// The check.
        id: CheckId,
        /// The reason.
        reason: RejectReason,
    },
    /// Histories of the checks in the link's first set that the prober ran before it. Sent before `Committed`.
    Histories(Vec<VerdictHistory>),
    /// The set or amendment is in force.
    Committed {
        /// Generation of the `Commit`.
        generation: u64,
    },
    /// Results of probes, for each check in the order of their starts.
    Outcomes(Vec<Outcome>),
    /// Keeps the link alive, and reports the counters.
    Heartbeat(ProberStats),
}
