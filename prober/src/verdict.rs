//! The result of one probe.

use maglev_ipc::{Code, Detail};

/// What a probe came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The verdict proper.
    pub code: Code,
    /// What a person would ask next.
    pub detail: Detail,
    /// Until when the server's certificate is valid, in seconds since the Unix epoch, if it has shown one.
    pub not_after: Option<u64>,
    /// The probe did without what a connection costs at first: it had a kept one, or resumed a TLS session.
    pub is_short: bool,
}

impl Verdict {
    /// A code that says it all.
    pub const fn from_code(code: Code) -> Self {
        Self { code, detail: Detail::None, not_after: None, is_short: false }
    }

    /// A code, and why.
    pub fn new(code: Code, detail: impl Into<Detail>) -> Self {
        Self { code, detail: detail.into(), not_after: None, is_short: false }
    }
}
