//! How everything is, in one line.

use core::fmt;

use super::State;
use crate::failover::FrontendState;
use crate::health::Health;

/// How everything is, in one line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StateSummary {
    /// How many backends are in each state of [`Health::ALL`].
    backends: [usize; Health::ALL.len()],
    /// How many frontends are in each state of [`FrontendState::ALL`].
    frontends: [usize; FrontendState::ALL.len()],
    /// Whether the prober is there.
    prober: bool,
    /// Whether VPP is there; `None` where none is used.
    vpp: Option<bool>,
}

/// How many there are of each, kept up to date with each move, so that nobody has to count them all.
#[derive(Clone, Debug, Default)]
pub(super) struct StateCounts {
    backends: [usize; Health::ALL.len()],
    frontends: [usize; FrontendState::ALL.len()],
}

impl StateCounts {
    /// A backend has moved. While a new configuration is taken in, it may be one that is still to be counted.
    pub const fn moved(&mut self, from: Health, to: Health) {
        let (from, to) = (from as usize, to as usize);
        self.backends[from] = self.backends[from].saturating_sub(1);
        self.backends[to] += 1;
    }

    /// A frontend has turned into another state; as with [`Self::moved`].
    pub const fn turned(&mut self, from: FrontendState, to: FrontendState) {
        let (from, to) = (from as usize, to as usize);
        self.frontends[from] = self.frontends[from].saturating_sub(1);
        self.frontends[to] += 1;
    }
}

impl State {
    /// Counts everything anew, after a change of what there is.
    pub(super) fn count(&mut self) {
        self.note_sights();
        self.counts = StateCounts::default();
        for backend in self.backends.iter() {
            self.counts.backends[backend.tracker.health() as usize] += 1;
        }
        for frontend in self.frontends.iter() {
            self.counts.frontends[frontend.state as usize] += 1;
        }
    }

    /// How everything is.
    #[must_use]
    pub fn summary(&self) -> StateSummary {
        StateSummary {
            backends: self.counts.backends,
            frontends: self.counts.frontends,
            prober: self.prober.connected,
            vpp: self.sync.enabled.then_some(self.sync.info.is_some()),
        }
    }
}

impl fmt::Display for StateSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tell(f, "backend", Health::ALL.iter().zip(&self.backends))?;
        f.write_str("; ")?;
        tell(f, "frontend", FrontendState::ALL.iter().zip(&self.frontends))?;
        let there = |connected: bool| if connected { "connected" } else { "not connected" };
        write!(f, "; prober {}", there(self.prober))?;
        match self.vpp {
            Some(connected) => write!(f, "; VPP {}", there(connected)),
            None => Ok(()),
        }
    }
}

/// How many things there are, and how many of them are in which state.
fn tell<'a, S: fmt::Display + 'a>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    counts: impl Iterator<Item = (S, &'a usize)> + Clone,
) -> fmt::Result {
    let all: usize = counts.clone().map(|(_, count)| count).sum();
    write!(f, "{all} {what}{}", if all == 1 { "" } else { "s" })?;
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
    fn it_is_one_line() {
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
