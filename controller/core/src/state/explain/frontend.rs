//! Explanation of a frontend's state, active pool and weights.

use alloc::format;
use alloc::string::String;

use super::super::frontends::FrontendEntry;
use super::context::FrontendContext;
use super::format::{in_brackets, list};
use super::{Explanation, Topic};
use crate::failover::FrontendState;
use crate::health::Health;

impl<'a> Explanation<'a> {
    /// Adds all lines about a frontend.
    pub fn frontend(&mut self, frontend: &'a FrontendEntry) {
        let context = self.context(frontend);
        let name = &frontend.name;
        let (state, age) = (frontend.state, self.age(frontend.since));
        self.add(
            Topic::State,
            format!("{name} is {state}, for {age}: {}", self.frontend_conclusion(&context)),
        );
        for pool in 0..frontend.config.pools.len() {
            self.add(Topic::Pool, context.pool(pool));
        }
        if !self.state.prober.connected && context.slots().any(|(s, _)| self.is_probed(s.backend)) {
            let since = self.age(self.state.prober.since);
            let fault = in_brackets(self.state.prober.fault.as_deref());
            self.add(
                Topic::Prober,
                format!("not connected for {since}{fault}: no outcomes arrive, and health stays"),
            );
        }
        self.add_if(Topic::Startup, context.hold());
        self.add_if(Topic::Startup, context.leaving());
        let is_fresh = self.state.observed.is_fresh();
        for (slot, effective) in context.slots() {
            let (backend, pool) = (context.name(slot), context.pool_name(slot.pool));
            let vpp = match context.found {
                Some(_) => format!("; VPP: {}", context.in_vpp(slot, effective)),
                None => String::new(),
            };
            self.add(
                Topic::Weight,
                format!("{effective} for {backend} of {pool}: {}{vpp}", context.reason(slot)),
            );
        }
        self.vpp_overview();
        if is_fresh {
            self.add(Topic::Vpp, context.vip_in_vpp());
            self.add_if(Topic::Warning, context.failure());
            self.add_if(Topic::Warning, context.weights_exceed_table());
            self.add_if(Topic::Warning, context.other_table());
        }
        self.add_if(Topic::Warning, context.address_conflict().map(String::from));
        self.add_if(Topic::Warning, context.drift());
        self.add_if(Topic::Warning, self.state.heap.excess().map(String::from));
        for note in context.surroundings() {
            self.add(Topic::Vpp, note);
        }
    }

    fn is_probed(&self, backend: usize) -> bool {
        self.backend_of(backend).is_probed()
    }

    fn frontend_conclusion(&self, context: &FrontendContext) -> String {
        let (decision, frontend) = (&context.decision, context.frontend);
        let unknown = || frontend.slots.iter().filter(|s| context.health(s) == Health::Unknown);
        let why = match decision.state {
            FrontendState::Up => {
                let serving = context.slots().filter(|(_, weight)| *weight > 0);
                let pool = decision.active.map_or("", |active| context.pool_name(active));
                format!("pool {pool} serves with {}", list(serving.map(|(s, _)| context.name(s))))
            }
            FrontendState::Unknown if context.decision.active.is_some() => {
                let serving = context.slots().filter(|(_, weight)| *weight > 0);
                let names = serving.map(|(s, _)| String::from(context.name(s)));
                let leaving = frontend.leaving.iter().map(|server| format!("{}", server.address));
                format!(
                    "VPP keeps serving with {}, of which nothing is known yet",
                    list(names.chain(leaving))
                )
            }
            FrontendState::Unknown if frontend.slots.is_empty() => "it has no backends".into(),
            FrontendState::Unknown => {
                format!("nothing is known yet of {}", list(unknown().map(|s| context.name(s))))
            }
            FrontendState::Down | FrontendState::Removed => "no backend is up with a weight above 0".into(),
        };
        format!("{why}{}", self.vpp_difference(context))
    }

    /// Returns the difference between the conclusion and VPP.
    fn vpp_difference(&self, context: &FrontendContext) -> &'static str {
        let (vpp, mut slots) = (&self.state.vpp, context.slots());
        match vpp.info() {
            _ if !vpp.is_enabled() => "",
            None => "; VPP is not connected",
            Some(_) if !self.state.observed.is_fresh() => "; VPP is being read",
            Some(_) if context.found.is_none() => "; VPP does not have it",
            Some(_) if slots.all(|(slot, weight)| context.agrees(slot, weight)) => {
                if context.address_conflict().is_some() { "; VPP gives it no traffic" } else { "" }
            }
            Some(_) if context.frontend.hold.is_some() => "; VPP has other weights, as it is held",
            Some(_) => "; VPP has other weights",
        }
    }
}
