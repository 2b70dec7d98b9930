//! How everything is, in one line.

use core::fmt;

use super::State;
use crate::event::FrontendState;
use crate::health::Health;

/// How everything is, in one line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Summary {
    /// How many backends are in each state of [`Health::ALL`].
    backends: [usize; Health::ALL.len()],
    /// How many frontends are in each state of [`FrontendState::ALL`].
    frontends: [usize; FrontendState::ALL.len()],
    /// Whether the prober is there.
    prober: bool,
    /// Whether VPP is there; `None` where none is used.
    vpp: Option<bool>,
}

impl State {
    /// How everything is.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let backends = |health| self.backends.iter().filter(|b| b.tracker.health() == health).count();
        let frontends = |state| self.frontends.iter().filter(|f| f.state == state).count();
        Summary {
            backends: Health::ALL.map(backends),
            frontends: FrontendState::ALL.map(frontends),
            prober: self.prober.connected,
            vpp: self.sync.enabled.then_some(self.sync.info.is_some()),
        }
    }
}

impl fmt::Display for Summary {
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
        let summary =
            Summary { backends: [0, 11, 1, 0, 0, 0], frontends: [0, 1, 0], prober: true, vpp: Some(false) };
        let line = "12 backends: 11 up, 1 down; 1 frontend: 1 up; prober connected; VPP not connected";
        assert_eq!(summary.to_string(), line);
        let empty = Summary { backends: [0; 6], frontends: [0; 3], prober: false, vpp: None };
        assert_eq!(empty.to_string(), "0 backends; 0 frontends; prober not connected");
    }
}
