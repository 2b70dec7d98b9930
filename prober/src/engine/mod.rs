//! The engine: one thread, one epoll loop, the probe sockets and the controller's link. The [`Scheduler`] decides what is
//! due.
//!
//! ```text
//!  ┌─► epoll_wait until the planned wakeup
//!  │    1 begin_iteration      scheduler notes stalls of the host, sockets get a new handshake budget
//!  │    2 resume_handshakes    TLS steps deferred by the last iteration
//!  │    3 dispatch             replies, connections, controller, signals
//!  │         1024 events? then more may be queued: back to epoll_wait
//!  │    4 process_timers       time out overdue probes, queue due checks
//!  │    5 start_due            start them; send SYNs and pings in batches of 64
//!  │    6 queue_outcomes       into the session's outbox
//!  │    7 service_controller   watchdog, heartbeat, messages in both directions
//!  └── planned wakeup = min(scheduler, controller), or now if handshakes are deferred
//! ```
//!
//! Step 3 precedes step 4, so that a late iteration does not time out a probe whose reply has arrived.

mod controller;
mod idle_connections;
mod receiver;
mod rx_loss;
mod sockets;
mod work_meter;

use std::time::Duration;

use maglev_ipc::{OutcomeCode, ProberStats};
use maglev_notify::ServiceNotifier;
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;

use crate::clock::{self, Nanos};
use crate::netns::NamespaceWatch;
use crate::probe::half_open::{SynProber, SynReply};
use crate::probe::icmp::{EchoRequest, IcmpMessage, IcmpProber, ReplyMatch};
use crate::probe::missed::MissedReplies;
use crate::probe::raw::PacketReject;
use crate::probe::stream;
use crate::probe::{InFlightProbe, ProbePlan, tcp, tls};
use crate::probe_id::ProbeId;
use crate::scheduler::Scheduler;
use crate::set::ProbeLimits;
use crate::verdict::Verdict;
pub use controller::ControllerEndpoint;
use controller::ControllerState;
use sockets::ProbeSockets;
use work_meter::WorkMeter;

/// Maximum number of events per `epoll_wait`.
const EVENTS: usize = 1024;
/// Size of the read buffer shared by all connections, in bytes.
const READ_BUFFER: usize = 16 * 1024;
/// Epoll tokens of everything that is not a connection. Connections use the [`ProbeId`] of the probe that opened them.
const LISTENER: u64 = u64::MAX;
const LINK: u64 = u64::MAX - 1;
const SIGNAL: u64 = u64::MAX - 2;
const ICMP_V4: u64 = u64::MAX - 3;
const ICMP_V6: u64 = u64::MAX - 4;
const TCP_V4: u64 = u64::MAX - 5;
const TCP_V6: u64 = u64::MAX - 6;
const NAMESPACE: u64 = u64::MAX - 7;

/// Reason for the end of the loop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// A signal.
    Signal,
    /// No controller for `--orphan-timeout`.
    OrphanTimeout,
    /// The controller that spawned this prober exited.
    ControllerExited,
    /// The network namespace was deleted, and another one has its name.
    NamespaceReplaced,
}

/// Everything that the engine needs.
#[derive(Debug)]
pub struct EngineConfig {
    /// Source of controller connections.
    pub endpoint: ControllerEndpoint,
    /// ICMP probes and their raw sockets.
    pub icmp_prober: IcmpProber,
    /// Half-open probes and their raw sockets.
    pub syn_prober: SynProber,
    /// TLS configurations.
    pub configs: tls::TlsConfigs,
    /// Signals that end the loop.
    pub signals: SignalFd,
    /// Limits on check sets.
    pub limits: ProbeLimits,
    /// Maximum number of open connections.
    pub max_connections: u64,
    /// Time without a controller after which the loop ends.
    pub orphan_timeout: Duration,
    /// Watch on the name of the network namespace, if it has one.
    pub namespace: Option<NamespaceWatch>,
    /// Notifier of systemd, for its watchdog.
    pub notifier: ServiceNotifier,
    /// Seed of the jitter; also identifies this instance to the controller.
    pub seed: u64,
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    scheduler: Scheduler<ProbePlan, InFlightProbe>,
    sockets: ProbeSockets,
    signals: SignalFd,
    namespace: Option<NamespaceWatch>,
    configs: tls::TlsConfigs,
    controller: ControllerState,
    /// Counters of packets and connections; the scheduler counts the rest.
    stats: ProberStats,
    read_buffer: Vec<u8>,
}

impl Engine {
    /// Returns an engine without checks: the first controller sends them.
    ///
    /// # Errors
    /// The system refuses an epoll instance or a descriptor in it.
    pub fn new(config: EngineConfig) -> Result<Self, Errno> {
        let now = clock::now();
        let controller = ControllerState::new(&config, now);
        let sockets = ProbeSockets::new(config.icmp_prober, config.syn_prober, config.max_connections)?;
        sockets.epoll.add(&config.signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNAL))?;
        if let Some(watch) = &config.namespace {
            sockets.epoll.add(watch, EpollEvent::new(EpollFlags::EPOLLIN, NAMESPACE))?;
        }
        let mut engine = Self {
            scheduler: Scheduler::new(config.seed, config.limits.starts(), now),
            controller,
            sockets,
            signals: config.signals,
            namespace: config.namespace,
            configs: config.configs,
            stats: ProberStats::default(),
            read_buffer: vec![0; READ_BUFFER],
        };
        engine.controller.open_endpoint(config.endpoint, &engine.sockets.epoll, now)?;
        Ok(engine)
    }

    /// Runs the loop until there is a reason to exit.
    ///
    /// # Errors
    /// epoll failed.
    pub fn run(&mut self) -> Result<Exit, Errno> {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        let mut planned = clock::now();
        let mut began = planned;
        let mut meter = WorkMeter::new(clock::thread_time(), planned);
        loop {
            let waits = clock::now();
            let worked = meter.measure(began, waits, clock::thread_time);
            let wait = planned.saturating_sub(waits).div_ceil(1_000_000);
            let timeout = EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX);
            let count = match self.sockets.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => 0,
                count => count?,
            };
            let now = clock::now();
            began = now;
            self.scheduler.begin_iteration(planned, now, worked);
            self.sockets.begin_iteration(now);
            self.resume_handshakes(now);
            for event in &events[..count] {
                if let Some(exit) = self.dispatch(*event, now) {
                    return Ok(exit);
                }
            }
            if count == EVENTS {
                // The events that are still queued may include replies, so nothing may time out yet.
                continue;
            }
            self.process_timers(now);
            self.start_due();
            self.queue_outcomes();
            if let Some(exit) = self.service_controller(now) {
                return Ok(exit);
            }
            planned = self.scheduler.next_wakeup(now).min(self.controller.next_wakeup(now));
            if self.sockets.has_deferred() {
                planned = now;
            }
        }
    }

    fn dispatch(&mut self, event: EpollEvent, now: Nanos) -> Option<Exit> {
        match event.data() {
            LISTENER => self.controller.accept_all(&self.sockets.epoll, now),
            LINK => self.controller.mark_readable(),
            SIGNAL => {
                // The set contains only signals that end the loop.
                let signal = self.signals.read_signal().ok().flatten();
                return signal.map(|_| Exit::Signal);
            }
            NAMESPACE => {
                let is_replaced = self.namespace.as_ref().is_some_and(NamespaceWatch::is_replaced);
                return is_replaced.then_some(Exit::NamespaceReplaced);
            }
            ICMP_V4 => self.receive_icmp(true),
            ICMP_V6 => self.receive_icmp(false),
            TCP_V4 => self.receive_tcp(true),
            TCP_V6 => self.receive_tcp(false),
            token => self.advance(ProbeId::from(token), event.events(), now),
        }
        None
    }

    fn process_timers(&mut self, now: Nanos) {
        if self.sockets.may_have_unread() {
            return;
        }
        let sockets = &mut self.sockets;
        self.scheduler.process_timers(now, |plan, probe, started| {
            sockets.release(&probe);
            if let Some(fault) = sockets.excuse(plan, started) {
                return Verdict::new(OutcomeCode::Local, fault);
            }
            match (&probe, plan) {
                (InFlightProbe::Stream(stream), ProbePlan::Stream(plan) | ProbePlan::HalfOpen(_, plan)) => {
                    stream.timeout_verdict(plan)
                }
                (InFlightProbe::Icmp(request), ProbePlan::Icmp(plan)) => plan.timeout_verdict(*request),
                _ => Verdict::from_code(OutcomeCode::L4Tout),
            }
        });
    }

    /// Starts all due probes.
    fn start_due(&mut self) {
        loop {
            let now = clock::now();
            if !self.scheduler.start_next(now, |id, check, plan| self.sockets.start(id, check, plan, now)) {
                break;
            }
            if self.sockets.icmp.prober.is_full() {
                self.flush_icmp();
                // Replies may have arrived already, and the receive buffer holds a few hundred.
                self.receive_icmp(true);
                self.receive_icmp(false);
            }
            if self.sockets.syn.prober.is_full() {
                self.flush_syns();
                self.receive_tcp(true);
                self.receive_tcp(false);
            }
        }
        self.flush_icmp();
        self.flush_syns();
    }

    fn flush_icmp(&mut self) {
        let (scheduler, sockets) = (&mut self.scheduler, &mut self.sockets);
        sockets.icmp.prober.flush(|id, errno| {
            scheduler.finish_probe(id, tcp::local_fault(&errno.into()), clock::now());
        });
    }

    fn flush_syns(&mut self) {
        let mut unsent = Vec::new();
        self.sockets.syn.prober.flush(|id, errno| unsent.push((id, errno)));
        for (id, errno) in unsent {
            if let Some((ProbePlan::HalfOpen(plan, _), _)) = self.scheduler.in_flight_mut(id) {
                plan.forget_source();
            }
            let verdict = tcp::local_fault(&errno.into());
            if let Some(probe) = self.scheduler.finish_probe(id, verdict, clock::now()) {
                self.sockets.release(&probe);
            }
        }
    }

    /// Queues the new outcomes for the controller.
    fn queue_outcomes(&mut self) {
        for report in self.scheduler.take_reports() {
            self.stats.outcomes_dropped += self.controller.queue_outcome(report);
        }
    }

    /// Resumes deferred handshakes, within the budget.
    fn resume_handshakes(&mut self, now: Nanos) {
        while let Some(token) = self.sockets.pop_deferred() {
            // The stream has stored the events that it could not handle.
            self.advance(ProbeId::from(token), EpollFlags::empty(), now);
        }
    }

    /// Handles events of a connection, which is identified by the probe that opened it.
    fn advance(&mut self, opener: ProbeId, events: EpollFlags, now: Nanos) {
        let token = u64::from(opener);
        let has_token =
            |probe: &InFlightProbe| matches!(probe, InFlightProbe::Stream(stream) if stream.token() == token);
        let Some(id) = self.scheduler.find_in_flight(opener.slot, has_token) else {
            return self.on_idle_event(opener.slot, token, events, now);
        };
        let Some((plan, InFlightProbe::Stream(stream))) = self.scheduler.in_flight_mut(id) else { return };
        let Some(plan) = plan.stream() else { return };
        let is_handshaking = stream.is_handshaking(plan, events);
        if is_handshaking && !self.sockets.take_handshake_budget() {
            if stream.defer_events(events) {
                self.sockets.defer_handshake(token);
            }
            return;
        }
        let end = stream.advance(plan, events, &mut self.read_buffer, now);
        if is_handshaking {
            self.sockets.limit_handshakes(clock::now());
        }
        let verdict = match end {
            None => return,
            Some(stream::StreamEnd::Verdict(verdict)) => verdict,
            Some(stream::StreamEnd::Stale) => match self.sockets.reopen(id, plan, stream) {
                Ok(()) => {
                    self.stats.connections_retried += 1;
                    return;
                }
                Err(verdict) => verdict,
            },
        };
        self.stats.tls_resumptions += u64::from(stream.has_resumed());
        if let Some(InFlightProbe::Stream(stream)) = self.scheduler.finish_probe(id, verdict, now)
            && let Some(plan) = self.scheduler.check_mut(id.slot).and_then(|(_, plan)| plan.stream())
        {
            self.sockets.keep_or_close(id.slot, plan, stream);
        }
    }

    /// Handles an event of an idle connection.
    fn on_idle_event(&mut self, slot: u32, token: u64, events: EpollFlags, now: Nanos) {
        if let Some(stream) = self.sockets.idle.get_mut(slot, token)
            && let Some(plan) = self.scheduler.check_mut(slot).and_then(|(_, plan)| plan.stream())
            && !stream.stays_idle(plan, events, &mut self.read_buffer, now)
        {
            self.sockets.close_idle(slot);
        }
    }

    /// Reads the ICMP packets of one family.
    fn receive_icmp(&mut self, v4: bool) {
        let Self { scheduler, sockets, stats, .. } = self;
        let syn_prober = &mut sockets.syn.prober;
        sockets.icmp.drain(v4, stats, |message, now| finish_by_icmp(scheduler, syn_prober, &message, now));
    }

    /// Reads the TCP segments of one family, which answer half-open probes.
    fn receive_tcp(&mut self, v4: bool) {
        let Self { scheduler, sockets, stats, .. } = self;
        sockets.syn.drain(v4, stats, |SynReply { id, verdict }, now| {
            if let Some((_, plan)) = scheduler.check_mut(id.slot) {
                plan.end_misses();
            }
            scheduler.finish_probe(id, verdict, now);
            Ok(())
        });
    }
}

/// Finishes the probe that an ICMP message refers to, if the message is valid for it.
fn finish_by_icmp(
    scheduler: &mut Scheduler<ProbePlan, InFlightProbe>,
    syn_prober: &mut SynProber,
    message: &IcmpMessage,
    now: Nanos,
) -> Result<(), PacketReject> {
    let slot = match message.reply_match {
        ReplyMatch::ByCookie(ProbeId { slot, .. }, _) | ReplyMatch::BySequence(slot, _) => slot,
        ReplyMatch::QuotedSyn(syn, error) => {
            let SynReply { id, verdict } = syn_prober.match_error(syn, message.target, error)?;
            scheduler.finish_probe(id, verdict, now);
            return Ok(());
        }
    };
    let is_match = |request: &EchoRequest| message.reply_match.is_for(*request);
    let id = scheduler
        .find_in_flight(slot, |probe| matches!(probe, InFlightProbe::Icmp(request) if is_match(request)));
    let Some((check, ProbePlan::Icmp(plan))) = scheduler.check_mut(slot) else {
        return Err(PacketReject::Stray);
    };
    if id.is_none() && !plan.answered.as_ref().is_some_and(is_match) {
        return Err(PacketReject::Stray);
    }
    if check.target != message.target {
        return Err(PacketReject::Spoofed);
    }
    let id = id.ok_or(PacketReject::Duplicate)?;
    let verdict = match (message.error, message.reply_match) {
        (None, _) => Verdict::from_code(OutcomeCode::L7Ok),
        // 16 bits can be guessed, so the error waits for the timeout (RFC 5927 section 5).
        (Some(error), ReplyMatch::BySequence(_, seq)) => {
            plan.reported = Some((seq, error));
            return Ok(());
        }
        (Some(error), _) => Verdict::new(OutcomeCode::L4Con, error),
    };
    let probe = scheduler.finish_probe(id, verdict, now);
    if let (Some(InFlightProbe::Icmp(request)), Some((_, ProbePlan::Icmp(plan)))) =
        (probe, scheduler.check_mut(slot))
    {
        plan.answered = Some(request);
        plan.missed = MissedReplies::NONE;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
