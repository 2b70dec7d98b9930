//! Route faults: probes that this host has no route for.
//!
//! The prober cannot know if the route of one server is withdrawn, which is that server's failure, or if this host has lost its
//! network. Another backend decides: if it answers a probe that started later, this host's network works. A backend that
//! answers after outcomes without a route has shown an outage of this host: no such outcome until its end is a failure of others.

use maglev_ipc::{Outcome, OutcomeCode};

use super::State;

/// Evidence of this host's network, for IPv4 and for IPv6 backends: a host may lose one family alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RouteEvidence {
    /// Start of the newest probe with an answer.
    answered: [u64; 2],
    /// Start of the newest probe without a route to a backend that has answered since.
    outage: [u64; 2],
}

/// Successive probes of a backend without a route, by their start.
#[derive(Clone, Copy, Debug)]
pub(super) struct MissingRoute {
    /// Probe after which an answer of another backend is evidence.
    since: u64,
    /// Newest probe.
    latest: u64,
}

impl RouteEvidence {
    /// Returns the start of the newest probe with an answer from a backend of that family; 0 for none.
    pub(super) const fn answered(&self, is_ipv6: bool) -> u64 {
        self.answered[is_ipv6 as usize]
    }
}

impl State {
    /// Returns the outcome as a failure of the backend, if it has no route, and another backend has answered a probe that
    /// started after the first outcome without a route, or after the last such failure. So each failure needs evidence of its
    /// own: routes that vanish one by one take nothing down. Other probes may take longer than this backend's interval.
    pub(super) fn judge_route(&mut self, index: usize, outcome: &Outcome) -> Option<Outcome> {
        let backend = &mut self.backends[index];
        let family = usize::from(backend.address.is_ipv6());
        let RouteEvidence { answered, outage } = &mut self.route_evidence;
        let (answered, outage) = (&mut answered[family], &mut outage[family]);
        if outcome.code != OutcomeCode::Local || !outcome.has_no_route {
            let missing = backend.missing_route.take();
            if outcome.code.has_answer() {
                *answered = outcome.started.max(*answered);
                *outage = missing.map_or(0, |missing| missing.latest).max(*outage);
            }
            return None;
        }
        let started = outcome.started;
        let since = backend.missing_route.map(|missing| missing.since).filter(|since| since > outage);
        let is_failure = since.is_some_and(|since| *answered > since);
        let since = since.filter(|_| !is_failure).unwrap_or(started);
        backend.missing_route = Some(MissingRoute { since, latest: started });
        is_failure.then(|| Outcome { code: OutcomeCode::L4Con, ..outcome.clone() })
    }
}
