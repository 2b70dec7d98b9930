//! The engine's other half: the controller, from the endpoint to the last outcome.

use std::os::fd::{AsFd, OwnedFd};

use maglev_ipc::message::{HEARTBEAT_INTERVAL, PEER_TIMEOUT};
use maglev_ipc::{ProberStats, ToController, VERSION};
use maglev_ipc_link::{Error, PeerCredentials, ProberSocket};
use maglev_notify::{NotifyState, ServiceNotifier};
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use socket2::Socket;
use tracing::{info, warn};

use super::{Engine, EngineConfig, Exit, LINK, LISTENER};
use crate::clock::{Nanos, nanos};
use crate::outbox::Outbox;
use crate::probe::ProbePlan;
use crate::protocol::{ControllerRequest, InboundProtocol};
use crate::scheduler::{OutcomeReport, SetChange};
use crate::set::{CheckSet, ProbeLimits, ProtocolError};

/// How many messages one turn takes from the controller at most, so that a long set does not hold up the probes: a message
/// holds hundreds of checks.
const MESSAGES: usize = 2;

/// What is to be told of the link, at its edges.
const READING: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLET);
/// The same, while there is something to write that it had no room for. At other times the kernel would tell of room
/// whenever the controller has read.
const WRITING: EpollFlags = READING.union(EpollFlags::EPOLLOUT);

/// How controllers come in.
#[derive(Debug)]
pub enum ControllerEndpoint {
    /// Through a listening socket, if they are of these users. The newest takes the place of the one before.
    Listener(Socket, Vec<u32>),
    /// There is one, at the other end of this socket, and when it goes we go.
    Inherited(OwnedFd),
}

/// What the engine knows of its controller.
#[derive(Debug)]
pub struct ControllerState {
    listener: Option<(Socket, Vec<u32>)>,
    session: Option<ControllerSession>,
    limits: ProbeLimits,
    instance: u64,
    orphan_timeout: Nanos,
    /// Since when there has been no controller, once there was one.
    lost: Option<Nanos>,
    notifier: ServiceNotifier,
    beat: Nanos,
    next_beat: Nanos,
}

#[derive(Debug)]
struct ControllerSession {
    link: ProberSocket,
    protocol: InboundProtocol,
    outbox: Outbox,
    heard: Nanos,
    /// There may be something to read.
    awake: bool,
    /// Room to write is waited for.
    writes: bool,
    /// A set of this link is in force, so that the names in outcomes are this controller's.
    committed: bool,
}

/// Why a controller is not listened to any more.
#[derive(Debug, thiserror::Error)]
enum LinkFault {
    #[error(transparent)]
    Link(#[from] Error),
    #[error("the controller does not keep to the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("the controller has said nothing for {} s", PEER_TIMEOUT.as_secs())]
    Timeout,
    #[error("process {0} is of user {1}, who is not allowed here")]
    UntrustedPeer(i32, u32),
}

impl ControllerState {
    pub(super) fn new(setup: &EngineConfig, now: Nanos) -> Self {
        let beat =
            setup.notifier.watchdog().map_or(HEARTBEAT_INTERVAL, |limit| HEARTBEAT_INTERVAL.min(limit / 2));
        Self {
            listener: None,
            session: None,
            limits: setup.limits,
            instance: setup.seed,
            orphan_timeout: nanos(setup.orphan_timeout),
            lost: None,
            notifier: setup.notifier.clone(),
            beat: nanos(beat),
            next_beat: now,
        }
    }

    /// Something has happened on the link.
    pub(super) fn awaken(&mut self) {
        if let Some(session) = &mut self.session {
            session.awake = true;
        }
    }

    /// Queues an outcome for a controller that knows the check by that name. Returns how many were thrown away.
    pub(super) fn report(&mut self, report: OutcomeReport) -> u64 {
        let session = self.session.as_mut().filter(|session| session.committed);
        session.map_or(0, |session| session.outbox.outcome(report))
    }

    /// When there is something to do, at the latest.
    pub(super) fn next(&self, now: Nanos) -> Nanos {
        if self.session.as_ref().is_some_and(|session| session.awake && !session.outbox.is_clogged()) {
            return now;
        }
        self.lost.map_or(Nanos::MAX, |lost| lost + self.orphan_timeout).min(self.next_beat)
    }
}

impl Engine {
    pub(super) fn open_endpoint(&mut self, endpoint: ControllerEndpoint, now: Nanos) -> Result<(), Errno> {
        match endpoint {
            ControllerEndpoint::Listener(socket, users) => {
                // An edge: one that cannot be accepted for now must not keep the loop turning.
                let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
                self.sockets.epoll.add(&socket, EpollEvent::new(events, LISTENER))?;
                self.controller.listener = Some((socket, users));
            }
            ControllerEndpoint::Inherited(socket) => self.welcome(socket, now),
        }
        Ok(())
    }

    /// Lets controllers in.
    pub(super) fn accept(&mut self, now: Nanos) {
        while let Some((listener, _)) = &self.controller.listener {
            match listener.accept() {
                Ok((socket, _)) => self.welcome(socket.into(), now),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => return warn!(%error, "cannot accept a controller"),
            }
        }
    }

    fn welcome(&mut self, socket: OwnedFd, now: Nanos) {
        match self.greet(socket, now) {
            Ok((session, peer)) => {
                if self.controller.session.is_some() {
                    warn!("another controller takes over");
                }
                info!(pid = peer.pid, uid = peer.uid, "a controller has connected");
                self.controller.session = Some(session);
                self.controller.lost = None;
            }
            Err(error) => warn!(%error, "a connection was turned away"),
        }
    }

    fn greet(&self, socket: OwnedFd, now: Nanos) -> Result<(ControllerSession, PeerCredentials), LinkFault> {
        let link = ProberSocket::new(socket)?;
        let peer = link.peer()?;
        if let Some((_, users)) = &self.controller.listener
            && !users.contains(&peer.uid)
        {
            return Err(LinkFault::UntrustedPeer(peer.pid, peer.uid));
        }
        self.sockets.epoll.add(link.as_fd(), EpollEvent::new(READING, LINK)).map_err(Error::from)?;
        let release = env!("CARGO_PKG_VERSION").to_owned();
        // At once, so that it arrives even if what the controller says first ends the link.
        link.send(&ToController::Hello { version: VERSION, release, instance: self.controller.instance })?;
        let outbox = Outbox::default();
        let protocol = InboundProtocol::new(self.controller.limits);
        Ok((
            ControllerSession {
                link,
                protocol,
                outbox,
                heard: now,
                awake: true,
                writes: false,
                committed: false,
            },
            peer,
        ))
    }

    /// Once a turn: listens to the controller, tells it what there is to tell, and keeps the time of the link.
    pub(super) fn tend(&mut self, now: Nanos) -> Option<Exit> {
        if now >= self.controller.next_beat {
            self.controller.next_beat = now + self.controller.beat;
            self.beat();
            self.accept(now);
        }
        if let Err(error) = self.converse(now) {
            warn!(%error, "the link to the controller is closed");
            self.controller.session = None;
            self.controller.lost = Some(now);
        }
        if self.controller.session.is_some() {
            return None;
        }
        if self.controller.listener.is_none() {
            return Some(Exit::ControllerExited);
        }
        let lost = self.controller.lost?;
        (now.saturating_sub(lost) >= self.controller.orphan_timeout).then_some(Exit::OrphanTimeout)
    }

    fn beat(&mut self) {
        let notifier = &self.controller.notifier;
        if notifier.watchdog().is_some()
            && let Err(error) = notifier.notify(&[NotifyState::Watchdog])
        {
            warn!(%error, "cannot notify the watchdog of systemd");
        }
        // A controller that does not read finds enough to read when it does.
        if let Some(session) = self.controller.session.as_mut().filter(|session| !session.outbox.is_behind())
        {
            let ProberStats { probes, delayed_by_rate, delayed_by_stall, lateness, .. } =
                *self.scheduler.stats();
            let half_open_fallbacks = self.sockets.fallbacks;
            let stats = ProberStats {
                probes,
                delayed_by_rate,
                delayed_by_stall,
                lateness,
                half_open_fallbacks,
                ..self.stats
            };
            session.outbox.message(ToController::Heartbeat(stats));
        }
    }

    fn converse(&mut self, now: Nanos) -> Result<(), LinkFault> {
        for _ in 0..MESSAGES {
            let Some(session) = &mut self.controller.session else { return Ok(()) };
            if !session.awake || session.outbox.is_clogged() {
                break;
            }
            let message = match session.link.receive() {
                Err(Error::WouldBlock) => {
                    session.awake = false;
                    break;
                }
                message => message?,
            };
            session.heard = now;
            match session.protocol.handle(message, &mut self.configs)? {
                None => {}
                Some(ControllerRequest::ApplySet(set)) => self.put(set, now),
                Some(ControllerRequest::SetIntervals(paces)) => self.scheduler.set_intervals(&paces, now),
            }
        }
        let next = self.scheduler.next_wakeup(now).min(self.controller.next(now));
        let Some(session) = &mut self.controller.session else { return Ok(()) };
        if now.saturating_sub(session.heard) > nanos(PEER_TIMEOUT) {
            return Err(LinkFault::Timeout);
        }
        session.outbox.flush(now, next, |message| session.link.send(message))?;
        let writes = session.outbox.is_behind();
        if writes != std::mem::replace(&mut session.writes, writes) {
            let mut events = EpollEvent::new(if writes { WRITING } else { READING }, LINK);
            self.sockets.epoll.modify(session.link.as_fd(), &mut events).map_err(Error::from)?;
        }
        Ok(())
    }

    /// Puts a set or an amendment in force.
    fn put(&mut self, set: CheckSet, now: Nanos) {
        let Some(session) = &mut self.controller.session else { return };
        let what = if set.dropped.is_some() { "a check set is amended" } else { "a check set is in force" };
        let (generation, refused) = (set.generation, set.rejected.len());
        let is_first = !std::mem::replace(&mut session.committed, true);
        let SetChange { kept, added, dropped, ended } =
            &set.apply(&mut self.scheduler, &mut session.outbox, is_first, now);
        let targets = |v4| {
            self.scheduler
                .checks()
                .any(|(check, plan)| matches!(plan, ProbePlan::HalfOpen(..)) && check.target.is_ipv4() == v4)
        };
        self.sockets.syn_prober.listen([targets(true), targets(false)]);
        for slot in dropped {
            self.sockets.close_idle(*slot);
        }
        for flight in ended {
            self.sockets.release(flight);
        }
        let (kept, added, dropped) = (kept.len(), added.len(), dropped.len());
        info!(generation, kept, added, dropped, refused, "{what}");
    }
}
