//! The result of one probe.

use maglev_ipc::{CertificateExpiry, OutcomeCode, OutcomeDetail};

/// The result of one probe, before the scheduler adds its timing.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Outcome code.
    pub code: OutcomeCode,
    /// Cause, for operators.
    pub detail: OutcomeDetail,
    /// Expiry of the certificates that the server presented.
    pub not_after: Option<CertificateExpiry>,
    /// True if this host has no route to the target; see [`maglev_ipc::Outcome`].
    pub has_no_route: bool,
    /// True if the probe reused a kept connection or resumed a TLS session: such probes are much faster than others.
    pub skipped_setup: bool,
}

impl Verdict {
    /// Returns a verdict whose code needs no detail.
    pub const fn from_code(code: OutcomeCode) -> Self {
        Self { code, detail: OutcomeDetail::None, not_after: None, has_no_route: false, skipped_setup: false }
    }

    /// Returns a verdict with its cause.
    pub fn new(code: OutcomeCode, detail: impl Into<OutcomeDetail>) -> Self {
        Self { code, detail: detail.into(), not_after: None, has_no_route: false, skipped_setup: false }
    }
}
