//! The result of one probe.

use maglev_ipc::{OutcomeCode, OutcomeDetail};

/// What a probe came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The verdict proper.
    pub code: OutcomeCode,
    /// What a person would ask next.
    pub detail: OutcomeDetail,
    /// Until when the server's certificate is valid, in seconds since the Unix epoch, if it has shown one.
    pub not_after: Option<u64>,
    /// The probe did without what a connection costs at first: it had a kept one, or resumed a TLS session.
    pub is_short: bool,
}

impl Verdict {
    /// A code that says it all.
    pub const fn from_code(code: OutcomeCode) -> Self {
        Self { code, detail: OutcomeDetail::None, not_after: None, is_short: false }
    }

    /// A code, and why.
    pub fn new(code: OutcomeCode, detail: impl Into<OutcomeDetail>) -> Self {
        Self { code, detail: detail.into(), not_after: None, is_short: false }
    }
}
