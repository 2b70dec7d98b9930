//! The verdicts on a check, as a controller that comes back wants them.

use maglev_ipc::{CheckId, Outcome, Streak};

/// The newest verdicts on a check.
#[derive(Debug, Default)]
pub struct History {
    last: Option<Outcome>,
    passes: u64,
    known: u8,
}

impl History {
    /// Remembers an outcome, if it is a verdict.
    pub fn record(&mut self, outcome: &Outcome) {
        let Some(passed) = outcome.code.passed() else { return };
        self.passes = self.passes << 1 | u64::from(passed);
        self.known = (self.known + 1).min(64);
        self.last = Some(outcome.clone());
    }

    /// What is known of the check that is now called `id`.
    pub fn streak(&self, id: CheckId) -> Option<Streak> {
        let last = Outcome { check: id, ..self.last.clone()? };
        Some(Streak { last, passes: self.passes, known: self.known })
    }
}
