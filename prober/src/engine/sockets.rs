//! The sockets of probes: raw sockets, and connections within their limits.

use std::collections::VecDeque;

use maglev_ipc::{Check, OutcomeCode};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use tracing::warn;

use super::idle_connections::IdleConnections;
use super::receiver::RawReceiver;
use super::{ICMP_V4, ICMP_V6, TCP_V4, TCP_V6};
use crate::clock::Nanos;
use crate::probe::half_open::SynProber;
use crate::probe::http::Reuse;
use crate::probe::icmp::IcmpProber;
use crate::probe::stream::{self, ProbeStream};
use crate::probe::{InFlightProbe, ProbePlan, tcp};
use crate::probe_id::ProbeId;
use crate::scheduler::StartResult;
use crate::verdict::Verdict;

/// Maximum number of TLS handshake steps per iteration; each costs as much as about five other probes. The rest waits for
/// the next iteration, which follows at once, so that handshakes cannot starve other probes.
const HANDSHAKE_BUDGET: u32 = 32;
/// Time for handshakes per iteration. A step that checks a hostile chain of certificates may take all of it.
const HANDSHAKE_TIME: Nanos = 10_000_000;

/// All sockets but those of the controller.
#[derive(Debug)]
pub struct ProbeSockets {
    pub epoll: Epoll,
    pub icmp: RawReceiver<IcmpProber>,
    pub syn: RawReceiver<SynProber>,
    pub idle: IdleConnections,
    /// Number of half-open probes made without raw sockets.
    pub fallbacks: u64,
    /// Number of open connections, including idle ones.
    connections: u64,
    max_connections: u64,
    /// Handshake steps left in this iteration. Handshakes in progress come first, so that no more begin than can finish.
    handshake_budget: u32,
    /// Time at which the budget of this iteration ends.
    handshakes_until: Nanos,
    /// Tokens of connections whose next handshake step is deferred.
    deferred_handshakes: VecDeque<u64>,
}

impl ProbeSockets {
    /// Creates the epoll instance, and registers the raw sockets.
    ///
    /// # Errors
    /// The system refuses the epoll instance or a descriptor in it.
    pub fn new(icmp_prober: IcmpProber, syn_prober: SynProber, max_connections: u64) -> Result<Self, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let raw = icmp_prober.sockets().into_iter().chain(syn_prober.sockets());
        for (socket, token) in raw.zip([ICMP_V4, ICMP_V6, TCP_V4, TCP_V6]) {
            if let Ok(socket) = socket {
                epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
            }
        }
        Ok(Self {
            epoll,
            icmp: RawReceiver::new(icmp_prober),
            syn: RawReceiver::new(syn_prober),
            idle: IdleConnections::default(),
            fallbacks: 0,
            connections: 0,
            max_connections,
            handshake_budget: HANDSHAKE_BUDGET,
            handshakes_until: Nanos::MAX,
            deferred_handshakes: VecDeque::new(),
        })
    }

    /// Begins an iteration, with a new handshake budget.
    pub const fn begin_iteration(&mut self, now: Nanos) {
        self.icmp.loss.begin_iteration();
        self.syn.loss.begin_iteration();
        self.handshake_budget = HANDSHAKE_BUDGET;
        self.handshakes_until = now.saturating_add(HANDSHAKE_TIME);
    }

    /// Starts a probe.
    pub fn start(
        &mut self,
        id: ProbeId,
        check: &Check,
        plan: &mut ProbePlan,
        now: Nanos,
    ) -> StartResult<InFlightProbe> {
        match plan {
            ProbePlan::Icmp(_) => {
                let request = self.icmp.prober.queue(id, check.target, check.source);
                request.map(InFlightProbe::Icmp).map_err(|why| Verdict::new(OutcomeCode::Local, why)).into()
            }
            ProbePlan::Stream(plan) => self.connect(id, plan, now),
            ProbePlan::HalfOpen(plan, stream) => match self.syn.prober.check_socket(check.target) {
                Ok(()) => self.syn.prober.queue(id, plan, now).map(InFlightProbe::HalfOpen).into(),
                Err(reason) => {
                    self.count_fallback(reason);
                    self.connect(id, stream, now)
                }
            },
        }
    }

    /// Counts a half-open probe that uses a kernel socket, and logs the first.
    fn count_fallback(&mut self, reason: &str) {
        self.fallbacks += 1;
        if self.fallbacks == 1 {
            warn!("half-open probes use kernel sockets: {reason}");
        }
    }

    /// Starts a probe on the kept connection, or on a new one.
    fn connect(
        &mut self,
        id: ProbeId,
        plan: &mut stream::StreamPlan,
        now: Nanos,
    ) -> StartResult<InFlightProbe> {
        if let Some(mut stream) = self.idle.take(id.slot) {
            if stream.restart(plan, now) {
                plan.count_probe(id.slot);
                return StartResult::InFlight(InFlightProbe::Stream(stream));
            }
            self.connections -= 1;
        }
        if plan.has_handshake() && !self.take_handshake_budget() {
            return StartResult::Deferred;
        }
        plan.count_probe(id.slot);
        self.open(id, plan).map(InFlightProbe::Stream).into()
    }

    /// Takes one handshake step from the budget. Returns false if none is left.
    pub fn take_handshake_budget(&mut self) -> bool {
        let left = self.handshake_budget.checked_sub(1);
        self.handshake_budget = left.unwrap_or_default();
        left.is_some()
    }

    /// Ends the budget after a step, if the iteration has no time for another.
    pub const fn limit_handshakes(&mut self, now: Nanos) {
        if now >= self.handshakes_until {
            self.handshake_budget = 0;
        }
    }

    /// Defers a handshake step to a later iteration.
    pub fn defer_handshake(&mut self, token: u64) {
        self.deferred_handshakes.push_back(token);
    }

    /// Takes the next deferred handshake, if the budget allows it.
    pub fn pop_deferred(&mut self) -> Option<u64> {
        if self.handshake_budget > 0 { self.deferred_handshakes.pop_front() } else { None }
    }

    /// Returns true if handshakes are deferred.
    pub fn has_deferred(&self) -> bool {
        !self.deferred_handshakes.is_empty()
    }

    /// Opens a connection, and evicts an idle one if the limit is reached.
    fn open(&mut self, id: ProbeId, plan: &stream::StreamPlan) -> Result<ProbeStream, Verdict> {
        if self.connections >= self.max_connections {
            if !self.idle.evict() {
                return Err(Verdict::new(OutcomeCode::Local, "out of descriptors"));
            }
            self.connections -= 1;
        }
        let stream = ProbeStream::start(plan, id.into())?;
        let added = self.epoll.add(stream.socket(), EpollEvent::new(ProbeStream::EVENTS, id.into()));
        added.map_err(|errno| tcp::local_fault(&errno.into()))?;
        self.connections += 1;
        Ok(stream)
    }

    /// Restarts a probe on a new connection that replaces a stale one.
    ///
    /// # Errors
    /// The verdict, if the probe fails at once.
    pub fn reopen(
        &mut self,
        id: ProbeId,
        plan: &stream::StreamPlan,
        stale: &mut ProbeStream,
    ) -> Result<(), Verdict> {
        self.connections -= 1;
        let opened = self.open(id, plan);
        if opened.is_err() {
            self.connections += 1;
        }
        *stale = opened?;
        Ok(())
    }

    /// Keeps the connection of a finished probe for the next one, or until the server closes it, or closes it now.
    pub fn keep_or_close(&mut self, slot: u32, plan: &stream::StreamPlan, stream: ProbeStream) {
        let is_kept = match stream.reuse() {
            Reuse::Ready | Reuse::Pending => plan.keeps_connection(),
            Reuse::Closing => true,
            Reuse::No => false,
        };
        if !(is_kept && self.idle.insert(slot, stream)) {
            self.connections -= 1;
        }
    }

    /// Closes the idle connection of a slot, if there is one.
    pub fn close_idle(&mut self, slot: u32) {
        if self.idle.take(slot).is_some() {
            self.connections -= 1;
        }
    }

    /// Returns true if a reply that arrived in time may still be unread.
    pub const fn may_have_unread(&self) -> bool {
        self.icmp.loss.may_have_unread() || self.syn.loss.may_have_unread()
    }

    /// Returns the local fault that explains a missing reply to a probe started at `started`.
    pub fn excuse(&self, plan: &mut ProbePlan, started: Nanos) -> Option<&'static str> {
        match plan {
            ProbePlan::Icmp(plan) => self.icmp.loss.excuse(started, &mut plan.missed),
            ProbePlan::HalfOpen(plan, _) => self.syn.loss.excuse(started, &mut plan.missed),
            // The kernel retransmits, and each iteration handles all events of connections.
            ProbePlan::Stream(_) => None,
        }
    }

    /// Releases the resources of a finished probe.
    pub fn release(&mut self, probe: &InFlightProbe) {
        match probe {
            InFlightProbe::Icmp(_) => {}
            InFlightProbe::Stream(_) => self.connections -= 1,
            InFlightProbe::HalfOpen(seq) => self.syn.prober.forget(*seq),
        }
    }
}
