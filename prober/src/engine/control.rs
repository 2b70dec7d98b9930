//! The engine's other half: the controller, from the door to the last outcome.

use std::os::fd::{AsFd, OwnedFd};

use maglev_ipc::link::{Error, Peer};
use maglev_ipc::message::{HEARTBEAT, SILENCE};
use maglev_ipc::{ProberLink, Stats, ToController, VERSION};
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use sd_notify::NotifyState;
use socket2::Socket;
use tracing::{info, warn};

use super::{End, Engine, LINK, LISTENER, Setup};
use crate::clock::{Nanos, nanos};
use crate::course::{Change, Told};
use crate::outbox::Outbox;
use crate::probe::Plan;
use crate::protocol::{Protocol, Request, Violation};
use crate::set::{Limits, Set};

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
pub enum Door {
    /// Through a listening socket, if they are of these users. The newest takes the place of the one before.
    Listener(Socket, Vec<u32>),
    /// There is one, at the other end of this socket, and when it goes we go.
    Inherited(OwnedFd),
}

/// What the engine knows of its controller.
#[derive(Debug)]
pub struct Control {
    listener: Option<(Socket, Vec<u32>)>,
    session: Option<Session>,
    limits: Limits,
    instance: u64,
    orphan_timeout: Nanos,
    /// Since when there has been no controller, once there was one.
    lost: Option<Nanos>,
    watchdog: bool,
    beat: Nanos,
    next_beat: Nanos,
}

#[derive(Debug)]
struct Session {
    link: ProberLink,
    protocol: Protocol,
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
enum Fault {
    #[error(transparent)]
    Link(#[from] Error),
    #[error("the controller does not keep to the protocol: {0}")]
    Protocol(#[from] Violation),
    #[error("the controller has said nothing for {} s", SILENCE.as_secs())]
    Silent,
    #[error("process {0} is of user {1}, who is not allowed here")]
    Stranger(i32, u32),
}

impl Control {
    pub(super) fn new(setup: &Setup, now: Nanos) -> Self {
        let beat = setup.watchdog.map_or(HEARTBEAT, |watchdog| HEARTBEAT.min(watchdog / 2));
        Self {
            listener: None,
            session: None,
            limits: setup.limits,
            instance: setup.seed,
            orphan_timeout: nanos(setup.orphan_timeout),
            lost: None,
            watchdog: setup.watchdog.is_some(),
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
    pub(super) fn report(&mut self, told: Told) -> u64 {
        let session = self.session.as_mut().filter(|session| session.committed);
        session.map_or(0, |session| session.outbox.outcome(told))
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
    pub(super) fn open_door(&mut self, door: Door, now: Nanos) -> Result<(), Errno> {
        match door {
            Door::Listener(socket, users) => {
                // An edge: one that cannot be accepted for now must not keep the loop turning.
                let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
                self.sockets.epoll.add(&socket, EpollEvent::new(events, LISTENER))?;
                self.control.listener = Some((socket, users));
            }
            Door::Inherited(socket) => self.welcome(socket, now),
        }
        Ok(())
    }

    /// Lets controllers in.
    pub(super) fn accept(&mut self, now: Nanos) {
        while let Some((listener, _)) = &self.control.listener {
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
                if self.control.session.is_some() {
                    warn!("another controller takes over");
                }
                info!(pid = peer.pid, uid = peer.uid, "a controller has connected");
                self.control.session = Some(session);
                self.control.lost = None;
            }
            Err(error) => warn!(%error, "a connection was turned away"),
        }
    }

    fn greet(&self, socket: OwnedFd, now: Nanos) -> Result<(Session, Peer), Fault> {
        let link = ProberLink::new(socket)?;
        let peer = link.peer()?;
        if let Some((_, users)) = &self.control.listener
            && !users.contains(&peer.uid)
        {
            return Err(Fault::Stranger(peer.pid, peer.uid));
        }
        self.sockets.epoll.add(link.as_fd(), EpollEvent::new(READING, LINK)).map_err(Error::from)?;
        let release = env!("CARGO_PKG_VERSION").to_owned();
        // At once, so that it arrives even if what the controller says first ends the link.
        link.send(&ToController::Hello { version: VERSION, release, instance: self.control.instance })?;
        let outbox = Outbox::default();
        let protocol = Protocol::new(self.control.limits);
        Ok((
            Session { link, protocol, outbox, heard: now, awake: true, writes: false, committed: false },
            peer,
        ))
    }

    /// Once a turn: listens to the controller, tells it what there is to tell, and keeps the time of the link.
    pub(super) fn tend(&mut self, now: Nanos) -> Option<End> {
        if now >= self.control.next_beat {
            self.control.next_beat = now + self.control.beat;
            self.beat();
            self.accept(now);
        }
        if let Err(error) = self.converse(now) {
            warn!(%error, "the link to the controller is closed");
            self.control.session = None;
            self.control.lost = Some(now);
        }
        if self.control.session.is_some() {
            return None;
        }
        if self.control.listener.is_none() {
            return Some(End::Abandoned);
        }
        let lost = self.control.lost?;
        (now.saturating_sub(lost) >= self.control.orphan_timeout).then_some(End::Orphaned)
    }

    fn beat(&mut self) {
        if self.control.watchdog
            && let Err(error) = sd_notify::notify(&[NotifyState::Watchdog])
        {
            warn!(%error, "cannot tell systemd that all is well");
        }
        // A controller that does not read finds enough to read when it does.
        if let Some(session) = self.control.session.as_mut().filter(|session| !session.outbox.is_behind()) {
            let Stats { probes, rate, stalled, lateness, .. } = *self.course.stats();
            let fallback = self.sockets.fallbacks;
            let stats = Stats { probes, rate, stalled, lateness, fallback, ..self.stats };
            session.outbox.message(ToController::Heartbeat(stats));
        }
    }

    fn converse(&mut self, now: Nanos) -> Result<(), Fault> {
        for _ in 0..MESSAGES {
            let Some(session) = &mut self.control.session else { return Ok(()) };
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
                Some(Request::Put(set)) => self.put(set, now),
                Some(Request::Pace(paces)) => self.course.set_paces(&paces, now),
            }
        }
        let next = self.course.next(now).min(self.control.next(now));
        let Some(session) = &mut self.control.session else { return Ok(()) };
        if now.saturating_sub(session.heard) > nanos(SILENCE) {
            return Err(Fault::Silent);
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
    fn put(&mut self, set: Set, now: Nanos) {
        let Some(session) = &mut self.control.session else { return };
        let what = if set.dropped.is_some() { "a check set is amended" } else { "a check set is in force" };
        let (generation, refused) = (set.generation, set.refused.len());
        let is_first = !std::mem::replace(&mut session.committed, true);
        let Change { kept, added, dropped, ended } =
            &set.enforce(&mut self.course, &mut session.outbox, is_first, now);
        let targets = |v4| {
            self.course
                .checks()
                .any(|(check, plan)| matches!(plan, Plan::HalfOpen(..)) && check.target.is_ipv4() == v4)
        };
        self.sockets.half_opener.listen([targets(true), targets(false)]);
        for slot in dropped {
            self.sockets.close_idle(*slot);
        }
        for flight in ended {
            self.sockets.closed(flight);
        }
        let (kept, added, dropped) = (kept.len(), added.len(), dropped.len());
        info!(generation, kept, added, dropped, refused, "{what}");
    }
}
