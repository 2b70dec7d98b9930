//! Summary of the state in one line.

use core::fmt;

use super::State;
use crate::failover::FrontendState;
use crate::health::Health;

/// Summary of the state in one line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StateSummary {
    /// Number of backends in each state of [`Health::ALL`].
    backends: [usize; Health::ALL.len()],
    /// Number of frontends in each state of [`FrontendState::ALL`].
    frontends: [usize; FrontendState::ALL.len()],
    /// True if the prober is connected.
    prober: bool,
    /// True if VPP is connected; `None` if none is used.
    vpp: Option<bool>,
}

/// Number of backends and frontends in each state, updated with each transition, so that a summary needs no scan.
#[derive(Clone, Debug, Default)]
pub(super) struct StateCounts {
    backends: [usize; Health::ALL.len()],
    frontends: [usize; FrontendState::ALL.len()],
}

impl StateCounts {
    /// Counts a transition of a backend. During a reload the backend may not be counted yet.
    pub const fn backend_changed(&mut self, from: Health, to: Health) {
        let (from, to) = (from as usize, to as usize);
        self.backends[from] = self.backends[from].saturating_sub(1);
        self.backends[to] += 1;
    }

    /// Counts a transition of a frontend, as [`Self::backend_changed`].
    pub const fn frontend_changed(&mut self, from: FrontendState, to: FrontendState) {
        let (from, to) = (from as usize, to as usize);
        self.frontends[from] = self.frontends[from].saturating_sub(1);
        self.frontends[to] += 1;
    }
}

impl State {
    /// Recounts everything after a change of the configuration.
    pub(super) fn recount(&mut self) {
        self.recount_signals();
        self.counts = StateCounts::default();
        for backend in self.backends.iter() {
            self.counts.backends[backend.tracker.health() as usize] += 1;
        }
        for frontend in self.frontends.iter() {
            self.counts.frontends[frontend.state as usize] += 1;
        }
    }

    /// Returns a summary.
    #[must_use]
    pub fn summary(&self) -> StateSummary {
        StateSummary {
            backends: self.counts.backends,
            frontends: self.counts.frontends,
            prober: self.prober.connected,
            vpp: self.vpp.is_enabled().then_some(self.vpp.is_connected()),
        }
    }
}

impl fmt::Display for StateSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_counts(f, "backend", Health::ALL.iter().zip(&self.backends))?;
        f.write_str("; ")?;
        write_counts(f, "frontend", FrontendState::ALL.iter().zip(&self.frontends))?;
        let link = |connected: bool| if connected { "connected" } else { "not connected" };
        write!(f, "; prober {}", link(self.prober))?;
        match self.vpp {
            Some(connected) => write!(f, "; VPP {}", link(connected)),
            None => Ok(()),
        }
    }
}

/// Writes a total, and the number in each state.
fn write_counts<'a, S: fmt::Display + 'a>(
    f: &mut fmt::Formatter<'_>,
    noun: &str,
    counts: impl Iterator<Item = (S, &'a usize)> + Clone,
) -> fmt::Result {
    let all: usize = counts.clone().map(|(_, count)| count).sum();
    write!(f, "{all} {noun}{}", if all == 1 { "" } else { "s" })?;
    let mut separator = ": ";
    for (state, count) in counts.filter(|(_, count)| **count > 0) {
        write!(f, "{separator}{count} {state}")?;
        separator = ", ";
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn summary_is_one_line() {
        let summary = StateSummary {
            backends: [0, 11, 1, 0, 0, 0],
            frontends: [0, 1, 0],
            prober: true,
            vpp: Some(false),
        };
        let line = "12 backends: 11 up, 1 down; 1 frontend: 1 up; prober connected; VPP not connected";
        assert_eq!(summary.to_string(), line);
        let empty = StateSummary { backends: [0; 6], frontends: [0; 3], prober: false, vpp: None };
        assert_eq!(empty.to_string(), "0 backends; 0 frontends; prober not connected");
    }
}
