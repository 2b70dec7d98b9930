//! Observer of messages and calls, for metrics and logs.

use std::time::Duration;

/// Result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// VPP executed it.
    Ok,
    /// VPP replied with an error.
    Refused,
    /// VPP did not reply in time.
    Timeout,
    /// The connection ended first.
    Lost,
}

/// Name under which messages are counted that answer no call in flight.
pub const UNMATCHED: &str = "unmatched";

/// Observer of all messages, those of the handshake included, and of all calls. The task that owns the socket calls it, so it
/// must not block. `message` is a message's name without its checksum.
pub trait ApiObserver: Send + Sync {
    /// Called for each message to VPP. `success` is false if the connection ended first.
    fn sent(&self, message: &'static str, success: bool) {
        _ = (message, success);
    }

    /// Called for each message from VPP. `success` is false if VPP reports an error with it, and for an expected message
    /// that is malformed or did not arrive.
    fn received(&self, message: &'static str, success: bool) {
        _ = (message, success);
    }

    /// Called after a call ended, `took` after it was sent.
    fn ended(&self, message: &'static str, outcome: CallOutcome, took: Duration) {
        _ = (message, outcome, took);
    }

    /// Called for a reply to no call in flight, such as one after its timeout. The client drops it.
    fn unmatched_reply(&self) {}
}

/// Observes nothing.
impl ApiObserver for () {}
