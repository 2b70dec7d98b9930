//! A probe over TCP, from the first segment to the verdict: connection, TLS if asked, HTTP if asked.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};

use maglev_ipc::{
    Check, ConnectMode, HttpCheck, OutcomeCode, OutcomeDetail, ProbeKind, RejectReason, TlsHandshake,
};
use nix::sys::epoll::EpollFlags;
use rustls::{ClientConnection, HandshakeKind};
use socket2::Socket;

use super::http::{HttpRequest, HttpResponse, Reuse};
use super::{tcp, tls};
use crate::clock::Nanos;
use crate::verdict::Verdict;

/// How much one probe reads at most, in bytes: the most that an answer may need, and as much again for TLS. Else
/// a server that never stops could keep the prober busy until the time-out.
const MAX_READ: usize = 512 * 1024;
/// The events after which a connection has an end.
const CLOSING: EpollFlags = EpollFlags::EPOLLRDHUP.union(EpollFlags::EPOLLHUP).union(EpollFlags::EPOLLERR);
/// The status with which a server may end a connection that was idle (RFC 9110 section 15.5.9).
const REQUEST_TIMEOUT: u16 = 408;

/// What a check asks for.
#[derive(Debug)]
pub struct StreamPlan {
    to: SocketAddr,
    from: Option<IpAddr>,
    /// Whether the server's program is to see the connection even if nothing is said over it.
    acknowledge: bool,
    tls: Option<tls::TlsPlan>,
    request: Option<HttpRequest>,
    /// For a check that keeps its connections.
    turns: Option<ReconnectCountdown>,
}

/// Which probes of a check that keeps its connections begin with a fresh one all the same.
#[derive(Debug)]
struct ReconnectCountdown {
    every: NonZeroU32,
    /// How many probes may begin before the next that does; unknown before the first probe.
    left: Option<u32>,
}

impl StreamPlan {
    /// Works out everything ahead of the first probe.
    ///
    /// # Errors
    /// The check cannot be probed.
    pub fn compile(check: &Check, configs: &mut tls::TlsConfigs) -> Result<Self, RejectReason> {
        let (port, tls, http): (u16, Option<&TlsHandshake>, Option<&HttpCheck>) = match &check.probe {
            ProbeKind::Icmp => (0, None, None),
            ProbeKind::Tcp { port, tls, .. } => (*port, tls.as_ref(), None),
            ProbeKind::Http { port, http, tls } => (*port, tls.as_ref(), Some(http)),
        };
        Ok(Self {
            to: SocketAddr::new(check.target, port),
            from: check.source,
            acknowledge: matches!(check.probe, ProbeKind::Tcp { mode: ConnectMode::Full, tls: None, .. }),
            turns: http
                .and_then(|http| http.keep_alive)
                .map(|every| ReconnectCountdown { every, left: None }),
            tls: tls.map(|tls| configs.plan(tls, http)).transpose()?,
            request: http.map(HttpRequest::compile).transpose()?,
        })
    }
}

impl StreamPlan {
    /// A probe begins, of the check in that slot.
    pub fn begin(&mut self, slot: u32) {
        let Some(ReconnectCountdown { every, left }) = &mut self.turns else { return };
        // Each slot has its own turn, so that not all connections of many checks are fresh at once.
        let before = left.unwrap_or(every.get() - slot % every.get());
        *left = Some(before.checked_sub(1).unwrap_or(every.get() - 1));
    }

    /// Whether the next probe may use the connection of this one.
    pub fn keeps(&self) -> bool {
        self.turns.as_ref().is_some_and(|turns| turns.left != Some(0))
    }

    /// Where it connects to, and from which address.
    pub const fn addresses(&self) -> (SocketAddr, Option<IpAddr>) {
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
            (Some(_), _) => failed(OutcomeCode::L6Rsp, error),
            (None, Some(_)) => failed(OutcomeCode::L7Rsp, error),
            (None, None) => Verdict::from_code(OutcomeCode::L4Ok),
        }
    }
}

/// A connection that is being probed, or kept until it will be.
#[derive(Debug)]
pub struct ProbeStream {
    socket: Socket,
    /// What its events are known by.
    token: u64,
    /// `None` while connecting.
    exchange: Option<Box<Exchange>>,
    /// An earlier probe has begun it.
    kept: bool,
    /// What has happened that this host has not had the time to look at.
    deferred_events: EpollFlags,
}

/// What is said over the connection.
#[derive(Debug, Default)]
struct Exchange {
    tls: Option<Box<ClientConnection>>,
    sent: usize,
    read: usize,
    answer: HttpResponse,
    /// Until when the certificate is valid that was shown in this probe.
    not_after: Option<u64>,
}

/// How a probe ends.
#[derive(Debug)]
pub enum StreamEnd {
    /// With a verdict.
    Verdict(Verdict),
    /// The server had closed a kept connection before it knew of this probe, which says nothing of the server (RFC 9112
    /// section 9.3.1). The probe is to be begun again on a fresh one.
    Stale,
}

impl ProbeStream {
    /// What is to be waited for.
    pub const EVENTS: EpollFlags = EpollFlags::EPOLLIN
        .union(EpollFlags::EPOLLOUT)
        .union(EpollFlags::EPOLLRDHUP)
        .union(EpollFlags::EPOLLET);

    /// Begins a probe on a fresh connection, whose events are to be known by `token`.
    ///
    /// # Errors
    /// The verdict, when there is one already.
    pub fn start(plan: &StreamPlan, token: u64) -> Result<Self, Verdict> {
        let socket = tcp::connect(plan.to, plan.from, plan.acknowledge)?;
        Ok(Self { socket, token, exchange: None, kept: false, deferred_events: EpollFlags::empty() })
    }

    /// Begins another probe on a kept connection. Returns whether it could be.
    pub fn restart(&mut self, plan: &StreamPlan, now: Nanos) -> bool {
        let Some(exchange) =
            self.exchange.as_mut().filter(|exchange| exchange.answer.reuse() == Reuse::Ready)
        else {
            return false;
        };
        self.kept = true;
        (exchange.sent, exchange.read, exchange.answer, exchange.not_after) =
            (0, 0, HttpResponse::default(), None);
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
        plan: &StreamPlan,
        events: EpollFlags,
        scratch: &mut [u8],
        now: Nanos,
    ) -> Option<StreamEnd> {
        let events = events | std::mem::replace(&mut self.deferred_events, EpollFlags::empty());
        if self.exchange.is_none() {
            if events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP)
                && let Ok(Some(error)) = self.socket.take_error()
            {
                return Some(StreamEnd::Verdict(plan.connection_ended(&error)));
            }
            if !events.contains(EpollFlags::EPOLLOUT) {
                return None;
            }
            if plan.tls.is_none() && plan.request.is_none() {
                return Some(StreamEnd::Verdict(Verdict::from_code(OutcomeCode::L4Ok)));
            }
            match Exchange::new(plan, now) {
                Ok(exchange) => self.exchange = Some(Box::new(exchange)),
                Err(error) => {
                    return Some(StreamEnd::Verdict(Verdict::new(OutcomeCode::Local, error.to_string())));
                }
            }
        }
        let exchange = self.exchange.as_mut()?;
        let mut verdict = exchange.advance(plan, &self.socket, events, scratch, now)?;
        verdict.not_after = verdict.not_after.or(exchange.not_after);
        verdict.is_short = self.kept || exchange.has_resumed();
        // Some servers announce that they close an idle connection by an answer that nobody asked for.
        let is_stale =
            !exchange.answer.has_begun() || verdict.detail == OutcomeDetail::Status(REQUEST_TIMEOUT);
        let is_pass = verdict.code.passed() == Some(true);
        Some(if self.kept && is_stale && !is_pass { StreamEnd::Stale } else { StreamEnd::Verdict(verdict) })
    }

    /// Whether the next step is one of a TLS handshake.
    pub fn is_handshaking(&self, plan: &StreamPlan) -> bool {
        match &self.exchange {
            None => plan.has_handshake(),
            Some(exchange) => exchange.is_handshaking(),
        }
    }

    /// Whether this probe has made its connection, and resumed a TLS session on it.
    pub fn has_resumed(&self) -> bool {
        !self.kept && self.exchange.as_ref().is_some_and(|exchange| exchange.has_resumed())
    }

    /// The next step has to wait. Returns whether none did already.
    pub fn defer_handshake(&mut self, events: EpollFlags) -> bool {
        let is_first = self.deferred_events.is_empty();
        self.deferred_events |= events;
        is_first
    }

    /// Whether the connection is good for another probe, as far as is known, now that this one has its verdict.
    pub fn is_good(&self) -> bool {
        self.exchange
            .as_ref()
            .is_some_and(|exchange| exchange.answer.is_judged() && exchange.answer.reuse() != Reuse::No)
    }

    /// Something has happened on a kept connection. Returns whether it is still good.
    pub fn idle(&mut self, plan: &StreamPlan, events: EpollFlags, scratch: &mut [u8], now: Nanos) -> bool {
        let Some(exchange) = &mut self.exchange else { return false };
        !events.intersects(CLOSING)
            && exchange.advance(plan, &self.socket, events, scratch, now).is_none()
            && exchange.answer.reuse() != Reuse::No
    }

    /// The verdict when the time is up.
    pub fn time_out(&self, plan: &StreamPlan) -> Verdict {
        match &self.exchange {
            _ if !self.deferred_events.is_empty() => {
                Verdict::new(OutcomeCode::Local, "more TLS handshakes than this host has time for")
            }
            None => Verdict::from_code(OutcomeCode::L4Tout),
            Some(exchange) if exchange.is_handshaking() => Verdict::from_code(OutcomeCode::L6Tout),
            Some(exchange) => exchange.time_out(plan),
        }
    }
}

impl Exchange {
    fn new(plan: &StreamPlan, now: Nanos) -> io::Result<Self> {
        let mut exchange = Self::default();
        let Some(tls) = &plan.tls else { return Ok(exchange) };
        let mut tls = tls.begin(now).map_err(io::Error::other)?;
        // What is said before the end of the handshake goes out with its last segment. On its own, the kernel would hold it
        // back until that one is acknowledged, which a server may take 40 ms for.
        if let Some(request) = &plan.request {
            exchange.sent = tls.writer().write(&request.bytes)?;
        }
        exchange.tls = Some(tls);
        Ok(exchange)
    }

    fn has_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    fn advance(
        &mut self,
        plan: &StreamPlan,
        socket: &Socket,
        events: EpollFlags,
        scratch: &mut [u8],
        now: Nanos,
    ) -> Option<Verdict> {
        let mut socket = LimitedSocket {
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
        let Some(request) = &plan.request else { return Some(Verdict::from_code(OutcomeCode::L6Ok)) };
        let result = match &mut self.tls {
            Some(tls) => {
                let mut stream = rustls::Stream::new(&mut **tls, &mut socket);
                exchange_http(request, &mut self.sent, &mut self.answer, &mut stream, scratch)
            }
            None => exchange_http(request, &mut self.sent, &mut self.answer, &mut socket, scratch),
        };
        match result {
            Ok(verdict) => verdict,
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => Some(failed(OutcomeCode::L7Rsp, &error)),
        }
    }

    fn time_out(&self, plan: &StreamPlan) -> Verdict {
        let length = plan.request.as_ref().map_or(0, |request| request.bytes.len());
        let is_taken = self.sent == length && !self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        let detail = if is_taken { self.answer.waiting_for() } else { "the request is not taken" };
        Verdict { not_after: self.not_after, ..Verdict::new(OutcomeCode::L7Tout, detail) }
    }
}

/// Sends the request and reads the answer until the stream would block, or until nothing more is to be learnt from it.
/// Returns the verdict in the call in which it becomes certain.
fn exchange_http(
    request: &HttpRequest,
    sent: &mut usize,
    answer: &mut HttpResponse,
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
        if answer.is_judged() && answer.reuse() == Reuse::No {
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
        ErrorKind::UnexpectedEof => {
            Some(Verdict::new(OutcomeCode::L6Rsp, "connection closed during the handshake"))
        }
        _ => Some(failed(OutcomeCode::L6Rsp, error)),
    }
}

fn failed(code: OutcomeCode, error: &io::Error) -> Verdict {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (tls, error.raw_os_error()) {
        (Some(fault), _) => {
            Verdict { not_after: tls::expired(fault), ..Verdict::new(code, tls::words(fault)) }
        }
        (None, Some(_)) => match tcp::remote(error) {
            verdict if verdict.code == OutcomeCode::Local => verdict,
            _ => Verdict::new(code, tcp::words(error)),
        },
        (None, None) => Verdict::new(code, error.to_string()),
    }
}

/// A socket that gives no more than [`MAX_READ`] bytes, and is not asked in vain.
struct LimitedSocket<'a> {
    socket: &'a Socket,
    read: &'a mut usize,
    /// There is an end or an error to be read after the last byte.
    ends: bool,
    /// There is nothing more to read before the next edge.
    drained: bool,
}

impl Read for LimitedSocket<'_> {
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

impl Write for LimitedSocket<'_> {
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
