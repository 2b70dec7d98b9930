//! Explanation of a startup hold and of leaving servers: their reasons and their ends.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::super::frontends::{AwaitedEvent, FrontendSlot, StartupHold};
use super::context::FrontendContext;
use super::format::{Age, known, list, until};

impl FrontendContext<'_> {
    /// Returns the effect and the end of the frontend's hold.
    pub fn hold(&self) -> Option<String> {
        let hold = self.frontend.hold?;
        let (name, age) = (&self.frontend.name, Age(self.now.mono - hold.since));
        Some(format!("{name} is held for {age}: {}, until {}", self.hold_effect(hold), self.hold_end(hold)))
    }

    /// Returns the leaving servers, and the event after which they leave.
    pub fn leaving(&self) -> Option<String> {
        let (leaving, now) = (&self.frontend.leaving, self.now.mono);
        let last = leaving.iter().map(|server| server.until).max()?;
        let servers = list(leaving.iter().map(|server| server.address));
        let names = |slots: &[&FrontendSlot]| {
            let one_of = if slots.len() > 1 { "one of " } else { "" };
            format!("{one_of}{} is up", list(slots.iter().map(|slot| self.name(slot))))
        };
        let event = match self.state.awaited(self.frontend, now)? {
            AwaitedEvent::MinDelay => "startup-min-delay is over".into(),
            AwaitedEvent::Recovery(slots) => names(&slots),
            AwaitedEvent::Verdict(slots) => format!("{} or all are known to be down", names(&slots)),
        };
        let (name, left) = (&self.frontend.name, until(last - now));
        Some(format!(
            "servers that left {name} keep their weight: {servers}, until {event}, at the latest in {left}"
        ))
    }

    fn hold_effect(&self, hold: StartupHold) -> &'static str {
        if !self.state.observed.is_fresh() {
            "the weights that VPP has stay"
        } else if hold.follows_health {
            "health is followed where it is known, and unknown backends that VPP serves keep their weights"
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
        let named = |slots: &mut dyn Iterator<Item = &FrontendSlot>| {
            known(slots.map(|s| self.name(s)).collect::<Vec<_>>().iter())
        };
        let unknown = || self.frontend.slots.iter().filter(|s| self.state.is_unknown(s));
        if unknown().next().is_none() {
            return format!("startup-min-delay is over, in {}", until(hold.not_before - now));
        }
        if hold.follows_health {
            return named(&mut unknown().filter(|s| s.is_served));
        }
        let all_known = named(&mut unknown());
        let Some(since) = self.state.prober.probing_since else {
            return format!("{all_known}; startup-max-delay begins once the prober has its checks");
        };
        let left = hold.since.max(since) + self.state.config.lb.startup_max_delay - now;
        match (left, self.state.observed.latest().is_some()) {
            (Duration::ZERO, false) => "VPP is read, as startup-max-delay is over".into(),
            (Duration::ZERO, true) => "the next refresh, as startup-max-delay is over".into(),
            _ if unknown().any(|s| s.is_served) => {
                let effect = "known health is followed, and backends that VPP serves stay until a verdict";
                format!("{all_known}; in {} {effect}", until(left))
            }
            _ => format!("{all_known}, at the latest in {}", until(left)),
        }
    }
}
