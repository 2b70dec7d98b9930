//! Replies that a check has missed while this host lost packets.

/// Run of replies missed by one check that overflows explain.
#[derive(Clone, Copy, Debug)]
pub struct MissedReplies {
    /// Probability that the overflows took all of them.
    probability: f64,
}

impl MissedReplies {
    /// Least probability that excuses a missing reply: one in a million. Of a healthy server's replies under a flood, one in as
    /// many runs then counts as missing.
    const LEAST: f64 = 1e-6;

    /// Begins a run, after an answer.
    pub const NONE: Self = Self { probability: 1.0 };

    /// Adds a missing reply. Returns true if overflows that dropped this share of all packets still explain the run.
    pub fn explains(&mut self, share: f64) -> bool {
        self.probability *= share;
        self.probability >= Self::LEAST
    }
}

impl Default for MissedReplies {
    fn default() -> Self {
        Self::NONE
    }
}
