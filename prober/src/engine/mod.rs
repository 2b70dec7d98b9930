//! The loop: one thread, one epoll, one probe in flight per check.
//!
//! Each turn takes what has arrived, then gives up what is overdue, then starts what is due, and then tells the
//! controller. In that order, a probe whose answer has arrived is never given up, however late the turn.

mod control;

use std::collections::VecDeque;
use std::time::Duration;

use maglev_ipc::{Code, Outcome, Stats};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;

use crate::clock::{self, Nanos, nanos};
use crate::probe::icmp::{Claim, Heard, Junk, Pinger};
use crate::probe::stream::Stream;
use crate::probe::{Flight, Plan, Verdict, tcp, tls};
use crate::schedule::{Pace, Rate, Wheel};
use crate::set::Limits;
use crate::table::{Key, Table};
use control::Control;
pub use control::Door;

/// Events that one turn takes from the kernel at once.
const EVENTS: usize = 1024;
/// Batches of ICMP that one turn takes at once.
const BATCHES: usize = 16;
/// What one read takes from a connection at most, in bytes.
const SCRATCH: usize = 16 * 1024;
/// A turn that begins so much late shows that this host had stopped us. What timed out meanwhile may have been
/// answered in a buffer that overflowed, so it is no verdict; and what fell due meanwhile is spread anew.
const STALL: Nanos = 250_000_000;
/// How long a probe that was put off by the rate waits for the next turn.
const RATE_WAIT: Nanos = 1_000_000;

/// What the events of epoll belong to; all that is no slot.
const LISTENER: u64 = u64::MAX;
const LINK: u64 = u64::MAX - 1;
const SIGNAL: u64 = u64::MAX - 2;
const ICMP_V4: u64 = u64::MAX - 3;
const ICMP_V6: u64 = u64::MAX - 4;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// A signal asked for it.
    Signal,
    /// No controller for as long as `--orphan-timeout`.
    Orphaned,
    /// The controller that started this prober is gone.
    Abandoned,
}

/// What the loop is started with.
#[derive(Debug)]
pub struct Setup {
    /// How controllers come in.
    pub door: Door,
    /// Raw sockets.
    pub pinger: Pinger,
    /// TLS configurations.
    pub configs: tls::Configs,
    /// Signals that end the loop.
    pub signals: SignalFd,
    /// What the controller may ask for at most.
    pub limits: Limits,
    /// How many connections may be open at a time.
    pub max_connections: u64,
    /// How long to go on without a controller.
    pub orphan_timeout: Duration,
    /// systemd's watchdog, if there is one.
    pub watchdog: Option<Duration>,
    /// Draws the jitter, and names this prober.
    pub seed: u64,
}

/// All there is.
#[derive(Debug)]
pub struct Engine {
    epoll: Epoll,
    signals: SignalFd,
    pinger: Pinger,
    configs: tls::Configs,
    control: Control,
    table: Table,
    wheel: Wheel,
    pace: Pace,
    rate: Rate,
    /// Checks that are due, in the order in which they fell due.
    ready: VecDeque<Key>,
    /// Connections that are open.
    connections: u64,
    /// How many may be.
    max_connections: u64,
    /// When the last stall ended.
    stalled: Nanos,
    stats: Stats,
    expired: Vec<u32>,
    heard: Vec<Result<Heard, Junk>>,
    scratch: Vec<u8>,
}

impl Engine {
    /// Gets everything ready; nothing is probed before a controller asks.
    ///
    /// # Errors
    /// The system refuses an epoll or a descriptor in it.
    pub fn new(setup: Setup) -> Result<Self, Errno> {
        let now = clock::now();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&setup.signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNAL))?;
        for (socket, token) in setup.pinger.sockets().into_iter().zip([ICMP_V4, ICMP_V6]) {
            if let Ok(socket) = socket {
                epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
            }
        }
        let mut engine = Self {
            epoll,
            control: Control::new(&setup, now),
            signals: setup.signals,
            pinger: setup.pinger,
            configs: setup.configs,
            table: Table::default(),
            wheel: Wheel::new(now),
            pace: Pace::new(setup.seed),
            rate: Rate::new(setup.limits.rate, now),
            ready: VecDeque::new(),
            connections: 0,
            max_connections: setup.max_connections,
            stalled: 0,
            stats: Stats::default(),
            expired: Vec::new(),
            heard: Vec::new(),
            scratch: vec![0; SCRATCH],
        };
        engine.open_door(setup.door, now)?;
        Ok(engine)
    }

    /// Probes until there is a reason to end.
    ///
    /// # Errors
    /// epoll fails, which leaves nothing to go on with.
    pub fn run(&mut self) -> Result<End, Errno> {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        let mut wake = clock::now();
        loop {
            let wait = wake.saturating_sub(clock::now()).div_ceil(1_000_000);
            let timeout = EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX);
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => 0,
                count => count?,
            };
            let now = clock::now();
            if now.saturating_sub(wake) > STALL {
                self.stalled = now;
            }
            for event in &events[..count] {
                if let Some(end) = self.dispatch(*event, now) {
                    return Ok(end);
                }
            }
            if count == EVENTS {
                // There may be answers among what is still waiting to be taken.
                continue;
            }
            let due = self.expire(now);
            self.launch_ready(now);
            self.stats.rate += due.min(self.ready.len()) as u64;
            if let Some(end) = self.tend(now) {
                return Ok(end);
            }
            wake = self.next_turn(now);
        }
    }

    fn next_turn(&self, now: Nanos) -> Nanos {
        let launch = if self.ready.is_empty() { Nanos::MAX } else { now + RATE_WAIT };
        self.wheel.next().unwrap_or(Nanos::MAX).min(launch).min(self.control.next(now))
    }

    fn dispatch(&mut self, event: EpollEvent, now: Nanos) -> Option<End> {
        match event.data() {
            LISTENER => self.accept(now),
            LINK => self.control.awaken(),
            SIGNAL => {
                // Whatever the signal is, only those that end us are let through.
                let signal = self.signals.read_signal().ok().flatten();
                return signal.map(|_| End::Signal);
            }
            ICMP_V4 => self.hear(true),
            ICMP_V6 => self.hear(false),
            word => self.advance(Key::from(word), event.events(), now),
        }
        None
    }

    /// Gives up probes that are overdue, and collects checks that are due. Returns how many fell due.
    fn expire(&mut self, now: Nanos) -> usize {
        let before = self.ready.len();
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(now, &mut expired);
        for slot in expired.drain(..) {
            let Some(held) = self.table.held_mut(slot) else { continue };
            match &held.flight {
                None if now.saturating_sub(held.due) > STALL => {
                    held.due = self.pace.first(now, held.interval);
                    self.wheel.set(slot, held.due);
                    self.stats.stalled += 1;
                }
                None => {
                    held.ready = true;
                    self.ready.push_back(self.table.key(slot));
                }
                Some(_) if held.started <= self.stalled => {
                    self.end(slot, now, Verdict::new(Code::Local, "this host had stopped the prober"));
                }
                Some(flight) => {
                    let verdict = match (flight, &held.plan) {
                        (Flight::Stream(stream), Plan::Stream(plan)) => stream.time_out(plan),
                        _ => Verdict::of(Code::L4Tout),
                    };
                    self.end(slot, now, verdict);
                }
            }
        }
        self.expired = expired;
        self.ready.len() - before
    }

    /// Starts as many of the checks that are due as the rate allows.
    fn launch_ready(&mut self, now: Nanos) {
        self.rate.refill(now);
        while let Some(key) = self.ready.front().copied() {
            let is_due = self.table.is_current(key);
            if is_due && !self.rate.take() {
                break;
            }
            self.ready.pop_front();
            if is_due {
                self.launch(key);
            }
        }
        self.flush_pings();
    }

    fn launch(&mut self, key: Key) {
        let now = clock::now();
        let Some(held) = self.table.held_mut(key.slot) else { return };
        held.ready = false;
        held.seq += 1;
        held.started = now;
        self.stats.lateness.count(now.saturating_sub(held.due));
        // Lateness within the jitter is caught up, so that the mean interval holds; more than that is forgotten.
        held.slated = held.due.max(now.saturating_sub(nanos(held.interval) / 10));
        held.due = self.pace.next(held.slated, held.interval);
        let deadline = now + nanos(held.check.timeout);
        self.stats.probes += 1;
        let started = match &held.plan {
            Plan::Icmp => match self.pinger.queue(key, held.check.target, held.check.source) {
                Ok(ping) => Ok(Flight::Icmp(ping)),
                Err(why) => Err(Verdict::new(Code::Local, why)),
            },
            Plan::Stream(_) if self.connections >= self.max_connections => {
                Err(Verdict::new(Code::Local, "out of descriptors"))
            }
            Plan::Stream(plan) => Stream::start(plan).and_then(|stream| {
                let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
                let added = self.epoll.add(stream.socket(), EpollEvent::new(events, key.into()));
                added.map_err(|errno| tcp::local(&errno.into()))?;
                self.connections += 1;
                Ok(Flight::Stream(stream))
            }),
        };
        match started {
            Ok(flight) => {
                held.flight = Some(flight);
                self.wheel.set(key.slot, deadline);
            }
            Err(verdict) => self.end(key.slot, now, verdict),
        }
        if self.pinger.is_full() {
            self.flush_pings();
            // The answers may be there already, and the socket's buffer holds a few hundred.
            self.hear(true);
            self.hear(false);
        }
    }

    fn flush_pings(&mut self) {
        let mut failed = Vec::new();
        self.pinger.flush(|key, errno| failed.push((key, errno)));
        for (key, errno) in failed {
            self.end(key.slot, clock::now(), tcp::local(&errno.into()));
        }
    }

    /// Goes on with a connection.
    fn advance(&mut self, key: Key, events: EpollFlags, now: Nanos) {
        if !self.table.is_current(key) {
            return;
        }
        let Some(held) = self.table.held_mut(key.slot) else { return };
        if let (Some(Flight::Stream(stream)), Plan::Stream(plan)) = (&mut held.flight, &held.plan)
            && let Some(verdict) = stream.advance(plan, events, &mut self.scratch)
        {
            self.end(key.slot, now, verdict);
        }
    }

    /// Reads a family's ICMP, but not more of it at a time than leaves room for the rest of the turn.
    fn hear(&mut self, v4: bool) {
        let mut heard = std::mem::take(&mut self.heard);
        for _ in 0..BATCHES {
            let more = self.pinger.receive(v4, &mut heard);
            let now = clock::now();
            for packet in heard.drain(..) {
                let counter = match packet.and_then(|heard| self.judge(&heard, now)) {
                    Ok(()) => continue,
                    Err(Junk::Duplicate) => &mut self.stats.duplicate,
                    Err(Junk::Stray) => &mut self.stats.stray,
                    Err(Junk::Spoofed) => &mut self.stats.spoofed,
                    Err(Junk::Malformed) => &mut self.stats.malformed,
                };
                *counter += 1;
            }
            if !more {
                break;
            }
        }
        self.heard = heard;
    }

    /// Holds what a packet says against the probe that it names.
    fn judge(&mut self, heard: &Heard, now: Nanos) -> Result<(), Junk> {
        let slot = match heard.claim {
            Claim::Proven(key, _) if !self.table.is_current(key) => return Err(Junk::Stray),
            Claim::Proven(Key { slot, .. }, _) | Claim::Short(slot, _) => slot,
        };
        let held = self.table.held_mut(slot).ok_or(Junk::Stray)?;
        if held.check.target != heard.about {
            return Err(Junk::Spoofed);
        }
        match held.flight {
            Some(Flight::Icmp(ping)) if heard.claim.is_about(ping) => held.answered = Some(ping),
            _ if held.answered.is_some_and(|ping| heard.claim.is_about(ping)) => return Err(Junk::Duplicate),
            _ => return Err(Junk::Stray),
        }
        let verdict = heard.error.map_or(Verdict::of(Code::L7Ok), |what| Verdict::new(Code::L4Con, what));
        self.end(slot, now, verdict);
        Ok(())
    }

    /// Ends the probe in flight, and sets the next.
    fn end(&mut self, slot: u32, now: Nanos, Verdict { code, detail }: Verdict) {
        let Some(held) = self.table.held_mut(slot) else { return };
        if let Some(Flight::Stream(_)) = held.flight.take() {
            self.connections -= 1;
        }
        let (check, seq, started) = (held.id, held.seq, held.started);
        let duration = Duration::from_nanos(now.saturating_sub(started));
        let outcome = Outcome { check, seq, started, duration, code, detail };
        held.history.record(&outcome);
        // One probe at a time: what outlived its interval is followed at once.
        held.due = held.due.max(now);
        self.wheel.set(slot, held.due);
        self.stats.outcomes += self.control.report(outcome);
    }
}

#[cfg(test)]
mod tests;
