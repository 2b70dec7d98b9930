//! The verdicts on a check, as a controller that comes back wants them.

use maglev_ipc::{CheckId, Outcome, VerdictHistory};

/// The newest verdicts on a check.
#[derive(Debug, Default)]
pub struct CheckHistory {
    /// With the validity of the certificate that was shown last, which need not be in this one.
    last: Option<Outcome>,
    passes: u64,
    known: u8,
}

impl CheckHistory {
    /// Remembers an outcome, if it is a verdict.
    pub fn record(&mut self, outcome: &Outcome) {
        let Some(passed) = outcome.code.passed() else { return };
        self.passes = self.passes << 1 | u64::from(passed);
        self.known = (self.known + 1).min(64);
        let shown = self.last.take().and_then(|last| last.not_after);
        let not_after = outcome.not_after.or(shown);
        self.last = Some(Outcome { not_after, ..outcome.clone() });
    }

    /// What is known of the check that is now called `id`.
    pub fn streak(&self, id: CheckId) -> Option<VerdictHistory> {
        let last = Outcome { check: id, ..self.last.clone()? };
        Some(VerdictHistory { last, bits: self.passes, len: self.known })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use maglev_ipc::{OutcomeCode, OutcomeDetail};

    use super::*;

    #[test]
    fn a_certificate_is_remembered_until_another_is_shown() {
        let mut history = CheckHistory::default();
        let shown = [None, Some(5), None, None, Some(4), None];
        let handed_over = shown.map(|not_after| {
            history.record(&Outcome {
                check: CheckId(1),
                seq: 1,
                started: 0,
                duration: Duration::ZERO,
                code: OutcomeCode::L7Ok,
                detail: OutcomeDetail::None,
                timeout: None,
                not_after,
            });
            history.streak(CheckId(2)).unwrap().last.not_after
        });
        assert_eq!(handed_over, [None, Some(5), Some(5), Some(5), Some(4), Some(4)]);
    }
}
