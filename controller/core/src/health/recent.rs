//! The newest outcomes of a backend in bounded memory: equal outcomes in a row form one run.

use maglev_ipc::{OutcomeCode, OutcomeDetail};

use crate::time::WallTime;

/// Number of stored runs.
const MAX_RUNS: usize = 6;

/// Equal outcomes in a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutcomeRun {
    /// Verdict of each outcome.
    pub code: OutcomeCode,
    /// HTTP status of each outcome, if the server sent one.
    pub status: Option<u16>,
    /// Number of outcomes.
    pub count: u32,
    /// Arrival of the first outcome.
    pub since: WallTime,
}

/// The newest runs. They hold no text, so a flapping backend takes no more memory than a steady one.
#[derive(Clone, Debug, Default)]
pub(super) struct RecentOutcomes([Option<OutcomeRun>; MAX_RUNS]);

impl RecentOutcomes {
    pub fn push(&mut self, code: OutcomeCode, detail: &OutcomeDetail, at: WallTime) {
        let status = match detail {
            OutcomeDetail::Status(status) => Some(*status),
            OutcomeDetail::None | OutcomeDetail::Text(_) => None,
        };
        match &mut self.0[0] {
            Some(newest) if (newest.code, newest.status) == (code, status) => {
                newest.count = newest.count.saturating_add(1);
            }
            _ => {
                self.0.rotate_right(1);
                self.0[0] = Some(OutcomeRun { code, status, count: 1, since: at });
            }
        }
    }

    /// Returns the runs, newest first.
    pub fn runs(&self) -> impl Iterator<Item = OutcomeRun> {
        self.0.iter().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_outcomes_merge_and_oldest_run_is_dropped() {
        let mut recent = RecentOutcomes::default();
        let (ok, failed) = (OutcomeDetail::Status(200), OutcomeDetail::Status(503));
        for at in 0..3 {
            recent.push(OutcomeCode::L7Ok, &ok, WallTime(at));
        }
        recent.push(OutcomeCode::L7Sts, &failed, WallTime(3));
        recent.push(OutcomeCode::L7Sts, &failed, WallTime(4));
        recent.push(OutcomeCode::L7Sts, &OutcomeDetail::Status(500), WallTime(5));
        let counts = |recent: &RecentOutcomes| {
            recent.runs().map(|s| (s.count, s.status, s.since.0)).collect::<alloc::vec::Vec<_>>()
        };
        assert_eq!(counts(&recent), [(1, Some(500), 5), (2, Some(503), 3), (3, Some(200), 0)]);
        for at in 6..20 {
            let code = if at % 2 == 0 { OutcomeCode::L4Con } else { OutcomeCode::L4Tout };
            recent.push(code, &"connection refused".into(), WallTime(at));
        }
        assert_eq!(recent.runs().count(), MAX_RUNS);
        assert_eq!(recent.runs().next().map(|s| s.since), Some(WallTime(19)));
    }

    #[test]
    fn recent_outcomes_fit_in_200_bytes() {
        assert!(size_of::<RecentOutcomes>() <= 200, "{}", size_of::<RecentOutcomes>());
    }
}
