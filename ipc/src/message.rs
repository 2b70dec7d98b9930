//! The messages, one enum per direction. Any change here raises [`VERSION`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{Check, CheckId, RejectReason, Schedule};
use crate::codec;
use crate::outcome::{Outcome, ProberStats, VerdictHistory};

/// The version of the messages. `Hello` keeps its place and shape in every version.
pub const VERSION: u16 = 4;

/// How many outcomes, streaks, paces or names one message carries at most, so that it stays below [`codec::MAX`]. Of checks
/// there are no more either, and fewer if they are large.
pub const MAX_BATCH: usize = 200;
/// What a message of checks takes beside them, in bytes: its variant and their number, which are both small.
const FRAME: usize = 2;

/// How often each end sends `Heartbeat`.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long an end waits for any message before it takes the link for dead.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the controller says.
///
/// The order on a link: `Hello`; then any number of check sets (`Begin`, `Bundle`s, `Checks`, `Commit`), with `SetIntervals`
/// and `Heartbeat` anywhere after it. A set replaces the one before it, whole, at its `Commit`. In place of a set there
/// may come an amendment to the one in force (`Amend`, `Drop`s, `Checks`, `Commit`), which too takes effect at its
/// `Commit`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ToProber {
    /// The first message.
    Hello {
        /// [`VERSION`] of the sender.
        version: u16,
        /// The sender's release, for people.
        release: String,
    },
    /// A check set begins.
    Begin {
        /// Grows with every set and amendment.
        generation: u64,
    },
    /// An amendment to the set in force begins.
    Amend {
        /// Grows with every set and amendment.
        generation: u64,
    },
    /// Checks of the set in force that leave it. In an amendment, before its `Checks`.
    Drop(Vec<CheckId>),
    /// CA certificates that checks of this set, and of amendments to it, refer to. In a set, not in an amendment.
    Bundle {
        /// Names the bundle within the set.
        id: u32,
        /// The certificates in PEM.
        pem: Vec<u8>,
    },
    /// Checks of the set, or that are added to it: the name of each from now on, its rhythm, and what is probed. A set has any
    /// number of these messages.
    Checks(Vec<(CheckId, Schedule, Check)>),
    /// The set or the amendment is whole: it takes effect.
    Commit {
        /// As in `Begin` or `Amend`.
        generation: u64,
    },
    /// New intervals for checks of the set in force. The next probe follows the new interval, counted from the
    /// start of the last one.
    SetIntervals(Vec<(CheckId, Duration)>),
    /// The controller lives.
    Heartbeat,
}

impl ToProber {
    /// `checks` in as few messages as hold them in that order. For each message that does not fit, both ends take turns.
    pub fn checks(
        checks: impl IntoIterator<Item = (CheckId, Schedule, Check)>,
    ) -> impl Iterator<Item = Self> {
        let mut checks = checks.into_iter().peekable();
        std::iter::from_fn(move || {
            let (mut batch, mut size) = (Vec::new(), FRAME);
            while batch.len() < MAX_BATCH
                && let Some(check) = checks.next_if(|check| {
                    size = size.saturating_add(codec::size(check));
                    // One that is too large by itself is for the codec to refuse.
                    batch.is_empty() || size <= codec::MAX
                })
            {
                batch.push(check);
            }
            (!batch.is_empty()).then_some(Self::Checks(batch))
        })
    }
}

/// What the prober says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ToController {
    /// The first message.
    Hello {
        /// [`VERSION`] of the sender.
        version: u16,
        /// The sender's release, for people.
        release: String,
        /// A random number that this prober keeps until it ends.
        instance: u64,
    },
    /// A check of the set that is being sent will not be probed.
    Rejected {
        /// The check.
        id: CheckId,
        /// Reason.
        reason: RejectReason,
    },
    /// The streaks of those checks of the link's first set that the prober already had. Sent before `Committed`.
    Histories(Vec<VerdictHistory>),
    /// The set or the amendment is in force.
    Committed {
        /// As in `Commit`.
        generation: u64,
    },
    /// What came of probes, in the order in which each check's probes started.
    Outcomes(Vec<Outcome>),
    /// The prober lives.
    Heartbeat(ProberStats),
}
