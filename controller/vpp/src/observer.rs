//! Observer of calls, for metrics.

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

/// Observer of all calls. The task that owns the socket calls it, so it must not block. `message` is the name of the request
/// or dump without its checksum.
pub trait ApiObserver: Send + Sync {
    /// Called after a call was sent.
    fn sent(&self, message: &'static str) {
        _ = message;
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
