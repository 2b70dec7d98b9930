//! What probes are made with: the raw sockets, and connections within their bounds.

use std::collections::VecDeque;

use maglev_ipc::{Check, OutcomeCode};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use tracing::warn;

use super::idle_connections::IdleConnections;
use super::rx_loss::RxLoss;
use super::{ICMP_V4, ICMP_V6, TCP_V4, TCP_V6};
use crate::clock::Nanos;
use crate::probe::half_open::SynProber;
use crate::probe::icmp::IcmpProber;
use crate::probe::stream::{self, ProbeStream};
use crate::probe::{InFlightProbe, ProbePlan, tcp};
use crate::probe_id::ProbeId;
use crate::scheduler::StartResult;
use crate::verdict::Verdict;

/// How many steps of TLS handshakes one turn takes at most, each of which costs as much as some five other probes. The
/// rest waits for the next turn, which follows at once, so that other probes wait for no more of them than these.
const HANDSHAKES: u32 = 32;

/// All sockets but those of the controller.
#[derive(Debug)]
pub struct ProbeSockets {
    pub epoll: Epoll,
    pub icmp_prober: IcmpProber,
    pub syn_prober: SynProber,
    pub idle: IdleConnections,
    /// Of the icmp_prober.
    pub pings: RxLoss,
    /// Of the half-opener.
    pub segments: RxLoss,
    /// Half-open probes that did without raw sockets.
    pub fallbacks: u64,
    /// Connections that are open, idle ones included.
    connections: u64,
    /// How many may be.
    max_connections: u64,
    /// How many steps of handshakes this turn may still take. Those under way come first, so that no more begin than
    /// can be brought to an end.
    handshakes: u32,
    /// Connections on which a step of the handshake waits for another turn.
    waiting: VecDeque<u64>,
}

impl ProbeSockets {
    /// Has the kernel tell what happens on the raw sockets.
    ///
    /// # Errors
    /// The system refuses an epoll or a descriptor in it.
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
            icmp_prober,
            syn_prober,
            idle: IdleConnections::default(),
            pings: RxLoss::default(),
            segments: RxLoss::default(),
            fallbacks: 0,
            connections: 0,
            max_connections,
            handshakes: HANDSHAKES,
            waiting: VecDeque::new(),
        })
    }

    /// A turn begins, with handshakes of its own, and reads what there is.
    pub const fn begin_iteration(&mut self) {
        self.pings.wake();
        self.segments.wake();
        self.handshakes = HANDSHAKES;
    }

    /// Starts a probe.
    pub fn start(
        &mut self,
        key: ProbeId,
        check: &Check,
        plan: &mut ProbePlan,
        now: Nanos,
    ) -> StartResult<InFlightProbe> {
        match plan {
            ProbePlan::Icmp { .. } => {
                let ping = self.icmp_prober.queue(key, check.target, check.source);
                ping.map(InFlightProbe::Icmp).map_err(|why| Verdict::new(OutcomeCode::Local, why)).into()
            }
            ProbePlan::Stream(plan) => self.connect(key, plan, now),
            ProbePlan::HalfOpen(plan, stream) => match self.syn_prober.serves(check.target) {
                Ok(()) => self.syn_prober.queue(key, plan, now).map(InFlightProbe::HalfOpen).into(),
                Err(why) => {
                    self.fall_back(why);
                    self.connect(key, stream, now)
                }
            },
        }
    }

    /// Counts a half-open probe that is the kernel's, and says once that they are.
    fn fall_back(&mut self, why: &str) {
        self.fallbacks += 1;
        if self.fallbacks == 1 {
            warn!("half-open probes are made over the kernel's own sockets: {why}");
        }
    }

    /// Begins with the connection that was kept, or with a fresh one.
    fn connect(
        &mut self,
        key: ProbeId,
        plan: &mut stream::StreamPlan,
        now: Nanos,
    ) -> StartResult<InFlightProbe> {
        if let Some(mut stream) = self.idle.take(key.slot) {
            if stream.restart(plan, now) {
                plan.begin(key.slot);
                return StartResult::InFlight(InFlightProbe::Stream(stream));
            }
            self.connections -= 1;
        }
        if plan.has_handshake() && !self.take_handshake_budget() {
            return StartResult::Deferred;
        }
        plan.begin(key.slot);
        self.open(key, plan).map(InFlightProbe::Stream).into()
    }

    /// Takes one step of a handshake out of this turn's.
    pub fn take_handshake_budget(&mut self) -> bool {
        let left = self.handshakes.checked_sub(1);
        self.handshakes = left.unwrap_or_default();
        left.is_some()
    }

    /// Has a step of a handshake wait for another turn.
    pub fn defer_handshake(&mut self, token: u64) {
        self.waiting.push_back(token);
    }

    /// The next handshake to go on with, while this turn may.
    pub fn pop_deferred(&mut self) -> Option<u64> {
        if self.handshakes > 0 { self.waiting.pop_front() } else { None }
    }

    /// Whether steps of handshakes wait for the next turn.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Begins with a fresh connection, at the cost of an idle one if there is no room.
    fn open(&mut self, key: ProbeId, plan: &stream::StreamPlan) -> Result<ProbeStream, Verdict> {
        if self.connections >= self.max_connections {
            if !self.idle.evict() {
                return Err(Verdict::new(OutcomeCode::Local, "out of descriptors"));
            }
            self.connections -= 1;
        }
        let stream = ProbeStream::start(plan, key.into())?;
        let added = self.epoll.add(stream.socket(), EpollEvent::new(ProbeStream::EVENTS, key.into()));
        added.map_err(|errno| tcp::local(&errno.into()))?;
        self.connections += 1;
        Ok(stream)
    }

    /// Begins the same probe again with a fresh connection in the place of a stale one.
    ///
    /// # Errors
    /// The verdict, when there is one already.
    pub fn reopen(
        &mut self,
        key: ProbeId,
        plan: &stream::StreamPlan,
        stale: &mut ProbeStream,
    ) -> Result<(), Verdict> {
        self.connections -= 1;
        let fresh = self.open(key, plan);
        if fresh.is_err() {
            self.connections += 1;
        }
        *stale = fresh?;
        Ok(())
    }

    /// A probe has its verdict: its connection waits for the next one, or is closed.
    pub fn keep_or_close(&mut self, slot: u32, plan: &stream::StreamPlan, stream: ProbeStream) {
        if !(plan.keeps() && stream.is_good() && self.idle.put(slot, stream)) {
            self.connections -= 1;
        }
    }

    /// Closes the connection that waits in a slot, if one does.
    pub fn close_idle(&mut self, slot: u32) {
        if self.idle.take(slot).is_some() {
            self.connections -= 1;
        }
    }

    /// Why the time-out of a probe that started then is no verdict, if it is none.
    pub const fn excuse(&self, flight: &InFlightProbe, started: Nanos) -> Option<&'static str> {
        match flight {
            InFlightProbe::Icmp(_) => self.pings.excuse(started),
            InFlightProbe::HalfOpen(_) => self.segments.excuse(started),
            // Each has an event, all events of a turn are seen to, and the kernel asks for segments again.
            InFlightProbe::Stream(_) => None,
        }
    }

    /// Counts a probe that is over.
    pub fn release(&mut self, flight: &InFlightProbe) {
        match flight {
            InFlightProbe::Icmp(_) => {}
            InFlightProbe::Stream(_) => self.connections -= 1,
            InFlightProbe::HalfOpen(number) => self.syn_prober.forget(*number),
        }
    }
}
