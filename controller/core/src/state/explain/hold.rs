//! Explanation of a startup hold: its reason and its end.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::super::frontends::StartupHold;
use super::context::FrontendContext;
use super::format::{Age, known, until};
use crate::health::Health;

impl FrontendContext<'_> {
    /// Returns the effect and the end of the frontend's hold.
    pub fn hold(&self) -> Option<String> {
        let hold = self.frontend.hold?;
        let (name, age) = (&self.frontend.name, Age(self.now.mono - hold.since));
        Some(format!("{name} is held for {age}: {}, until {}", self.hold_effect(hold), self.hold_end(hold)))
    }

    fn hold_effect(&self, hold: StartupHold) -> &'static str {
        if !self.state.observed.is_fresh() {
            "the weights that VPP has stay"
        } else if self.state.has_weight_in_vpp(self.frontend, self.found) {
            "VPP keeps the weights that it has"
        } else if self.now.mono < hold.not_before {
            "VPP gets no weights"
        } else if self.frontend.config.pools.len() == 1 {
            "VPP has no weight to keep, so health is followed"
        } else {
            "VPP has no weight to keep, so health is followed, but no pool is promoted over one with unknown backends"
        }
    }

    /// Returns the event that ends the hold.
    fn hold_end(&self, hold: StartupHold) -> String {
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
        let end = hold.since.max(since) + self.state.config.lb.startup_max_delay;
        match (end - now, none_known) {
            (Duration::ZERO, true) => "any backend is known, as startup-max-delay is over".into(),
            (Duration::ZERO, false) => "the next refresh, as startup-max-delay is over".into(),
            (left, true) => format!("{all_known}, or in {} if any is known by then", until(left)),
            (left, false) => format!("{all_known}, at the latest in {}", until(left)),
        }
    }
}
