//! Reconciliation of VPP's global settings.

use alloc::string::String;

use crate::dataplane::LbConf;

/// Reconciliation of VPP's global settings: the job in flight and the last rejection.
#[derive(Clone, Debug, Default)]
pub(super) struct ConfReconciler {
    job: ConfJob,
    failures: u32,
    rejection: Option<String>,
}

/// Job in flight for the global settings.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum ConfJob {
    #[default]
    Idle,
    /// Sent to VPP, whose answer is outstanding.
    Sent(LbConf),
    /// Waiting for the backoff timer after a failure.
    Waiting,
}

/// Result of a sent request.
pub(super) enum ConfResult {
    /// VPP has these settings.
    Applied(LbConf),
    /// VPP has rejected the settings so many times in a row.
    Rejected(u32),
}

impl ConfReconciler {
    /// Reports whether a request may be sent.
    pub fn is_idle(&self) -> bool {
        self.job == ConfJob::Idle
    }

    /// Reports whether an answer is outstanding.
    pub const fn is_sent(&self) -> bool {
        matches!(self.job, ConfJob::Sent(_))
    }

    /// Returns VPP's error while a rejected request waits for its retry.
    pub fn awaited_rejection(&self) -> Option<&str> {
        self.rejection().filter(|_| self.job == ConfJob::Waiting)
    }

    /// Returns VPP's error if it rejected the last request.
    pub fn rejection(&self) -> Option<&str> {
        self.rejection.as_deref()
    }

    /// Records a request.
    pub const fn begin(&mut self, conf: LbConf) {
        self.job = ConfJob::Sent(conf);
    }

    /// Records VPP's answer; `None` if no request is in flight.
    pub fn end(&mut self, error: Option<String>) -> Option<ConfResult> {
        let ConfJob::Sent(conf) = self.job else { return None };
        self.rejection = error;
        if self.rejection.is_some() {
            self.job = ConfJob::Waiting;
            self.failures += 1;
            return Some(ConfResult::Rejected(self.failures));
        }
        self.job = ConfJob::Idle;
        self.failures = 0;
        Some(ConfResult::Applied(conf))
    }

    /// Ends the wait after a failure. Returns false if there is none.
    pub fn end_wait(&mut self) -> bool {
        let waits = self.job == ConfJob::Waiting;
        if waits {
            self.job = ConfJob::Idle;
        }
        waits
    }

    /// Discards the job: no answer will arrive.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
