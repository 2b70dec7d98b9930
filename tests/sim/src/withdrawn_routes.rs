//! Withdrawn routes: a probe without a route fails if another server has answered since the last such failure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use maglev_ipc::OutcomeCode;
use tokio::time::Instant;

use super::servers::ProbeResult;
use super::world::SimWorld;

/// Longest time from an answer until `maglevd` has it, without faults of the link.
const ON_THE_WAY: Duration = Duration::from_millis(50);

/// Answers of servers, and the servers without a route.
#[derive(Debug, Default)]
pub struct WithdrawnRoutes {
    /// Start and arrival of recent answers.
    answers: VecDeque<(Instant, Instant)>,
    routes: BTreeMap<usize, WithdrawnRoute>,
}

/// A server without a route.
#[derive(Clone, Copy, Debug)]
struct WithdrawnRoute {
    /// First probe without a route: an answer to a later one may be evidence.
    first: Instant,
    /// Probe after whose start an answer is evidence in any case. `maglevd` counts from this one or an earlier one.
    latest: Option<Instant>,
    /// Number of failures that `maglevd` must have counted.
    failures: u32,
}

impl WithdrawnRoutes {
    /// Makes all evidence uncertain, as outcomes may be lost with a link. `maglevd` may remember it.
    pub fn reset(&mut self) {
        for route in self.routes.values_mut() {
            (route.latest, route.failures) = (None, 0);
        }
    }

    /// Records a probe without a route, also one that this host could not send: `maglevd` receives the same outcome.
    fn record(&mut self, server: usize) -> &mut WithdrawnRoute {
        let first = Instant::now();
        self.routes.entry(server).or_insert(WithdrawnRoute { first, latest: None, failures: 0 })
    }

    /// Records a probe of a server with a withdrawn route. Returns true if it may be a failure, and the number of certain ones.
    fn record_failure(&mut self, server: usize) -> (bool, u32) {
        let now = Instant::now();
        let mut route = *self.record(server);
        let latest = *route.latest.get_or_insert(now);
        let may_fail = self.answers.iter().any(|(started, _)| *started > route.first);
        let is_evidence =
            |(started, arrived): &(Instant, Instant)| *started > latest && *arrived + ON_THE_WAY <= now;
        if self.answers.iter().any(is_evidence) {
            route.failures += 1;
            route.latest = Some(now);
        }
        self.routes.insert(server, route);
        (may_fail, route.failures)
    }

    /// Records a probe that this host could not send. Returns true if `maglevd` may count it: a host that loses its network again and
    /// again looks like one without a route to the servers that it happened to probe then.
    fn record_unsent(&mut self, server: usize) -> bool {
        let first = self.record(server).first;
        self.answers.iter().any(|(started, _)| *started > first)
    }
}

impl SimWorld {
    /// Records a probe and its result.
    pub fn record_route(&mut self, server: usize, result: &ProbeResult) {
        let now = Instant::now();
        match result {
            ProbeResult::Answered(after, code) => {
                let answers = &mut self.withdrawn_routes.answers;
                // A refusal may be a router's.
                if code.has_answer() {
                    answers.push_back((now, now + *after));
                }
                if answers.len() > 256 {
                    answers.pop_front();
                }
                self.withdrawn_routes.routes.remove(&server);
            }
            ProbeResult::Lost => _ = self.withdrawn_routes.routes.remove(&server),
            // Backends that share a server have their own failures.
            ProbeResult::NotSent
                if self.withdrawn_routes.record_unsent(server)
                    || self.model.backends_on(server).len() > 1 =>
            {
                self.oracle.record_probe(server, OutcomeCode::L4Con);
            }
            ProbeResult::NotSent => {}
            ProbeResult::NoRoute => self.record_missing_route(server),
        }
    }

    fn record_missing_route(&mut self, server: usize) {
        let (may_fail, failures) = self.withdrawn_routes.record_failure(server);
        if may_fail {
            self.oracle.record_probe(server, OutcomeCode::L4Con);
        }
        for backend in self.model.backends_on(server) {
            let fall = self.model.backends[backend].map_or(0, |check| self.model.checks[check].fall);
            if failures < fall {
                self.tolerate_backend(backend, Duration::ZERO);
            }
        }
    }

    /// Withdraws the route to the server of a backend for a time. Returns false if this does not apply.
    pub fn withdraw_route(&mut self, backend: usize, time: Duration) -> bool {
        let Some(Some(_)) = self.model.backends.get(backend) else { return false };
        let server = self.model.server(backend);
        // Backends that share a server have their own failures.
        if self.model.backends_on(server).len() > 1 {
            return false;
        }
        self.fleet.withdraw_route(server, time);
        self.tolerate_server(server, Duration::ZERO);
        true
    }

    /// Restores the routes withdrawn until then, or all.
    pub fn restore_routes(&mut self, until: Option<Instant>) {
        for server in self.fleet.restore_routes(until) {
            self.tolerate_server(server, Duration::ZERO);
        }
    }
}
