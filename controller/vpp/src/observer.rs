//! What the outside world may count.

use std::time::Duration;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// VPP did it.
    Ok,
    /// VPP would not.
    Refused,
    /// VPP did not answer.
    Timeout,
    /// The connection ended first.
    Lost,
}

/// Is told of each call, from the task that owns the socket: it must not block. `message` is the name of the request
/// or dump, without its checksum.
pub trait Observer: Send + Sync {
    /// A call is on its way.
    fn sent(&self, message: &'static str) {
        _ = message;
    }

    /// A call that was sent has ended, `took` after it was sent.
    fn ended(&self, message: &'static str, outcome: Outcome, took: Duration) {
        _ = (message, outcome, took);
    }

    /// VPP sent something that answers no call in flight: most likely an answer after its time. It was dropped.
    fn stray(&self) {}
}

/// Counts nothing.
impl Observer for () {}
