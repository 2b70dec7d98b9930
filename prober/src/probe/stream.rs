//! A probe over TCP, from the first segment to the verdict: connection, TLS if asked, HTTP if asked.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};

use maglev_ipc::{Check, Code, Detail, Http, Mode, Probe, Refusal, Tls};
use nix::sys::epoll::EpollFlags;
use rustls::{ClientConnection, HandshakeKind};
use socket2::Socket;

use super::http::{Answer, Request, Rest};
use super::{Verdict, tcp, tls};
use crate::clock::Nanos;

/// How much one probe reads at most, in bytes: the most that an answer may need, and as much again for TLS. Else
/// a server that never stops could keep the prober busy until the time-out.
const MAX_READ: usize = 512 * 1024;
/// The events after which a connection has an end.
const CLOSING: EpollFlags = EpollFlags::EPOLLRDHUP.union(EpollFlags::EPOLLHUP).union(EpollFlags::EPOLLERR);
/// The status with which a server may end a connection that was idle (RFC 9110 section 15.5.9).
const REQUEST_TIMEOUT: u16 = 408;

/// What a check asks for.
#[derive(Debug)]
pub struct Plan {
    to: SocketAddr,
    from: Option<IpAddr>,
    /// Whether the server's program is to see the connection even if nothing is said over it.
    acknowledge: bool,
    tls: Option<tls::Plan>,
    request: Option<Request>,
    /// For a check that keeps its connections.
    turns: Option<Turns>,
}

/// Which probes of a check that keeps its connections begin with a fresh one all the same.
#[derive(Debug)]
struct Turns {
    every: NonZeroU32,
    /// How many probes may begin before the next that does; unknown before the first probe.
    left: Option<u32>,
}

impl Plan {
    /// Works out everything ahead of the first probe.
    ///
    /// # Errors
    /// The check cannot be probed.
    pub fn compile(check: &Check, configs: &mut tls::Configs) -> Result<Self, Refusal> {
        let (port, tls, http): (u16, Option<&Tls>, Option<&Http>) = match &check.probe {
            Probe::Icmp => (0, None, None),
            Probe::Tcp { port, tls, .. } => (*port, tls.as_ref(), None),
            Probe::Http { port, http, tls } => (*port, tls.as_ref(), Some(http)),
        };
        Ok(Self {
            to: SocketAddr::new(check.target, port),
            from: check.source,
            acknowledge: matches!(check.probe, Probe::Tcp { mode: Mode::Full, tls: None, .. }),
            turns: http.and_then(|http| http.keep_alive).map(|every| Turns { every, left: None }),
            tls: tls.map(|tls| configs.plan(tls, http)).transpose()?,
            request: http.map(Request::compile).transpose()?,
        })
    }
}

impl Plan {
    /// A probe begins, of the check in that slot.
    pub fn begin(&mut self, slot: u32) {
        let Some(Turns { every, left }) = &mut self.turns else { return };
        // Each slot has its own turn, so that not all connections of many checks are fresh at once.
        let before = left.unwrap_or(every.get() - slot % every.get());
        *left = Some(before.checked_sub(1).unwrap_or(every.get() - 1));
    }

    /// Whether the next probe may use the connection of this one.
    pub fn keeps(&self) -> bool {
        self.turns.as_ref().is_some_and(|turns| turns.left != Some(0))
    }

    /// Where it connects to, and from which address.
    pub const fn ends(&self) -> (SocketAddr, Option<IpAddr>) {
        (self.to, self.from)
    }

    /// Whether a fresh connection begins with a handshake, which costs more than all else.
    pub const fn has_handshake(&self) -> bool {
        self.tls.is_some()
    }

    /// The verdict on an error that came before anything could be said.
    fn connection_ended(&self, error: &io::Error) -> Verdict {
        // A reset that answers a SYN is reported as a refusal, so this one ended a connection that had been made.
        if error.kind() != ErrorKind::ConnectionReset {
            return tcp::remote(error);
        }
        match (&self.tls, &self.request) {
            (Some(_), _) => failed(Code::L6Rsp, error),
            (None, Some(_)) => failed(Code::L7Rsp, error),
            (None, None) => Verdict::of(Code::L4Ok),
        }
    }
}

/// A connection that is being probed, or kept until it will be.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// What its events are known by.
    token: u64,
    /// `None` while connecting.
    talk: Option<Box<Talk>>,
    /// An earlier probe has begun it.
    kept: bool,
    /// What has happened that this host has not had the time to look at.
    put_off: EpollFlags,
}

/// What is said over the connection.
#[derive(Debug, Default)]
struct Talk {
    tls: Option<Box<ClientConnection>>,
    sent: usize,
    read: usize,
    answer: Answer,
    /// Until when the certificate is valid that was shown in this probe.
    not_after: Option<u64>,
}

/// How a probe ends.
#[derive(Debug)]
pub enum End {
    /// With a verdict.
    Verdict(Verdict),
    /// The server had closed a kept connection before it knew of this probe, which says nothing of the server (RFC 9112
    /// section 9.3.1). The probe is to be begun again on a fresh one.
    Stale,
}

impl Stream {
    /// What is to be waited for.
    pub const EVENTS: EpollFlags = EpollFlags::EPOLLIN
        .union(EpollFlags::EPOLLOUT)
        .union(EpollFlags::EPOLLRDHUP)
        .union(EpollFlags::EPOLLET);

    /// Begins a probe on a fresh connection, whose events are to be known by `token`.
    ///
    /// # Errors
    /// The verdict, when there is one already.
    pub fn start(plan: &Plan, token: u64) -> Result<Self, Verdict> {
        let socket = tcp::connect(plan.to, plan.from, plan.acknowledge)?;
        Ok(Self { socket, token, talk: None, kept: false, put_off: EpollFlags::empty() })
    }

    /// Begins another probe on a kept connection. Returns whether it could be.
    pub fn restart(&mut self, plan: &Plan, now: Nanos) -> bool {
        let Some(talk) = self.talk.as_mut().filter(|talk| talk.answer.rest() == Rest::Whole) else {
            return false;
        };
        self.kept = true;
        (talk.sent, talk.read, talk.answer, talk.not_after) = (0, 0, Answer::default(), None);
        self.advance(plan, EpollFlags::EPOLLOUT, &mut [], now).is_none()
    }

    /// What its events are known by, through all probes that use it.
    pub const fn token(&self) -> u64 {
        self.token
    }

    /// The socket to wait for.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Goes as far as the socket allows. `events` are edges, so it goes on until the socket would block.
    pub fn advance(
        &mut self,
        plan: &Plan,
        events: EpollFlags,
        scratch: &mut [u8],
        now: Nanos,
    ) -> Option<End> {
        let events = events | std::mem::replace(&mut self.put_off, EpollFlags::empty());
        if self.talk.is_none() {
            if events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP)
                && let Ok(Some(error)) = self.socket.take_error()
            {
                return Some(End::Verdict(plan.connection_ended(&error)));
            }
            if !events.contains(EpollFlags::EPOLLOUT) {
                return None;
            }
            if plan.tls.is_none() && plan.request.is_none() {
                return Some(End::Verdict(Verdict::of(Code::L4Ok)));
            }
            match Talk::new(plan, now) {
                Ok(talk) => self.talk = Some(Box::new(talk)),
                Err(error) => return Some(End::Verdict(Verdict::new(Code::Local, error.to_string()))),
            }
        }
        let talk = self.talk.as_mut()?;
        let mut verdict = talk.advance(plan, &self.socket, events, scratch, now)?;
        verdict.not_after = verdict.not_after.or(talk.not_after);
        verdict.is_short = self.kept || talk.has_resumed();
        // Some servers announce that they close an idle connection by an answer that nobody asked for.
        let is_stale = !talk.answer.has_begun() || verdict.detail == Detail::Status(REQUEST_TIMEOUT);
        let is_pass = verdict.code.passed() == Some(true);
        Some(if self.kept && is_stale && !is_pass { End::Stale } else { End::Verdict(verdict) })
    }

    /// Whether the next step is one of a TLS handshake.
    pub fn is_handshaking(&self, plan: &Plan) -> bool {
        match &self.talk {
            None => plan.has_handshake(),
            Some(talk) => talk.is_handshaking(),
        }
    }

    /// Whether this probe has made its connection, and resumed a TLS session on it.
    pub fn has_resumed(&self) -> bool {
        !self.kept && self.talk.as_ref().is_some_and(|talk| talk.has_resumed())
    }

    /// The next step has to wait. Returns whether none did already.
    pub fn put_off(&mut self, events: EpollFlags) -> bool {
        let is_first = self.put_off.is_empty();
        self.put_off |= events;
        is_first
    }

    /// Whether the connection is good for another probe, as far as is known, now that this one has its verdict.
    pub fn is_good(&self) -> bool {
        self.talk.as_ref().is_some_and(|talk| talk.answer.is_judged() && talk.answer.rest() != Rest::Lost)
    }

    /// Something has happened on a kept connection. Returns whether it is still good.
    pub fn idle(&mut self, plan: &Plan, events: EpollFlags, scratch: &mut [u8], now: Nanos) -> bool {
        let Some(talk) = &mut self.talk else { return false };
        !events.intersects(CLOSING)
            && talk.advance(plan, &self.socket, events, scratch, now).is_none()
            && talk.answer.rest() != Rest::Lost
    }

    /// The verdict when the time is up.
    pub fn time_out(&self, plan: &Plan) -> Verdict {
        match &self.talk {
            _ if !self.put_off.is_empty() => {
                Verdict::new(Code::Local, "more TLS handshakes than this host has time for")
            }
            None => Verdict::of(Code::L4Tout),
            Some(talk) if talk.is_handshaking() => Verdict::of(Code::L6Tout),
            Some(talk) => talk.time_out(plan),
        }
    }
}

impl Talk {
    fn new(plan: &Plan, now: Nanos) -> io::Result<Self> {
        let mut talk = Self::default();
        let Some(tls) = &plan.tls else { return Ok(talk) };
        let mut tls = tls.begin(now).map_err(io::Error::other)?;
        // What is said before the end of the handshake goes out with its last segment. On its own, the kernel would hold it
        // back until that one is acknowledged, which a server may take 40 ms for.
        if let Some(request) = &plan.request {
            talk.sent = tls.writer().write(&request.bytes)?;
        }
        talk.tls = Some(tls);
        Ok(talk)
    }

    fn has_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    fn advance(
        &mut self,
        plan: &Plan,
        socket: &Socket,
        events: EpollFlags,
        scratch: &mut [u8],
        now: Nanos,
    ) -> Option<Verdict> {
        let mut socket = Counted {
            socket,
            read: &mut self.read,
            ends: events.intersects(CLOSING),
            // What is not there yet will come with an edge of its own.
            drained: !events.intersects(CLOSING | EpollFlags::EPOLLIN),
        };
        if let (Some(tls), Some(plan)) = (&mut self.tls, &plan.tls)
            && tls.is_handshaking()
        {
            while tls.is_handshaking() {
                if let Err(error) = tls.complete_io(&mut socket) {
                    return handshake_failed(&error);
                }
            }
            self.not_after = plan.completed(tls, now);
        }
        let Some(request) = &plan.request else { return Some(Verdict::of(Code::L6Ok)) };
        let result = match &mut self.tls {
            Some(tls) => {
                let mut stream = rustls::Stream::new(&mut **tls, &mut socket);
                exchange(request, &mut self.sent, &mut self.answer, &mut stream, scratch)
            }
            None => exchange(request, &mut self.sent, &mut self.answer, &mut socket, scratch),
        };
        match result {
            Ok(verdict) => verdict,
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => Some(failed(Code::L7Rsp, &error)),
        }
    }

    fn time_out(&self, plan: &Plan) -> Verdict {
        let length = plan.request.as_ref().map_or(0, |request| request.bytes.len());
        let is_taken = self.sent == length && !self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        let detail = if is_taken { self.answer.waiting_for() } else { "the request is not taken" };
        Verdict { not_after: self.not_after, ..Verdict::new(Code::L7Tout, detail) }
    }
}

/// Sends the request and reads the answer until the stream would block, or until nothing more is to be learnt from it.
/// Returns the verdict in the call in which it becomes certain.
fn exchange(
    request: &Request,
    sent: &mut usize,
    answer: &mut Answer,
    stream: &mut (impl Read + Write),
    scratch: &mut [u8],
) -> io::Result<Option<Verdict>> {
    if *sent < request.bytes.len() {
        while *sent < request.bytes.len() {
            *sent += uninterrupted(|| stream.write(&request.bytes[*sent..]))?;
        }
        stream.flush()?;
    }
    let mut verdict = None;
    loop {
        let length = match uninterrupted(|| stream.read(scratch)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(verdict),
            // A server that does not close its TLS session in due form has closed all the same.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            // What happens after the verdict does not change it.
            Err(_) if answer.is_judged() => 0,
            other => other?,
        };
        if length == 0 {
            return Ok(verdict.or(answer.finish(request)));
        }
        verdict = verdict.or(answer.feed(request, &scratch[..length]));
        if answer.is_judged() && answer.rest() == Rest::Lost {
            return Ok(verdict);
        }
    }
}

fn uninterrupted(mut operation: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match operation() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// What a handshake that does not go on comes to, if it is over.
fn handshake_failed(error: &io::Error) -> Option<Verdict> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => None,
        ErrorKind::UnexpectedEof => Some(Verdict::new(Code::L6Rsp, "connection closed during the handshake")),
        _ => Some(failed(Code::L6Rsp, error)),
    }
}

fn failed(code: Code, error: &io::Error) -> Verdict {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (tls, error.raw_os_error()) {
        (Some(fault), _) => {
            Verdict { not_after: tls::expired(fault), ..Verdict::new(code, tls::words(fault)) }
        }
        (None, Some(_)) => match tcp::remote(error) {
            verdict if verdict.code == Code::Local => verdict,
            _ => Verdict::new(code, tcp::words(error)),
        },
        (None, None) => Verdict::new(code, error.to_string()),
    }
}

/// A socket that gives no more than [`MAX_READ`] bytes, and is not asked in vain.
struct Counted<'a> {
    socket: &'a Socket,
    read: &'a mut usize,
    /// There is an end or an error to be read after the last byte.
    ends: bool,
    /// There is nothing more to read before the next edge.
    drained: bool,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.drained {
            return Err(ErrorKind::WouldBlock.into());
        }
        if *self.read >= MAX_READ {
            return Err(io::Error::other("the server sends without end"));
        }
        let length = self.socket.read(into)?;
        // What comes after this read has an edge of its own.
        self.drained = length < into.len() && !self.ends;
        *self.read += length;
        Ok(length)
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
