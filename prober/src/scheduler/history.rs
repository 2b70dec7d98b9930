//! Recent verdicts of a check, for a controller that reconnects.

use maglev_ipc::{CheckId, Outcome, VerdictHistory};

/// The last 64 verdicts of a check.
#[derive(Debug, Default)]
pub struct CheckHistory {
    /// Newest verdict, with the validity of the certificate presented last, which may be that of an earlier probe.
    last: Option<Outcome>,
    /// One bit per verdict, the newest in bit 0; set for a pass.
    bits: u64,
    len: u8,
    /// True if a probe since the newest verdict had no route. Only the controller can judge that, and another one does not know its judgement.
    is_doubtful: bool,
}

impl CheckHistory {
    /// Records an outcome, unless it is a local fault.
    pub fn record(&mut self, outcome: &Outcome) {
        self.is_doubtful |= outcome.has_no_route;
        let Some(passed) = outcome.code.passed() else { return };
        self.is_doubtful = false;
        self.bits = self.bits << 1 | u64::from(passed);
        self.len = (self.len + 1).min(64);
        let previous = self.last.take().and_then(|last| last.not_after);
        let not_after = outcome.not_after.or(previous);
        self.last = Some(Outcome { not_after, ..outcome.clone() });
    }

    /// Returns the verdicts, under the check's current `id`. There are none if a later probe had no route: the server may be
    /// down since.
    pub fn verdicts(&self, id: CheckId) -> Option<VerdictHistory> {
        if self.is_doubtful {
            return None;
        }
        let last = Outcome { check: id, ..self.last.clone()? };
        Some(VerdictHistory { last, bits: self.bits, len: self.len })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use maglev_ipc::{CertificateExpiry, OutcomeCode, OutcomeDetail};

    use super::*;

    fn outcome(code: OutcomeCode, not_after: Option<CertificateExpiry>, has_no_route: bool) -> Outcome {
        Outcome {
            check: CheckId(1),
            seq: 1,
            started: 0,
            duration: Duration::ZERO,
            code,
            detail: OutcomeDetail::None,
            timeout: None,
            not_after,
            has_no_route,
        }
    }

    #[test]
    fn not_after_persists_until_next_certificate() {
        let mut history = CheckHistory::default();
        let [five, four] = [5, 4].map(|leaf| Some(CertificateExpiry { leaf, chain: leaf - 1 }));
        let shown = [None, five, None, None, four, None];
        let reported = shown.map(|not_after| {
            history.record(&outcome(OutcomeCode::L7Ok, not_after, false));
            history.verdicts(CheckId(2)).unwrap().last.not_after
        });
        assert_eq!(reported, [None, five, five, five, four, four]);
    }

    #[test]
    fn missing_route_withholds_verdicts_until_next_one() {
        let mut history = CheckHistory::default();
        let steps = [
            (OutcomeCode::L7Ok, false),
            (OutcomeCode::Local, false),
            (OutcomeCode::Local, true),
            (OutcomeCode::Local, false),
            (OutcomeCode::L4Tout, false),
        ];
        let known = steps.map(|(code, has_no_route)| {
            history.record(&outcome(code, None, has_no_route));
            history.verdicts(CheckId(1)).map(|verdicts| (verdicts.bits, verdicts.len))
        });
        assert_eq!(known, [Some((0b1, 1)), Some((0b1, 1)), None, None, Some((0b10, 2))]);
    }
}
