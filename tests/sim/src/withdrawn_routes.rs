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
    /// Probe after whose start an answer is evidence. `maglevd` may count from this one or a later one.
    since: (Instant, Instant),
    /// Number of failures that `maglevd` must have counted.
    failures: u32,
}

impl WithdrawnRoutes {
    /// Forgets all evidence: outcomes may be lost.
    pub fn reset(&mut self) {
        self.routes.clear();
    }

    /// Records a probe without a route. Returns true if it may be a failure, and the number of certain ones.
    fn record_failure(&mut self, server: usize) -> (bool, u32) {
        let now = Instant::now();
        let route = self.routes.entry(server).or_insert(WithdrawnRoute { since: (now, now), failures: 0 });
        let (liberal, strict) = route.since;
        let may_fail = self.answers.iter().any(|(started, _)| *started > liberal);
        let must_fail =
            self.answers.iter().any(|(started, arrived)| *started > strict && *arrived + ON_THE_WAY <= now);
        if must_fail {
            route.failures += 1;
            route.since.1 = now;
        }
        (may_fail, route.failures)
    }
}

impl SimWorld {
    /// Records a probe and its result.
    pub fn record_route(&mut self, server: usize, result: &ProbeResult) {
        let now = Instant::now();
        match result {
            ProbeResult::Answered(after, _) => {
                let answers = &mut self.withdrawn_routes.answers;
                answers.push_back((now, now + *after));
                if answers.len() > 256 {
                    answers.pop_front();
                }
                self.withdrawn_routes.routes.remove(&server);
            }
            ProbeResult::Lost => _ = self.withdrawn_routes.routes.remove(&server),
            ProbeResult::NotSent => {}
            ProbeResult::NoRoute => self.record_missing_route(server),
        }
    }

    fn record_missing_route(&mut self, server: usize) {
        let (may_fail, failures) = self.withdrawn_routes.record_failure(server);
        for backend in self.model.backends_on(server) {
            if may_fail {
                self.oracle.record_probe(backend, OutcomeCode::L4Con);
            }
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
