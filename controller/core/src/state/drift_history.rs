//! External changes of VIPs that were reverted again and again: two programs may each revert the other's.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use crate::dataplane::VipKey;
use crate::time::MonoTime;

/// Time without a change after which a run of changes is over, or two rounds of drift checks if these take longer.
const MIN_QUIET: Duration = Duration::from_secs(600);

/// Number of changes from which on a run is worth a warning. One or two may be a person's.
const MANY: u32 = 3;

/// Reverted changes of each configured VIP.
#[derive(Clone, Debug, Default)]
pub(super) struct DriftHistory(BTreeMap<VipKey, DriftRun>);

/// Changes with short pauses between them.
#[derive(Clone, Copy, Debug)]
struct DriftRun {
    times: u32,
    last: MonoTime,
}

impl DriftHistory {
    /// Records a change at `now`.
    pub fn record(&mut self, vip: VipKey, sync_interval: Duration, now: MonoTime) {
        let times = self.run(&vip, sync_interval, now).map_or(0, |run| run.times);
        self.0.insert(vip, DriftRun { times: times.saturating_add(1), last: now });
    }

    /// Returns a warning while a VIP is changed again and again.
    pub fn warning(&self, vip: &VipKey, sync_interval: Duration, now: MonoTime) -> Option<String> {
        let times = self.run(vip, sync_interval, now)?.times;
        (times >= MANY).then(|| {
            format!("another client of VPP changes this VIP again and again, {times} times by now: is a second maglevd there?")
        })
    }

    /// Keeps the VIPs for which `is_configured`.
    pub fn retain(&mut self, is_configured: impl Fn(&VipKey) -> bool) {
        self.0.retain(|vip, _| is_configured(vip));
    }

    /// Returns the run of a VIP, if it is not over.
    fn run(&self, vip: &VipKey, sync_interval: Duration, now: MonoTime) -> Option<DriftRun> {
        let quiet = MIN_QUIET.max(sync_interval.saturating_mul(2));
        self.0.get(vip).copied().filter(|run| now <= run.last + quiet)
    }
}
