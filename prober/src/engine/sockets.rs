//! What probes are made with: the raw sockets, and connections within their bounds.

use std::collections::VecDeque;

use maglev_ipc::{Check, Code};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use tracing::warn;

use super::ear::Ear;
use super::idle::Idle;
use super::{ICMP_V4, ICMP_V6, TCP_V4, TCP_V6};
use crate::clock::Nanos;
use crate::course::{Key, Start};
use crate::probe::half_open::HalfOpener;
use crate::probe::icmp::Pinger;
use crate::probe::stream::{self, Stream};
use crate::probe::{Flight, Plan, Verdict, tcp};

/// How many steps of TLS handshakes one turn takes at most, each of which costs as much as some five other probes. The
/// rest waits for the next turn, which follows at once, so that other probes wait for no more of them than these.
const HANDSHAKES: u32 = 32;

/// All sockets but those of the controller.
#[derive(Debug)]
pub struct Sockets {
    pub epoll: Epoll,
    pub pinger: Pinger,
    pub half_opener: HalfOpener,
    pub idle: Idle,
    /// Of the pinger.
    pub pings: Ear,
    /// Of the half-opener.
    pub segments: Ear,
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

impl Sockets {
    /// Has the kernel tell what happens on the raw sockets.
    ///
    /// # Errors
    /// The system refuses an epoll or a descriptor in it.
    pub fn new(pinger: Pinger, half_opener: HalfOpener, max_connections: u64) -> Result<Self, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let raw = pinger.sockets().into_iter().chain(half_opener.sockets());
        for (socket, token) in raw.zip([ICMP_V4, ICMP_V6, TCP_V4, TCP_V6]) {
            if let Ok(socket) = socket {
                epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
            }
        }
        Ok(Self {
            epoll,
            pinger,
            half_opener,
            idle: Idle::default(),
            pings: Ear::default(),
            segments: Ear::default(),
            fallbacks: 0,
            connections: 0,
            max_connections,
            handshakes: HANDSHAKES,
            waiting: VecDeque::new(),
        })
    }

    /// A turn begins, with handshakes of its own, and reads what there is.
    pub const fn woken(&mut self) {
        self.pings.wake();
        self.segments.wake();
        self.handshakes = HANDSHAKES;
    }

    /// Starts a probe.
    pub fn start(&mut self, key: Key, check: &Check, plan: &mut Plan, now: Nanos) -> Start<Flight> {
        match plan {
            Plan::Icmp { .. } => {
                let ping = self.pinger.queue(key, check.target, check.source);
                ping.map(Flight::Icmp).map_err(|why| Verdict::new(Code::Local, why)).into()
            }
            Plan::Stream(plan) => self.connect(key, plan, now),
            Plan::HalfOpen(plan, stream) => match self.half_opener.serves(check.target) {
                Ok(()) => self.half_opener.queue(key, plan, now).map(Flight::HalfOpen).into(),
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
    fn connect(&mut self, key: Key, plan: &mut stream::Plan, now: Nanos) -> Start<Flight> {
        if let Some(mut stream) = self.idle.take(key.slot) {
            if stream.restart(plan, now) {
                plan.begin(key.slot);
                return Start::Flying(Flight::Stream(stream));
            }
            self.connections -= 1;
        }
        if plan.has_handshake() && !self.may_shake_hands() {
            return Start::Later;
        }
        plan.begin(key.slot);
        self.open(key, plan).map(Flight::Stream).into()
    }

    /// Takes one step of a handshake out of this turn's.
    pub fn may_shake_hands(&mut self) -> bool {
        let left = self.handshakes.checked_sub(1);
        self.handshakes = left.unwrap_or_default();
        left.is_some()
    }

    /// Has a step of a handshake wait for another turn.
    pub fn put_off(&mut self, token: u64) {
        self.waiting.push_back(token);
    }

    /// The next handshake to go on with, while this turn may.
    pub fn next_handshake(&mut self) -> Option<u64> {
        if self.handshakes > 0 { self.waiting.pop_front() } else { None }
    }

    /// Whether steps of handshakes wait for the next turn.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Begins with a fresh connection, at the cost of an idle one if there is no room.
    fn open(&mut self, key: Key, plan: &stream::Plan) -> Result<Stream, Verdict> {
        if self.connections >= self.max_connections {
            if !self.idle.evict() {
                return Err(Verdict::new(Code::Local, "out of descriptors"));
            }
            self.connections -= 1;
        }
        let stream = Stream::start(plan, key.into())?;
        let added = self.epoll.add(stream.socket(), EpollEvent::new(Stream::EVENTS, key.into()));
        added.map_err(|errno| tcp::local(&errno.into()))?;
        self.connections += 1;
        Ok(stream)
    }

    /// Begins the same probe again with a fresh connection in the place of a stale one.
    ///
    /// # Errors
    /// The verdict, when there is one already.
    pub fn reopen(&mut self, key: Key, plan: &stream::Plan, stale: &mut Stream) -> Result<(), Verdict> {
        self.connections -= 1;
        let fresh = self.open(key, plan);
        if fresh.is_err() {
            self.connections += 1;
        }
        *stale = fresh?;
        Ok(())
    }

    /// A probe has its verdict: its connection waits for the next one, or is closed.
    pub fn keep_or_close(&mut self, slot: u32, plan: &stream::Plan, stream: Stream) {
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
    pub const fn excuse(&self, flight: &Flight, started: Nanos) -> Option<&'static str> {
        match flight {
            Flight::Icmp(_) => self.pings.excuse(started),
            Flight::HalfOpen(_) => self.segments.excuse(started),
            // Each has an event, all events of a turn are seen to, and the kernel asks for segments again.
            Flight::Stream(_) => None,
        }
    }

    /// Counts a probe that is over.
    pub fn closed(&mut self, flight: &Flight) {
        match flight {
            Flight::Icmp(_) => {}
            Flight::Stream(_) => self.connections -= 1,
            Flight::HalfOpen(number) => self.half_opener.forget(*number),
        }
    }
}
