//! The engine's side of the controller: connections, the session, heartbeats and the watchdog.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use maglev_ipc::message::{HEARTBEAT_INTERVAL, PEER_TIMEOUT};
use maglev_ipc::{ProberStats, ToController, ToProber, VERSION};
use maglev_ipc_link::{Error, PeerCredentials, ProberSocket};
use maglev_notify::{NotifyState, ServiceNotifier};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use socket2::Socket;
use tracing::{info, warn};

use super::sockets::ProbeSockets;
use super::{Engine, EngineConfig, Exit, LINK, LISTENER};
use crate::clock::{Nanos, nanos};
use crate::outbox::Outbox;
use crate::probe::{InFlightProbe, ProbePlan};
use crate::protocol::{ControllerProtocol, ControllerRequest};
use crate::scheduler::{OutcomeReport, Scheduler, SetChange};
use crate::set::{ProbeLimits, ProtocolError, ReceivedSet};

/// Maximum number of messages read per iteration, so that a large set does not delay probes. A message holds hundreds of
/// checks.
const MAX_READS: usize = 2;

/// Time between two warnings of delayed probes.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Events of the link, edge-triggered.
const READ_EVENTS: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLET);
/// Events while there is a backlog. `EPOLLOUT` is not requested otherwise: it would wake the loop after each read of the
/// controller.
const WRITE_EVENTS: EpollFlags = READ_EVENTS.union(EpollFlags::EPOLLOUT);

/// Source of controller connections.
#[derive(Debug)]
pub enum ControllerEndpoint {
    /// A listening socket, and the users that may connect. A new controller replaces the connected one.
    Listener(Socket, Vec<u32>),
    /// One connected socket; the prober exits when it closes.
    Inherited(OwnedFd),
}

/// Listener, session and timers of the controller's side.
#[derive(Debug)]
pub struct ControllerState {
    listener: Option<(Socket, Vec<u32>)>,
    session: Option<ControllerSession>,
    limits: ProbeLimits,
    instance: u64,
    orphan_timeout: Nanos,
    /// Time at which the last session ended, while there is none.
    session_lost: Option<Nanos>,
    notifier: ServiceNotifier,
    heartbeat_interval: Nanos,
    next_heartbeat: Nanos,
    /// Time from which a delay of probes is logged again.
    next_warning: Nanos,
}

/// One connected controller.
#[derive(Debug)]
struct ControllerSession {
    link: ProberSocket,
    protocol: ControllerProtocol,
    outbox: Outbox,
    /// Time of the last message.
    last_message: Nanos,
    /// True if the socket may have messages.
    is_readable: bool,
    /// True if `EPOLLOUT` is requested.
    awaits_room: bool,
    /// True once a set of this link is active, so that its check identifiers are valid in outcomes.
    has_committed: bool,
}

/// Reason for the end of a session.
#[derive(Debug, thiserror::Error)]
enum LinkFault {
    #[error(transparent)]
    Link(#[from] Error),
    #[error("protocol violation by controller: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("no message from controller for {} s", PEER_TIMEOUT.as_secs())]
    Timeout,
    #[error("untrusted peer: process {0} of user {1}")]
    UntrustedPeer(i32, u32),
}

impl ControllerState {
    pub(super) fn new(config: &EngineConfig, now: Nanos) -> Self {
        let watchdog = config.notifier.watchdog();
        let heartbeat = watchdog.map_or(HEARTBEAT_INTERVAL, |limit| HEARTBEAT_INTERVAL.min(limit / 2));
        Self {
            listener: None,
            session: None,
            limits: config.limits.clone(),
            instance: config.seed,
            orphan_timeout: nanos(config.orphan_timeout),
            session_lost: None,
            notifier: config.notifier.clone(),
            heartbeat_interval: nanos(heartbeat),
            next_heartbeat: now,
            next_warning: now,
        }
    }

    /// Begins to use an endpoint.
    ///
    /// # Errors
    /// The system refuses the listener in `epoll`.
    pub(super) fn open_endpoint(
        &mut self,
        endpoint: ControllerEndpoint,
        epoll: &Epoll,
        now: Nanos,
    ) -> Result<(), Errno> {
        match endpoint {
            ControllerEndpoint::Listener(socket, users) => {
                // Edge-triggered: a connection that cannot be accepted now must not keep the loop busy.
                let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
                epoll.add(&socket, EpollEvent::new(events, LISTENER))?;
                self.listener = Some((socket, users));
            }
            ControllerEndpoint::Inherited(socket) => self.install_session(socket, epoll, now),
        }
        Ok(())
    }

    /// Accepts all pending connections.
    pub(super) fn accept_all(&mut self, epoll: &Epoll, now: Nanos) {
        while let Some((listener, _)) = &self.listener {
            match listener.accept() {
                Ok((socket, _)) => self.install_session(socket.into(), epoll, now),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => return warn!(%error, "cannot accept a controller connection"),
            }
        }
    }

    /// Replaces the session by one on `socket`, if the peer is trusted.
    fn install_session(&mut self, socket: OwnedFd, epoll: &Epoll, now: Nanos) {
        match self.accept_session(socket, epoll, now) {
            Ok((session, peer)) => {
                if self.session.is_some() {
                    warn!("new controller replaces the connected one");
                }
                info!(pid = peer.pid, uid = peer.uid, "controller connected");
                self.session = Some(session);
                self.session_lost = None;
            }
            Err(error) => warn!(%error, "controller connection rejected"),
        }
    }

    /// Verifies the peer by `SO_PEERCRED`, and sends `Hello`.
    fn accept_session(
        &self,
        socket: OwnedFd,
        epoll: &Epoll,
        now: Nanos,
    ) -> Result<(ControllerSession, PeerCredentials), LinkFault> {
        let link = ProberSocket::new(socket)?;
        let peer = link.peer()?;
        if let Some((_, users)) = &self.listener
            && !users.contains(&peer.uid)
        {
            return Err(LinkFault::UntrustedPeer(peer.pid, peer.uid));
        }
        epoll.add(link.as_fd(), EpollEvent::new(READ_EVENTS, LINK)).map_err(Error::from)?;
        let release = env!("CARGO_PKG_VERSION").to_owned();
        // Sent at once, so that it arrives even if the controller's first message ends the link.
        link.send(&ToController::Hello { version: VERSION, release, instance: self.instance })?;
        let session = ControllerSession {
            link,
            protocol: ControllerProtocol::new(self.limits.clone()),
            outbox: Outbox::default(),
            last_message: now,
            is_readable: true,
            awaits_room: false,
            has_committed: false,
        };
        Ok((session, peer))
    }

    /// Records that the link has an event.
    pub(super) fn mark_readable(&mut self) {
        if let Some(session) = &mut self.session {
            session.is_readable = true;
        }
    }

    /// Queues an outcome, if the controller knows the check's identifier. Returns the number of dropped outcomes.
    pub(super) fn queue_outcome(&mut self, report: OutcomeReport) -> u64 {
        let session = self.session.as_mut().filter(|session| session.has_committed);
        session.map_or(0, |session| session.outbox.push_outcome(report))
    }

    /// Returns the latest time of the next iteration.
    pub(super) fn next_wakeup(&self, now: Nanos) -> Nanos {
        if self.session.as_ref().is_some_and(ControllerSession::can_read) {
            return now;
        }
        let orphaned = self.session_lost.map_or(Nanos::MAX, |lost| lost + self.orphan_timeout);
        orphaned.min(self.next_heartbeat)
    }

    /// Feeds the watchdog, and queues a heartbeat with the counters.
    fn send_heartbeat(&mut self, stats: ProberStats) {
        if self.notifier.watchdog().is_some()
            && let Err(error) = self.notifier.notify(&[NotifyState::Watchdog])
        {
            warn!(%error, "cannot notify systemd's watchdog");
        }
        // A controller that does not read has a backlog of messages, which serve as heartbeats.
        if let Some(session) = self.session.as_mut().filter(|session| !session.outbox.has_backlog()) {
            session.outbox.push_message(ToController::Heartbeat(stats));
        }
    }

    /// Ends the session.
    fn close_session(&mut self, now: Nanos) {
        self.session = None;
        self.session_lost = Some(now);
    }

    /// Returns the reason to exit, if there is one.
    fn exit_reason(&self, now: Nanos) -> Option<Exit> {
        if self.session.is_some() {
            return None;
        }
        if self.listener.is_none() {
            return Some(Exit::ControllerExited);
        }
        let lost = self.session_lost?;
        (now.saturating_sub(lost) >= self.orphan_timeout).then_some(Exit::OrphanTimeout)
    }
}

impl ControllerSession {
    /// Returns true if a message may be read now. A controller that does not read is not read from.
    fn can_read(&self) -> bool {
        self.is_readable && !self.outbox.is_over_limit()
    }

    /// Reads the next message, if there is one.
    fn read_message(&mut self, now: Nanos) -> Result<Option<ToProber>, LinkFault> {
        if !self.can_read() {
            return Ok(None);
        }
        match self.link.receive() {
            Err(Error::WouldBlock) => {
                self.is_readable = false;
                Ok(None)
            }
            message => {
                self.last_message = now;
                Ok(Some(message?))
            }
        }
    }

    /// Sends queued messages, and requests `EPOLLOUT` while there is a backlog.
    fn flush(&mut self, epoll: &Epoll, now: Nanos, next_wakeup: Nanos) -> Result<(), LinkFault> {
        if now.saturating_sub(self.last_message) > nanos(PEER_TIMEOUT) {
            return Err(LinkFault::Timeout);
        }
        self.outbox.flush(now, next_wakeup, |message| self.link.send(message))?;
        let awaits_room = self.outbox.has_backlog();
        if awaits_room != std::mem::replace(&mut self.awaits_room, awaits_room) {
            let mut events = EpollEvent::new(if awaits_room { WRITE_EVENTS } else { READ_EVENTS }, LINK);
            epoll.modify(self.link.as_fd(), &mut events).map_err(Error::from)?;
        }
        Ok(())
    }

    /// Activates a set or an amendment.
    fn apply_set(
        &mut self,
        set: ReceivedSet,
        scheduler: &mut Scheduler<ProbePlan, InFlightProbe>,
        sockets: &mut ProbeSockets,
        now: Nanos,
    ) {
        let action = if set.dropped.is_some() { "check set amended" } else { "check set active" };
        let (generation, rejected) = (set.generation, set.rejected.len());
        let is_first = !std::mem::replace(&mut self.has_committed, true);
        let SetChange { kept, added, dropped, ended, .. } =
            &set.apply(scheduler, &mut self.outbox, is_first, now);
        let has_half_open = |v4| {
            scheduler
                .checks()
                .any(|(check, plan)| matches!(plan, ProbePlan::HalfOpen(..)) && check.target.is_ipv4() == v4)
        };
        sockets.syn.prober.set_receiving([has_half_open(true), has_half_open(false)]);
        for slot in dropped {
            sockets.close_idle(*slot);
        }
        for probe in ended {
            sockets.release(probe);
        }
        let (kept, added, dropped) = (kept.len(), added.len(), dropped.len());
        info!(generation, kept, added, dropped, rejected, "{action}");
    }
}

impl Engine {
    /// Exchanges messages with the controller, and keeps the timers of the link. Called once per iteration.
    pub(super) fn service_controller(&mut self, now: Nanos) -> Option<Exit> {
        if now >= self.controller.next_heartbeat {
            self.controller.next_heartbeat = now + self.controller.heartbeat_interval;
            self.controller.send_heartbeat(self.merged_stats());
            self.controller.accept_all(&self.sockets.epoll, now);
            self.warn_of_delays(now);
        }
        if let Err(error) = self.exchange_messages(now) {
            match &error {
                // As when maglevd stops or restarts.
                LinkFault::Link(Error::Closed) => info!("controller closed the link"),
                error => warn!(%error, "controller link closed"),
            }
            self.controller.close_session(now);
        }
        self.controller.exit_reason(now)
    }

    /// Logs an address whose limit delays its probes, once a minute.
    fn warn_of_delays(&mut self, now: Nanos) {
        if now < self.controller.next_warning {
            return;
        }
        if let Some(address) = self.scheduler.take_delayed_address() {
            let limit = self.controller.limits.max_rate_per_address;
            warn!(
                "probes of {address} are delayed: its checks exceed --max-rate-per-address {limit}, \
                 use longer intervals or raise it"
            );
            self.controller.next_warning = now + nanos(WARNING_INTERVAL);
        }
    }

    /// Returns the counters of scheduler, sockets and engine.
    fn merged_stats(&self) -> ProberStats {
        let ProberStats { probes, delayed_by_rate, delayed_by_stall, lateness, .. } = *self.scheduler.stats();
        ProberStats {
            probes,
            delayed_by_rate,
            delayed_by_stall,
            lateness,
            half_open_fallbacks: self.sockets.fallbacks,
            ..self.stats
        }
    }

    fn exchange_messages(&mut self, now: Nanos) -> Result<(), LinkFault> {
        let Self { scheduler, sockets, configs, controller, .. } = self;
        let Some(session) = &mut controller.session else { return Ok(()) };
        for _ in 0..MAX_READS {
            let Some(message) = session.read_message(now)? else { break };
            match session.protocol.handle(message, configs)? {
                None => {}
                Some(ControllerRequest::ApplySet(set)) => session.apply_set(set, scheduler, sockets, now),
                Some(ControllerRequest::SetIntervals(intervals)) => {
                    scheduler.set_intervals(&intervals, now);
                }
            }
        }
        let next_wakeup = scheduler.next_wakeup(now).min(controller.next_wakeup(now));
        let Some(session) = &mut controller.session else { return Ok(()) };
        session.flush(&sockets.epoll, now, next_wakeup)
    }
}
