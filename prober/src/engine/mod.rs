//! The loop: one thread, one epoll, the sockets and the link. What is due and what came of it, [`Scheduler`] decides.
//!
//! Each turn takes what has arrived, then gives up what is overdue, then starts what is due, and then tells the
//! controller. In that order, a probe whose answer has arrived is never given up, however late the turn.

mod controller;
mod idle_connections;
mod rx_loss;
mod sockets;

use std::time::Duration;

use maglev_ipc::{OutcomeCode, ProberStats};
use maglev_notify::ServiceNotifier;
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;

use crate::clock::{self, Nanos};
use crate::probe::half_open::{SynProber, SynReply};
use crate::probe::icmp::{EchoRequest, IcmpMessage, IcmpProber, PacketReject, ReplyMatch};
use crate::probe::stream;
use crate::probe::{InFlightProbe, ProbePlan, tcp, tls};
use crate::probe_id::ProbeId;
use crate::scheduler::Scheduler;
use crate::set::ProbeLimits;
use crate::verdict::Verdict;
pub use controller::ControllerEndpoint;
use controller::ControllerState;
use sockets::ProbeSockets;

/// Events that one turn takes from the kernel at once.
const EVENTS: usize = 1024;
/// Batches of packets that one turn takes from a raw socket at once.
const BATCHES: usize = 16;
/// What one read takes from a connection at most, in bytes.
const SCRATCH: usize = 16 * 1024;
/// What the events of epoll belong to; all that is no slot.
const LISTENER: u64 = u64::MAX;
const LINK: u64 = u64::MAX - 1;
const SIGNAL: u64 = u64::MAX - 2;
const ICMP_V4: u64 = u64::MAX - 3;
const ICMP_V6: u64 = u64::MAX - 4;
const TCP_V4: u64 = u64::MAX - 5;
const TCP_V6: u64 = u64::MAX - 6;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// A signal asked for it.
    Signal,
    /// No controller for as long as `--orphan-timeout`.
    OrphanTimeout,
    /// The controller that started this prober is gone.
    ControllerExited,
}

/// What the loop is started with.
#[derive(Debug)]
pub struct EngineConfig {
    /// How controllers come in.
    pub endpoint: ControllerEndpoint,
    /// RawSocket sockets of ICMP.
    pub icmp_prober: IcmpProber,
    /// RawSocket sockets of TCP.
    pub syn_prober: SynProber,
    /// TLS configurations.
    pub configs: tls::TlsConfigs,
    /// Signals that end the loop.
    pub signals: SignalFd,
    /// What the controller may ask for at most.
    pub limits: ProbeLimits,
    /// How many connections may be open at a time.
    pub max_connections: u64,
    /// How long to go on without a controller.
    pub orphan_timeout: Duration,
    /// Notifier of systemd, for its watchdog.
    pub notifier: ServiceNotifier,
    /// Draws the jitter, and names this prober.
    pub seed: u64,
}

/// All there is.
#[derive(Debug)]
pub struct Engine {
    scheduler: Scheduler<ProbePlan, InFlightProbe>,
    sockets: ProbeSockets,
    signals: SignalFd,
    configs: tls::TlsConfigs,
    controller: ControllerState,
    /// What packets counted; the scheduler counts the rest.
    stats: ProberStats,
    heard: Vec<Result<IcmpMessage, PacketReject>>,
    answers: Vec<Result<SynReply, PacketReject>>,
    scratch: Vec<u8>,
}

impl Engine {
    /// Gets everything ready; nothing is probed before a controller asks.
    ///
    /// # Errors
    /// The system refuses an epoll or a descriptor in it.
    pub fn new(setup: EngineConfig) -> Result<Self, Errno> {
        let now = clock::now();
        let controller = ControllerState::new(&setup, now);
        let sockets = ProbeSockets::new(setup.icmp_prober, setup.syn_prober, setup.max_connections)?;
        sockets.epoll.add(&setup.signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNAL))?;
        let mut engine = Self {
            scheduler: Scheduler::new(setup.seed, setup.limits.max_rate, now),
            controller,
            sockets,
            signals: setup.signals,
            configs: setup.configs,
            stats: ProberStats::default(),
            heard: Vec::new(),
            answers: Vec::new(),
            scratch: vec![0; SCRATCH],
        };
        engine.open_endpoint(setup.endpoint, now)?;
        Ok(engine)
    }

    /// Probes until there is a reason to end.
    ///
    /// # Errors
    /// epoll fails, which leaves nothing to go on with.
    pub fn run(&mut self) -> Result<Exit, Errno> {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        let mut wake = clock::now();
        loop {
            let wait = wake.saturating_sub(clock::now()).div_ceil(1_000_000);
            let timeout = EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX);
            let count = match self.sockets.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => 0,
                count => count?,
            };
            let now = clock::now();
            self.scheduler.begin_iteration(wake, now);
            self.sockets.begin_iteration();
            self.resume_handshakes(now);
            for event in &events[..count] {
                if let Some(end) = self.dispatch(*event, now) {
                    return Ok(end);
                }
            }
            if count == EVENTS {
                // There may be answers among what is still waiting to be taken.
                continue;
            }
            self.expire(now);
            self.launch();
            self.report();
            if let Some(end) = self.tend(now) {
                return Ok(end);
            }
            wake = self.scheduler.next_wakeup(now).min(self.controller.next(now));
            if self.sockets.is_behind() {
                wake = now;
            }
        }
    }

    fn dispatch(&mut self, event: EpollEvent, now: Nanos) -> Option<Exit> {
        match event.data() {
            LISTENER => self.accept(now),
            LINK => self.controller.awaken(),
            SIGNAL => {
                // Whatever the signal is, only those that end us are let through.
                let signal = self.signals.read_signal().ok().flatten();
                return signal.map(|_| Exit::Signal);
            }
            ICMP_V4 => self.receive_icmp(true),
            ICMP_V6 => self.receive_icmp(false),
            TCP_V4 => self.receive_tcp(true),
            TCP_V6 => self.receive_tcp(false),
            word => self.advance(ProbeId::from(word), event.events(), now),
        }
        None
    }

    fn expire(&mut self, now: Nanos) {
        let sockets = &mut self.sockets;
        self.scheduler.process_timers(now, |plan, flight, started| {
            sockets.release(&flight);
            if let Some(why) = sockets.excuse(&flight, started) {
                return Verdict::new(OutcomeCode::Local, why);
            }
            match (&flight, plan.stream()) {
                (InFlightProbe::Stream(stream), Some(plan)) => stream.time_out(plan),
                _ => Verdict::from_code(OutcomeCode::L4Tout),
            }
        });
    }

    /// Starts what is due.
    fn launch(&mut self) {
        loop {
            let now = clock::now();
            if !self.scheduler.start_next(now, |key, check, plan| self.sockets.start(key, check, plan, now)) {
                break;
            }
            if self.sockets.icmp_prober.is_full() {
                self.flush_pings();
                // The answers may be there already, and the socket's buffer holds a few hundred.
                self.receive_icmp(true);
                self.receive_icmp(false);
            }
            if self.sockets.syn_prober.is_full() {
                self.flush_segments();
                self.receive_tcp(true);
                self.receive_tcp(false);
            }
        }
        self.flush_pings();
        self.flush_segments();
    }

    fn flush_pings(&mut self) {
        let (scheduler, sockets) = (&mut self.scheduler, &mut self.sockets);
        sockets.icmp_prober.flush(|key, errno| {
            scheduler.finish_probe(key, tcp::local(&errno.into()), clock::now());
        });
    }

    fn flush_segments(&mut self) {
        let mut unsent = Vec::new();
        self.sockets.syn_prober.flush(|key, errno| unsent.push((key, errno)));
        for (key, errno) in unsent {
            if let Some((ProbePlan::HalfOpen(plan, _), _)) = self.scheduler.in_flight_mut(key) {
                plan.forget_source();
            }
            if let Some(flight) = self.scheduler.finish_probe(key, tcp::local(&errno.into()), clock::now()) {
                self.sockets.release(&flight);
            }
        }
    }

    /// Hands what came of the probes to the controller.
    fn report(&mut self) {
        for report in self.scheduler.take_reports() {
            self.stats.outcomes_dropped += self.controller.report(report);
        }
    }

    /// Goes on with the handshakes that wait.
    fn resume_handshakes(&mut self, now: Nanos) {
        while let Some(token) = self.sockets.pop_deferred() {
            // What has happened on it, it knows.
            self.advance(ProbeId::from(token), EpollFlags::empty(), now);
        }
    }

    /// Goes on with a connection, which is known by the name of the probe that opened it.
    fn advance(&mut self, opener: ProbeId, events: EpollFlags, now: Nanos) {
        let token = u64::from(opener);
        let is_it = |flight: &InFlightProbe| matches!(flight, InFlightProbe::Stream(stream) if stream.token() == token);
        let Some(key) = self.scheduler.find_in_flight(opener.slot, is_it) else {
            return self.stir(opener.slot, token, events, now);
        };
        let Some((plan, InFlightProbe::Stream(stream))) = self.scheduler.in_flight_mut(key) else { return };
        let Some(plan) = plan.stream() else { return };
        if stream.is_handshaking(plan) && !self.sockets.take_handshake_budget() {
            if stream.defer_handshake(events) {
                self.sockets.defer_handshake(token);
            }
            return;
        }
        let verdict = match stream.advance(plan, events, &mut self.scratch, now) {
            None => return,
            Some(stream::StreamEnd::Verdict(verdict)) => verdict,
            Some(stream::StreamEnd::Stale) => match self.sockets.reopen(key, plan, stream) {
                Ok(()) => {
                    self.stats.connections_retried += 1;
                    return;
                }
                Err(verdict) => verdict,
            },
        };
        self.stats.tls_resumptions += u64::from(stream.has_resumed());
        if let Some(InFlightProbe::Stream(stream)) = self.scheduler.finish_probe(key, verdict, now)
            && let Some(plan) = self.scheduler.check_mut(key.slot).and_then(|(_, plan)| plan.stream())
        {
            self.sockets.keep_or_close(key.slot, plan, stream);
        }
    }

    /// Something has happened on an idle connection.
    fn stir(&mut self, slot: u32, token: u64, events: EpollFlags, now: Nanos) {
        if let Some(stream) = self.sockets.idle.get_mut(slot, token)
            && let Some(plan) = self.scheduler.check_mut(slot).and_then(|(_, plan)| plan.stream())
            && !stream.idle(plan, events, &mut self.scratch, now)
        {
            self.sockets.close_idle(slot);
        }
    }

    /// Reads a family's ICMP, but not more of it at a time than leaves room for the rest of the turn.
    fn receive_icmp(&mut self, v4: bool) {
        let mut heard = std::mem::take(&mut self.heard);
        let mut more = true;
        for _ in 0..BATCHES {
            more = self.sockets.icmp_prober.receive(v4, &mut heard);
            let now = clock::now();
            let lost = self.sockets.icmp_prober.lost(v4);
            if lost > 0 {
                self.stats.lost_to_overflow += u64::from(lost);
                self.sockets.pings.deafen(now);
            }
            for packet in heard.drain(..) {
                if let Err(junk) = packet.and_then(|heard| self.judge(&heard, now)) {
                    self.count(junk);
                }
            }
            if !more {
                break;
            }
        }
        if more {
            self.sockets.pings.leave();
        }
        self.heard = heard;
    }

    /// The same for the segments that answer half-open probes.
    fn receive_tcp(&mut self, v4: bool) {
        let mut answers = std::mem::take(&mut self.answers);
        let mut more = true;
        for _ in 0..BATCHES {
            more = self.sockets.syn_prober.receive(v4, &mut answers);
            let now = clock::now();
            let lost = self.sockets.syn_prober.lost(v4);
            if lost > 0 {
                self.stats.lost_to_overflow += u64::from(lost);
                self.sockets.segments.deafen(now);
            }
            for answer in answers.drain(..) {
                match answer {
                    Ok(SynReply { key, verdict }) => _ = self.scheduler.finish_probe(key, verdict, now),
                    Err(junk) => self.count(junk),
                }
            }
            if !more {
                break;
            }
        }
        if more {
            self.sockets.segments.leave();
        }
        self.answers = answers;
    }

    fn count(&mut self, junk: PacketReject) {
        let counter = match junk {
            PacketReject::Duplicate => &mut self.stats.duplicates,
            PacketReject::Stray => &mut self.stats.unmatched,
            PacketReject::Spoofed => &mut self.stats.spoofed,
            PacketReject::Malformed => &mut self.stats.malformed,
        };
        *counter += 1;
    }

    /// Holds what a packet says against the probe that it names.
    fn judge(&mut self, heard: &IcmpMessage, now: Nanos) -> Result<(), PacketReject> {
        let slot = match heard.claim {
            ReplyMatch::ByCookie(ProbeId { slot, .. }, _) | ReplyMatch::BySequence(slot, _) => slot,
            ReplyMatch::QuotedSyn(syn, what) => {
                let SynReply { key, verdict } =
                    self.sockets.syn_prober.unreachable(syn, heard.about, what)?;
                self.scheduler.finish_probe(key, verdict, now);
                return Ok(());
            }
        };
        let about = |ping: &EchoRequest| heard.claim.is_for(*ping);
        let key = self
            .scheduler
            .find_in_flight(slot, |flight| matches!(flight, InFlightProbe::Icmp(ping) if about(ping)));
        let Some((check, ProbePlan::Icmp { answered })) = self.scheduler.check_mut(slot) else {
            return Err(PacketReject::Stray);
        };
        if key.is_none() && !answered.as_ref().is_some_and(about) {
            return Err(PacketReject::Stray);
        }
        if check.target != heard.about {
            return Err(PacketReject::Spoofed);
        }
        let key = key.ok_or(PacketReject::Duplicate)?;
        let verdict = heard
            .error
            .map_or(Verdict::from_code(OutcomeCode::L7Ok), |what| Verdict::new(OutcomeCode::L4Con, what));
        let flight = self.scheduler.finish_probe(key, verdict, now);
        if let (Some(InFlightProbe::Icmp(ping)), Some((_, ProbePlan::Icmp { answered }))) =
            (flight, self.scheduler.check_mut(slot))
        {
            *answered = Some(ping);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
