//! Rate limit of the lines about events. An outage of thousands of servers must not push other lines, the audit trail
//! among them, out of the journal's own limit.

use std::collections::BTreeMap;
use std::time::Duration;

use maglev_core::event::{Event, Kind};
use maglev_time::TokenBucket;
use tracing::warn;

/// Lines of one kind a second, in the long run.
const RATE: u32 = 20;

/// Burst of lines of one kind: 1,000. All limited kinds together stay below `LogRateLimitBurst=` of the unit.
const BURST: Duration = Duration::from_secs(50);

/// Interval between reports of the lines left out.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Writer of the lines about events.
#[derive(Debug, Default)]
pub struct EventLog {
    limits: BTreeMap<&'static str, KindLimit>,
    /// True while lines were left out that no report has counted.
    is_report_due: bool,
}

/// Limit of one kind.
#[derive(Debug)]
struct KindLimit {
    bucket: TokenBucket,
    suppressed: u64,
    /// Time of the first line left out since the last report.
    since: Duration,
}

impl EventLog {
    /// Writes the line of `event`, unless there are too many of its kind. `now` is a monotonic time.
    pub fn write(&mut self, event: &Event, now: Duration) {
        if !is_limited(&event.kind) || self.is_admitted(event.kind.name(), now) {
            super::event(event);
        }
    }

    fn is_admitted(&mut self, kind: &'static str, now: Duration) -> bool {
        let new = || KindLimit { bucket: TokenBucket::new(RATE, BURST, now), suppressed: 0, since: now };
        let limit = self.limits.entry(kind).or_insert_with(new);
        if limit.bucket.take_at(now) {
            return true;
        }
        if limit.suppressed == 0 {
            limit.since = now;
            self.is_report_due = true;
        }
        limit.suppressed += 1;
        false
    }

    /// Reports the lines left out, once in a while.
    pub fn report(&mut self, now: Duration) {
        if !self.is_report_due {
            return;
        }
        self.is_report_due = false;
        for (kind, limit) in &mut self.limits {
            if limit.suppressed == 0 {
                continue;
            }
            if now.saturating_sub(limit.since) < REPORT_INTERVAL {
                self.is_report_due = true;
                continue;
            }
            let suppressed = std::mem::take(&mut limit.suppressed);
            warn!(event = %kind, suppressed, "too many lines of this event: left some out of the log");
        }
    }
}

/// Returns true for events that one cause can raise for every backend, frontend or VIP. The audit trail has no limit here:
/// requests have their own.
const fn is_limited(kind: &Kind) -> bool {
    match kind {
        Kind::Backend { .. }
        | Kind::Frontend { .. }
        | Kind::LocalFaults(_)
        | Kind::CheckRejected { .. }
        | Kind::Synced { .. }
        | Kind::StepFailed { .. }
        | Kind::Drift { .. }
        | Kind::AddressConflict { .. } => true,
        Kind::MassFailure(_)
        | Kind::Prober { .. }
        | Kind::Vpp { .. }
        | Kind::LbConf { .. }
        | Kind::Reloaded
        | Kind::Operator(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use maglev_core::event::{Audit, AuditAction};
    use maglev_core::time::WallTime;

    use super::super::tests::logged;
    use super::*;
    use crate::fixture;

    #[test]
    fn storm_is_counted_and_audit_is_whole() {
        let audit = Audit::of("alice (uid 1000)".into(), AuditAction::Disable);
        let audit = Event { at: WallTime(0), kind: Kind::Operator(audit) };
        let (second, mut log) = (Duration::from_secs(1), EventLog::default());
        let text = logged("info", || {
            for _ in 0..5000 {
                log.write(&fixture::nginx0_down(), second);
                log.write(&audit, second);
                log.report(second);
            }
            log.report(11 * second);
            log.report(12 * second);
        });
        let count = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        assert_eq!((count("backend changed state"), count(" audit ")), (1000, 5000));
        assert_eq!(count("left some out"), 1, "{text}");
        assert!(text.ends_with("left some out of the log event=backend suppressed=4000\n"), "{text}");
    }

    #[test]
    fn kinds_have_separate_limits() {
        let mut log = EventLog::default();
        let now = Duration::ZERO;
        assert_eq!((0..2000).filter(|_| log.is_admitted("backend", now)).count(), 1000);
        assert!(log.is_admitted("sync", now));
        assert_eq!((0..50).filter(|_| log.is_admitted("backend", Duration::from_secs(1))).count(), 20);
    }
}
