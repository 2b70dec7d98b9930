//! Reconciliation of VIPs: jobs in flight, failures, and the cursor of the drift check.
//!
//! A VIP has at most one job. Changes during a job are considered when it ends, so VPP gets the latest state and not each
//! intermediate one.
//!
//! ```text
//!                 steps planned                    step failed
//!        ┌──────┐ ─────────────► ┌─────────┐ ────────────────► ┌─────────┐
//!        │ idle │                │ Running │                   │ Waiting │
//!        └──────┘ ◄───────────── └─────────┘                   └─────────┘
//!          │  ▲   all applied                                       │ backoff timer
//!          │  │                                                     ▼
//!          │  └───────────────── answer ──────────────────────► ┌─────────┐
//!          └──── drift check, VIP listed with a difference ───► │ Reading │
//!                                                               └─────────┘
//! ```
//!
//! | state   | in flight                    | leaves the state by                                                   |
//! |---------|------------------------------|-----------------------------------------------------------------------|
//! | idle    | nothing                      | a plan with steps (`Apply`), or a check of the VIP (`ReadServers`)     |
//! | Running | `Apply`                      | `StepsApplied`: idle, which plans again; after an error, Waiting       |
//! | Waiting | a timer: exponential backoff | the timer: Reading by `ReadVip`                                        |
//! | Reading | `ReadServers` or `ReadVip`   | `ServersRead` or `VipRead`: idle, which plans again                    |
//!
//! A lost connection discards all jobs: their answers never arrive.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use crate::dataplane::{Encap, Step, VipKey};
use crate::plan;
use crate::time::MonoTime;

/// Jobs, failures and drift checks of all VIPs.
#[derive(Clone, Debug, Default)]
pub(super) struct VipReconciler {
    jobs: BTreeMap<VipKey, VipJob>,
    failures: BTreeMap<VipKey, VipFailure>,
    /// VIPs that left the configuration. They are removed from VPP even if it keeps foreign VIPs.
    retired: Arc<BTreeSet<VipKey>>,
    /// While VPP lists its VIPs: those with a job since the request, for which the list may be out of date.
    list_in_flight: Option<BTreeSet<VipKey>>,
    /// VIP of the last drift check.
    cursor: Option<VipKey>,
    /// Time of the next drift check.
    next_drift_check: Option<MonoTime>,
}

/// Consecutive failed runs of a VIP.
#[derive(Clone, Debug)]
pub(super) struct VipFailure {
    /// The step that VPP rejected last.
    pub step: Step,
    pub error: String,
    pub times: u32,
}

/// A job in flight for a VIP.
#[derive(Clone, Debug)]
pub(super) enum VipJob {
    Running(Vec<Step>),
    Reading,
    Waiting,
}

impl VipReconciler {
    /// Returns the job of a VIP.
    pub fn job(&self, vip: &VipKey) -> Option<&VipJob> {
        self.jobs.get(vip)
    }

    /// Reports whether a VIP has a job.
    pub fn is_busy(&self, vip: &VipKey) -> bool {
        self.jobs.contains_key(vip)
    }

    /// Starts a job.
    pub fn begin(&mut self, vip: VipKey, job: VipJob) {
        self.jobs.insert(vip, job);
        if let Some(touched) = &mut self.list_in_flight {
            touched.insert(vip);
        }
    }

    /// Ends the job of a VIP, and returns it.
    pub fn end(&mut self, vip: &VipKey) -> Option<VipJob> {
        self.jobs.remove(vip)
    }

    /// Returns the VIPs of one prefix that VPP is being asked to create, with their encapsulation.
    pub fn creations(&self, vip: &VipKey) -> impl Iterator<Item = (&VipKey, Encap)> {
        of_prefix(&self.jobs, vip).filter_map(|(key, job)| match job {
            VipJob::Running(steps) => plan::created_options(steps).map(|(encap, _)| (key, encap)),
            VipJob::Reading | VipJob::Waiting => None,
        })
    }

    /// Returns the failure of a VIP.
    pub fn failure(&self, vip: &VipKey) -> Option<&VipFailure> {
        self.failures.get(vip)
    }

    /// Returns all failures.
    pub fn failures(&self) -> impl Iterator<Item = (&VipKey, &VipFailure)> {
        self.failures.iter()
    }

    /// Records a failed step, and returns the number of consecutive failures.
    pub fn record_failure(&mut self, vip: VipKey, step: Step, error: String) -> u32 {
        let times = self.failures.get(&vip).map_or(0, |f| f.times) + 1;
        self.failures.insert(vip, VipFailure { step, error, times });
        times
    }

    /// Forgets the failure of a VIP.
    pub fn clear_failure(&mut self, vip: &VipKey) {
        self.failures.remove(vip);
    }

    /// Reports whether a VIP has left the configuration and is still to be removed.
    pub fn is_retired(&self, vip: &VipKey) -> bool {
        self.retired.contains(vip)
    }

    /// Returns the VIPs that are still to be removed.
    pub fn retired(&self) -> impl Iterator<Item = VipKey> {
        self.retired.iter().copied()
    }

    /// Retires the VIPs of `before` that are not in `now`, and keeps those retired earlier.
    pub fn retire<T>(&mut self, before: &BTreeMap<VipKey, T>, now: &BTreeMap<VipKey, T>) {
        let gone = self.retired.iter().chain(before.keys()).filter(|vip| !now.contains_key(vip));
        self.retired = Arc::new(gone.copied().collect());
    }

    /// Returns a shared reference to the retired VIPs. Each change is another allocation.
    pub const fn retired_shared(&self) -> &Arc<BTreeSet<VipKey>> {
        &self.retired
    }

    /// Forgets a retired VIP: VPP does not have it any more.
    pub fn unretire(&mut self, vip: &VipKey) {
        if self.retired.contains(vip) {
            Arc::make_mut(&mut self.retired).remove(vip);
        }
    }

    /// Forgets all retired VIPs: another VPP has only foreign ones.
    pub fn clear_retired(&mut self) {
        self.retired = Arc::default();
    }

    /// Records a request of VPP's list. Returns false if one is in flight.
    pub fn begin_list(&mut self) -> bool {
        if self.list_in_flight.is_some() {
            return false;
        }
        // VPP may read the list before or after it completes these jobs.
        self.list_in_flight = Some(self.jobs.keys().copied().collect());
        true
    }

    /// Ends the request of VPP's list, and returns the VIPs with a job since.
    pub fn end_list(&mut self) -> Option<BTreeSet<VipKey>> {
        self.list_in_flight.take()
    }

    /// Moves the cursor of the drift check to the next of `vips`; `None` after the last.
    pub fn advance_cursor<T>(&mut self, vips: &BTreeMap<VipKey, T>) -> Option<VipKey> {
        let after = self.cursor.map_or(Bound::Unbounded, Bound::Excluded);
        self.cursor = vips.range((after, Bound::Unbounded)).next().map(|(vip, _)| *vip);
        self.cursor
    }

    /// Returns the time of the next drift check.
    pub const fn next_drift_check(&self) -> Option<MonoTime> {
        self.next_drift_check
    }

    /// Sets the time of the next drift check, and returns the former one.
    pub const fn set_drift_check(&mut self, at: MonoTime) -> Option<MonoTime> {
        self.next_drift_check.replace(at)
    }

    /// Discards jobs and failures: no answer will arrive.
    pub fn reset(&mut self) {
        self.jobs.clear();
        self.failures.clear();
        self.list_in_flight = None;
    }
}

/// Returns the entries of the VIPs of one prefix.
pub(super) fn of_prefix<'a, T>(
    vips: &'a BTreeMap<VipKey, T>,
    vip: &VipKey,
) -> impl Iterator<Item = (&'a VipKey, &'a T)> + use<'a, T> {
    let first = VipKey { protocol: 0, port: 0, ..*vip };
    let last = VipKey { protocol: u8::MAX, port: u16::MAX, ..*vip };
    vips.range(first..=last)
}
