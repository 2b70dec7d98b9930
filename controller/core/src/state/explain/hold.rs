//! Why a frontend does not follow health yet, and what it waits for.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::super::frontends::Hold;
use super::standing::Standing;
use super::words::{Age, known, until};
use crate::health::Health;

impl Standing<'_> {
    /// Why the frontend is held, if it is.
    pub fn hold(&self) -> Option<String> {
        let hold = self.frontend.hold?;
        let (name, age) = (&self.frontend.name, Age(self.now.mono - hold.from));
        Some(format!("{name} is held for {age}: {}, until {}", self.kept(hold), self.ends(hold)))
    }

    fn kept(&self, hold: Hold) -> &'static str {
        if !self.state.sync.current {
            "the weights that VPP has stay"
        } else if self.state.serving(self.frontend, self.found) {
            "VPP keeps the weights that it has"
        } else if self.now.mono < hold.not_before {
            "VPP gets no weights"
        } else if self.frontend.config.pools.len() == 1 {
            "VPP has no weight to keep, so health is followed"
        } else {
            "VPP has no weight to keep, so health is followed, but no pool is promoted over one with unknown backends"
        }
    }

    /// What a hold ends with.
    fn ends(&self, hold: Hold) -> String {
        let now = self.now.mono;
        let unknown = || self.frontend.slots.iter().filter(|s| self.health(s) == Health::Unknown);
        if unknown().next().is_none() {
            return format!("startup-min-delay is over, in {}", until(hold.not_before - now));
        }
        let all_known = known(unknown().map(|s| self.name(s)));
        let none_known = unknown().count() == self.frontend.slots.len();
        let Some(since) = self.state.prober.probing_since else {
            return format!("{all_known}; startup-max-delay begins once the prober has its checks");
        };
        let end = hold.from.max(since) + self.state.config.lb.startup_max_delay;
        match (end - now, none_known) {
            (Duration::ZERO, true) => "any backend is known, as startup-max-delay is over".into(),
            (Duration::ZERO, false) => "the next look at it, as startup-max-delay is over".into(),
            (left, true) => format!("{all_known}, or in {} if any is known by then", until(left)),
            (left, false) => format!("{all_known}, at the latest in {}", until(left)),
        }
    }
}
