//! Model of a prober with verdict histories.

use std::time::Duration;

use maglev_core::state::CheckSet;
use maglev_ipc::{Check, CheckId, Outcome, OutcomeCode, OutcomeDetail, VerdictHistory};

#[derive(Default)]
pub struct ProberModel {
    pub connected: bool,
    pub set: CheckSet,
    pub seq: u64,
    /// Newest verdicts of each check, and their number.
    pub verdicts: Vec<(Check, u64, u8)>,
}

impl ProberModel {
    pub fn remember(&mut self, check: &Check, passed: bool) {
        if !self.verdicts.iter().any(|(c, ..)| c == check) {
            self.verdicts.push((check.clone(), 0, 0));
        }
        let verdicts = self.verdicts.iter_mut().find(|(c, ..)| c == check);
        let (_, passes, known) = verdicts.unwrap();
        *passes = *passes << 1 | u64::from(passed);
        *known = (*known + 1).min(64);
    }

    pub fn history(&self, id: CheckId, check: &Check) -> Option<VerdictHistory> {
        let (_, passes, known) = self.verdicts.iter().find(|(c, ..)| c == check)?;
        let code = if passes & 1 == 1 { OutcomeCode::L7Ok } else { OutcomeCode::L4Tout };
        Some(VerdictHistory { last: outcome(id, self.seq, code), bits: *passes, len: *known })
    }
}

pub fn outcome(check: CheckId, seq: u64, code: OutcomeCode) -> Outcome {
    Outcome {
        check,
        seq,
        started: 0,
        duration: Duration::ZERO,
        code,
        detail: OutcomeDetail::None,
        timeout: None,
        not_after: None,
        has_no_route: false,
    }
}
