//! The loop: one thread, one epoll, the sockets and the link. What is due and what came of it, [`Course`] decides.
//!
//! Each turn takes what has arrived, then gives up what is overdue, then starts what is due, and then tells the
//! controller. In that order, a probe whose answer has arrived is never given up, however late the turn.

mod control;
mod ear;
mod idle;
mod sockets;

use std::time::Duration;

use maglev_ipc::{Code, Stats};
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;

use crate::clock::{self, Nanos};
use crate::course::{Course, Key};
use crate::probe::half_open::{Answered, HalfOpener};
use crate::probe::icmp::{Claim, Heard, Junk, Ping, Pinger};
use crate::probe::stream;
use crate::probe::{Flight, Plan, Verdict, tcp, tls};
use crate::set::Limits;
use control::Control;
pub use control::Door;
use sockets::Sockets;

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
    /// Raw sockets of ICMP.
    pub pinger: Pinger,
    /// Raw sockets of TCP.
    pub half_opener: HalfOpener,
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
    course: Course<Plan, Flight>,
    sockets: Sockets,
    signals: SignalFd,
    configs: tls::Configs,
    control: Control,
    /// What packets counted; the course counts the rest.
    stats: Stats,
    heard: Vec<Result<Heard, Junk>>,
    answers: Vec<Result<Answered, Junk>>,
    scratch: Vec<u8>,
}

impl Engine {
    /// Gets everything ready; nothing is probed before a controller asks.
    ///
    /// # Errors
    /// The system refuses an epoll or a descriptor in it.
    pub fn new(setup: Setup) -> Result<Self, Errno> {
        let now = clock::now();
        let control = Control::new(&setup, now);
        let sockets = Sockets::new(setup.pinger, setup.half_opener, setup.max_connections)?;
        sockets.epoll.add(&setup.signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNAL))?;
        let mut engine = Self {
            course: Course::new(setup.seed, setup.limits.rate, now),
            control,
            sockets,
            signals: setup.signals,
            configs: setup.configs,
            stats: Stats::default(),
            heard: Vec::new(),
            answers: Vec::new(),
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
            let count = match self.sockets.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => 0,
                count => count?,
            };
            let now = clock::now();
            self.course.woken(wake, now);
            self.sockets.woken();
            self.shake_hands(now);
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
            wake = self.course.next(now).min(self.control.next(now));
            if self.sockets.is_behind() {
                wake = now;
            }
        }
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
            TCP_V4 => self.hear_segments(true),
            TCP_V6 => self.hear_segments(false),
            word => self.advance(Key::from(word), event.events(), now),
        }
        None
    }

    fn expire(&mut self, now: Nanos) {
        let sockets = &mut self.sockets;
        self.course.expire(now, |plan, flight, started| {
            sockets.closed(&flight);
            if let Some(why) = sockets.excuse(&flight, started) {
                return Verdict::new(Code::Local, why);
            }
            match (&flight, plan.stream()) {
                (Flight::Stream(stream), Some(plan)) => stream.time_out(plan),
                _ => Verdict::of(Code::L4Tout),
            }
        });
    }

    /// Starts what is due.
    fn launch(&mut self) {
        loop {
            let now = clock::now();
            if !self.course.launch(now, |key, check, plan| self.sockets.start(key, check, plan, now)) {
                break;
            }
            if self.sockets.pinger.is_full() {
                self.flush_pings();
                // The answers may be there already, and the socket's buffer holds a few hundred.
                self.hear(true);
                self.hear(false);
            }
            if self.sockets.half_opener.is_full() {
                self.flush_segments();
                self.hear_segments(true);
                self.hear_segments(false);
            }
        }
        self.flush_pings();
        self.flush_segments();
    }

    fn flush_pings(&mut self) {
        let (course, sockets) = (&mut self.course, &mut self.sockets);
        sockets.pinger.flush(|key, errno| {
            course.end(key, tcp::local(&errno.into()), clock::now());
        });
    }

    fn flush_segments(&mut self) {
        let mut unsent = Vec::new();
        self.sockets.half_opener.flush(|key, errno| unsent.push((key, errno)));
        for (key, errno) in unsent {
            if let Some((Plan::HalfOpen(plan, _), _)) = self.course.flight(key) {
                plan.forget_source();
            }
            if let Some(flight) = self.course.end(key, tcp::local(&errno.into()), clock::now()) {
                self.sockets.closed(&flight);
            }
        }
    }

    /// Hands what came of the probes to the controller.
    fn report(&mut self) {
        for told in self.course.told() {
            self.stats.outcomes += self.control.report(told);
        }
    }

    /// Goes on with the handshakes that wait.
    fn shake_hands(&mut self, now: Nanos) {
        while let Some(token) = self.sockets.next_handshake() {
            // What has happened on it, it knows.
            self.advance(Key::from(token), EpollFlags::empty(), now);
        }
    }

    /// Goes on with a connection, which is known by the name of the probe that opened it.
    fn advance(&mut self, opener: Key, events: EpollFlags, now: Nanos) {
        let token = u64::from(opener);
        let is_it = |flight: &Flight| matches!(flight, Flight::Stream(stream) if stream.token() == token);
        let Some(key) = self.course.find(opener.slot, is_it) else {
            return self.stir(opener.slot, token, events, now);
        };
        let Some((plan, Flight::Stream(stream))) = self.course.flight(key) else { return };
        let Some(plan) = plan.stream() else { return };
        if stream.is_handshaking(plan) && !self.sockets.may_shake_hands() {
            if stream.put_off(events) {
                self.sockets.put_off(token);
            }
            return;
        }
        let verdict = match stream.advance(plan, events, &mut self.scratch, now) {
            None => return,
            Some(stream::End::Verdict(verdict)) => verdict,
            Some(stream::End::Stale) => match self.sockets.reopen(key, plan, stream) {
                Ok(()) => {
                    self.stats.retried += 1;
                    return;
                }
                Err(verdict) => verdict,
            },
        };
        self.stats.resumed += u64::from(stream.has_resumed());
        if let Some(Flight::Stream(stream)) = self.course.end(key, verdict, now)
            && let Some(plan) = self.course.check(key.slot).and_then(|(_, plan)| plan.stream())
        {
            self.sockets.keep_or_close(key.slot, plan, stream);
        }
    }

    /// Something has happened on an idle connection.
    fn stir(&mut self, slot: u32, token: u64, events: EpollFlags, now: Nanos) {
        if let Some(stream) = self.sockets.idle.get_mut(slot, token)
            && let Some(plan) = self.course.check(slot).and_then(|(_, plan)| plan.stream())
            && !stream.idle(plan, events, &mut self.scratch, now)
        {
            self.sockets.close_idle(slot);
        }
    }

    /// Reads a family's ICMP, but not more of it at a time than leaves room for the rest of the turn.
    fn hear(&mut self, v4: bool) {
        let mut heard = std::mem::take(&mut self.heard);
        let mut more = true;
        for _ in 0..BATCHES {
            more = self.sockets.pinger.receive(v4, &mut heard);
            let now = clock::now();
            let lost = self.sockets.pinger.lost(v4);
            if lost > 0 {
                self.stats.overflowed += u64::from(lost);
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
    fn hear_segments(&mut self, v4: bool) {
        let mut answers = std::mem::take(&mut self.answers);
        let mut more = true;
        for _ in 0..BATCHES {
            more = self.sockets.half_opener.receive(v4, &mut answers);
            let now = clock::now();
            let lost = self.sockets.half_opener.lost(v4);
            if lost > 0 {
                self.stats.overflowed += u64::from(lost);
                self.sockets.segments.deafen(now);
            }
            for answer in answers.drain(..) {
                match answer {
                    Ok(Answered { key, verdict }) => _ = self.course.end(key, verdict, now),
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

    fn count(&mut self, junk: Junk) {
        let counter = match junk {
            Junk::Duplicate => &mut self.stats.duplicate,
            Junk::Stray => &mut self.stats.stray,
            Junk::Spoofed => &mut self.stats.spoofed,
            Junk::Malformed => &mut self.stats.malformed,
        };
        *counter += 1;
    }

    /// Holds what a packet says against the probe that it names.
    fn judge(&mut self, heard: &Heard, now: Nanos) -> Result<(), Junk> {
        let slot = match heard.claim {
            Claim::Proven(Key { slot, .. }, _) | Claim::Short(slot, _) => slot,
            Claim::Syn(syn, what) => {
                let Answered { key, verdict } =
                    self.sockets.half_opener.unreachable(syn, heard.about, what)?;
                self.course.end(key, verdict, now);
                return Ok(());
            }
        };
        let about = |ping: &Ping| heard.claim.is_about(*ping);
        let key = self.course.find(slot, |flight| matches!(flight, Flight::Icmp(ping) if about(ping)));
        let Some((check, Plan::Icmp { answered })) = self.course.check(slot) else { return Err(Junk::Stray) };
        if key.is_none() && !answered.as_ref().is_some_and(about) {
            return Err(Junk::Stray);
        }
        if check.target != heard.about {
            return Err(Junk::Spoofed);
        }
        let key = key.ok_or(Junk::Duplicate)?;
        let verdict = heard.error.map_or(Verdict::of(Code::L7Ok), |what| Verdict::new(Code::L4Con, what));
        let flight = self.course.end(key, verdict, now);
        if let (Some(Flight::Icmp(ping)), Some((_, Plan::Icmp { answered }))) =
            (flight, self.course.check(slot))
        {
            *answered = Some(ping);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
