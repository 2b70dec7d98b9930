//! Freshness: how current a backend's state is.

use core::time::Duration;

/// Number of local faults of an unobserved backend with an answer of another backend before each that make it hidden. One may
/// be in flight when a fault of the whole host ends.
const EVIDENCE: u8 = 2;

/// Freshness of one backend's state. Health itself never changes by it.
///
/// ```text
///               prober lost, check rejected
///   current ──────────────────────────────────► stale
///      │  ▲                                       │
///      │  └────────────── verdict ◄───────────────┤
///      │  local fault                             │ local fault
///      ▼                                          ▼
///   only local faults ── for `fall` intervals ──► unobserved (also stale)
///                                                  │ local faults, with an answer of another backend before each
///                                                  ▼
///                                                hidden (also stale)
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Freshness {
    /// True if there was no verdict since the prober was lost or rejected the check.
    stale: bool,
    /// Start of the first probe since the last verdict that ended in a local fault.
    local_faults_since: Option<u64>,
    /// Start of the probe after which an answer of another backend is evidence, if local faults were the only outcomes for too
    /// long.
    unobserved_since: Option<u64>,
    /// Number of local faults since then with such an answer before each, up to [`EVIDENCE`].
    evidence: u8,
}

impl Freshness {
    /// Reports whether the state is out of date, for either reason.
    pub const fn is_stale(self) -> bool {
        self.stale || self.is_unobserved()
    }

    /// Reports whether local faults were the only outcomes for too long.
    pub const fn is_unobserved(self) -> bool {
        self.unobserved_since.is_some()
    }

    /// Reports whether it is unobserved although other backends answer.
    pub const fn is_hidden(self) -> bool {
        self.evidence == EVIDENCE
    }

    /// Reports whether each outcome since the last verdict was a local fault.
    pub const fn only_local_faults(self) -> bool {
        self.local_faults_since.is_some()
    }

    /// Reports whether the last outcome was a verdict of a connected prober.
    pub const fn is_current(self) -> bool {
        !self.stale && self.local_faults_since.is_none()
    }

    /// Records a verdict: the state is current.
    pub const fn on_verdict(&mut self) {
        self.stale = false;
        self.clear_faults();
    }

    /// Records a local fault of a probe that started at `started`.
    pub fn on_local_fault(&mut self, started: u64) {
        self.local_faults_since.get_or_insert(started);
    }

    /// Marks the state as unobserved if local faults have been the only outcomes for `bound`, up to a probe that started at
    /// `started`.
    pub fn mark_unobserved_after(&mut self, bound: Duration, started: u64) {
        let since = self.local_faults_since.unwrap_or(started);
        if Duration::from_nanos(started.saturating_sub(since)) >= bound {
            self.unobserved_since.get_or_insert(started);
        }
    }

    /// Counts a further local fault of an unobserved backend, of a probe that started at `started`. The newest probe with an
    /// answer of another backend started at `answered`.
    pub fn count_evidence(&mut self, answered: u64, started: u64) {
        if !self.is_hidden() && self.unobserved_since.is_some_and(|since| started.min(answered) > since) {
            self.unobserved_since = Some(started);
            self.evidence += 1;
        }
    }

    /// Sets whether the state is stale because no outcome will arrive for a while.
    pub const fn set_stale(&mut self, stale: bool) {
        self.stale = stale;
        self.clear_faults();
    }

    /// Discards earlier local faults.
    pub const fn clear_faults(&mut self) {
        self.local_faults_since = None;
        self.unobserved_since = None;
        self.evidence = 0;
    }
}
