//! Reconciliation of VPP's global settings.

use alloc::string::String;

use crate::dataplane::LbConf;

/// Reconciliation of VPP's global settings: the job in flight and the last rejection.
#[derive(Clone, Debug, Default)]
pub(super) struct ConfReconciler {
    job: ConfJob,
    failures: u32,
    rejection: Option<String>,
    /// True if settings were in flight since VPP's list was requested, so that the list may show those before.
    list_may_be_outdated: bool,
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

    /// Records a request of VPP's list, which shows the settings too.
    pub const fn begin_list(&mut self) {
        self.list_may_be_outdated = matches!(self.job, ConfJob::Sent(_));
    }

    /// Ends the request of VPP's list. Returns true if its settings say nothing, as others were in flight meanwhile.
    pub const fn end_list(&mut self) -> bool {
        core::mem::replace(&mut self.list_may_be_outdated, false)
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
        self.list_may_be_outdated = true;
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

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: LbConf = LbConf {
        ipv4_src: core::net::Ipv4Addr::LOCALHOST,
        ipv6_src: core::net::Ipv6Addr::LOCALHOST,
        sticky_buckets_per_core: 1024,
        flow_timeout: 40,
    };

    #[test]
    fn list_amid_own_change_says_nothing() {
        let mut job = ConfReconciler::default();
        job.begin_list();
        assert!(!job.end_list(), "nothing was in flight");
        job.begin_list();
        job.begin(CONF);
        job.end(None);
        assert!(job.end_list(), "sent and answered while VPP was listed");
        job.begin(CONF);
        job.begin_list();
        job.end(None);
        assert!(job.end_list(), "sent before, answered while VPP was listed");
        job.begin_list();
        assert!(!job.end_list(), "the next list counts again");
    }
}
