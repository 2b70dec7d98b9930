//! Why a frontend has the state, the pool and the weights that it has.

use alloc::format;
use alloc::string::String;

use super::super::frontends::Frontend;
use super::standing::Standing;
use super::words::{in_brackets, list};
use super::{Explanation, Topic};
use crate::failover::FrontendState;
use crate::health::Health;

impl<'a> Explanation<'a> {
    pub fn frontend(&mut self, frontend: &'a Frontend) {
        let standing = self.standing(frontend);
        let name = &frontend.name;
        let (state, age) = (frontend.state, self.age(frontend.since));
        self.say(
            Topic::State,
            format!("{name} is {state}, for {age}: {}", self.frontend_conclusion(&standing)),
        );
        for pool in 0..frontend.config.pools.len() {
            self.say(Topic::Pool, standing.pool(pool));
        }
        if !self.state.prober.connected && standing.slots().any(|(s, _)| self.probed(s.backend)) {
            let since = self.age(self.state.prober.since);
            let why = in_brackets(self.state.prober.fault.as_deref());
            self.say(
                Topic::Prober,
                format!("not connected for {since}{why}: nothing is heard, and health stays"),
            );
        }
        self.say_if(Topic::Startup, standing.hold());
        let current = self.state.sync.current;
        for (slot, effective) in standing.slots() {
            let (backend, pool) = (standing.name(slot), standing.pool_name(slot.pool));
            let vpp = match standing.found {
                Some(_) => format!("; VPP: {}", standing.in_vpp(slot, effective)),
                None => String::new(),
            };
            self.say(
                Topic::Weight,
                format!("{effective} for {backend} of {pool}: {}{vpp}", standing.why(slot)),
            );
        }
        self.vpp_at_large();
        if current {
            self.say(Topic::Vpp, standing.vip_in_vpp());
            self.say_if(Topic::Warning, standing.failure());
            self.say_if(Topic::Warning, standing.too_short());
        }
        self.say_if(Topic::Warning, standing.shadowed().map(String::from));
    }

    fn probed(&self, backend: usize) -> bool {
        let backend = self.backend_of(backend);
        backend.healthcheck.is_some() && backend.tracker.probed()
    }

    fn frontend_conclusion(&self, standing: &Standing) -> String {
        let (decision, frontend) = (&standing.decision, standing.frontend);
        let unknown = || frontend.slots.iter().filter(|s| standing.health(s) == Health::Unknown);
        let why = match decision.state {
            FrontendState::Up => {
                let serving = standing.slots().filter(|(_, weight)| *weight > 0);
                let pool = decision.active.map_or("", |active| standing.pool_name(active));
                format!("pool {pool} serves with {}", list(serving.map(|(s, _)| standing.name(s))))
            }
            FrontendState::Unknown if frontend.slots.is_empty() => "it has no backends".into(),
            FrontendState::Unknown => {
                format!("nothing is known yet of {}", list(unknown().map(|s| standing.name(s))))
            }
            FrontendState::Down => "no backend is up with a weight above 0".into(),
        };
        format!("{why}{}", self.tail(standing))
    }

    /// Where VPP does not have what was concluded.
    fn tail(&self, standing: &Standing) -> &'static str {
        let (sync, mut slots) = (&self.state.sync, standing.slots());
        match &sync.info {
            _ if !sync.enabled => "",
            None => "; VPP is not connected",
            Some(_) if !sync.current => "; VPP is being read",
            Some(_) if standing.found.is_none() => "; VPP does not have it",
            Some(_) if slots.all(|(slot, weight)| standing.agrees(slot, weight)) => {
                if standing.shadowed().is_some() { "; VPP gives it no traffic" } else { "" }
            }
            Some(_) if standing.frontend.hold.is_some() => "; VPP has other weights, as it is held",
            Some(_) => "; VPP has other weights",
        }
    }
}
