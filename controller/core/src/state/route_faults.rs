//! Route faults: probes that this host has no route for.
//!
//! The prober cannot know if the route of one server is withdrawn, which is that server's failure, or if this host has lost its
//! network. Another backend decides: if it answers a probe that started later, this host's network works.

use maglev_ipc::{Outcome, OutcomeCode};

use super::State;

/// Evidence that this host's network works.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RouteEvidence {
    /// Start of the newest probe with an answer, to IPv4 and to IPv6 backends: a host may lose one family alone.
    answered: [u64; 2],
}

impl State {
    /// Returns the outcome as a failure of the backend, if it has no route, and another backend has answered a probe that
    /// started after the first outcome without a route, or after the last such failure. So each failure needs evidence of its
    /// own: routes that vanish one by one take nothing down. Other probes may take longer than this backend's interval.
    pub(super) fn judge_route(&mut self, index: usize, outcome: &Outcome) -> Option<Outcome> {
        let backend = &mut self.backends[index];
        let answered = &mut self.route_evidence.answered[usize::from(backend.address.is_ipv6())];
        if outcome.code != OutcomeCode::Local || !outcome.has_no_route {
            backend.no_route_at = None;
            if outcome.code.has_answer() {
                *answered = outcome.started.max(*answered);
            }
            return None;
        }
        if *answered <= *backend.no_route_at.get_or_insert(outcome.started) {
            return None;
        }
        backend.no_route_at = Some(outcome.started);
        Some(Outcome { code: OutcomeCode::L4Con, ..outcome.clone() })
    }
}
