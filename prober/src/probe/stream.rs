//! Probes over TCP, from the first segment to the verdict: connection, TLS and HTTP.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};

use maglev_ipc::regexp::RegexpSet;
use maglev_ipc::{
    CertificateExpiry, Check, ConnectMode, HttpCheck, OutcomeCode, OutcomeDetail, ProbeKind, RejectReason,
    TlsHandshake,
};
use nix::sys::epoll::EpollFlags;
use socket2::Socket;

use super::http::{HttpRequest, HttpResponse, Reuse};
use super::{tcp, tls};
use crate::clock::Nanos;
use crate::verdict::Verdict;

/// Maximum number of bytes read per probe: the largest response, and as much again for TLS. Without it, a server that never
/// stops could keep the prober busy until the timeout.
const MAX_READ: usize = 512 * 1024;
/// Events that announce the end of a connection.
const CLOSING: EpollFlags = EpollFlags::EPOLLRDHUP.union(EpollFlags::EPOLLHUP).union(EpollFlags::EPOLLERR);
/// Status with which a server may close an idle connection (RFC 9110 section 15.5.9).
const REQUEST_TIMEOUT: u16 = 408;
/// Detail of a timeout whose handshake was deferred.
const HANDSHAKES_DEFERRED: &str = "too many TLS handshakes for this host";

/// Everything prepared for the probes of one check.
#[derive(Debug)]
pub struct StreamPlan {
    to: SocketAddr,
    from: Option<IpAddr>,
    /// True if the server's application must see the connection even without data.
    acknowledge: bool,
    tls: Option<tls::TlsPlan>,
    request: Option<HttpRequest>,
    /// Only for a check that keeps its connections.
    reconnect: Option<ReconnectCountdown>,
}

/// Decides which probes of a check with kept connections open a new one.
#[derive(Debug)]
struct ReconnectCountdown {
    every: NonZeroU32,
    /// Number of probes until the next new connection; `None` before the first probe.
    left: Option<u32>,
}

impl StreamPlan {
    /// Prepares the probes of a check.
    ///
    /// # Errors
    /// The check cannot be probed.
    pub fn compile(
        check: &Check,
        configs: &mut tls::TlsConfigs,
        regexps: &mut RegexpSet,
    ) -> Result<Self, RejectReason> {
        let (port, tls, http): (u16, Option<&TlsHandshake>, Option<&HttpCheck>) = match &check.probe {
            ProbeKind::Icmp => (0, None, None),
            ProbeKind::Tcp { port, tls, .. } => (*port, tls.as_ref(), None),
            ProbeKind::Http { port, http, tls } => (*port, tls.as_ref(), Some(http)),
        };
        let keep_alive = http.and_then(|http| http.keep_alive);
        Ok(Self {
            to: SocketAddr::new(check.target, port),
            from: check.source,
            acknowledge: matches!(check.probe, ProbeKind::Tcp { mode: ConnectMode::Full, tls: None, .. }),
            reconnect: keep_alive.map(|every| ReconnectCountdown { every, left: None }),
            tls: tls.map(|tls| configs.plan(tls, http)).transpose()?,
            request: http.map(|http| HttpRequest::compile(http, regexps)).transpose()?,
        })
    }

    /// Counts a probe of the check in `slot`.
    pub fn count_probe(&mut self, slot: u32) {
        let Some(ReconnectCountdown { every, left }) = &mut self.reconnect else { return };
        // The slot shifts the first countdown, so that the connections of many checks are not renewed all at once.
        let before = left.unwrap_or(every.get() - slot % every.get());
        *left = Some(before.checked_sub(1).unwrap_or(every.get() - 1));
    }

    /// Returns true if the next probe may use the connection of this one.
    pub fn keeps_connection(&self) -> bool {
        self.reconnect.as_ref().is_some_and(|countdown| countdown.left != Some(0))
    }

    /// Returns the destination and the source address.
    pub const fn addresses(&self) -> (SocketAddr, Option<IpAddr>) {
        (self.to, self.from)
    }

    /// Returns true if a new connection needs a TLS handshake, the most expensive part of a probe.
    pub const fn has_handshake(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the verdict on an error before anything was sent.
    fn connection_ended(&self, error: &io::Error) -> Verdict {
        // A reset in answer to a SYN is reported as a refusal, so this one ended an established connection.
        if error.kind() != ErrorKind::ConnectionReset {
            return tcp::connect_failed(error);
        }
        match (&self.tls, &self.request) {
            (Some(_), _) => io_verdict(OutcomeCode::L6Rsp, error),
            (None, Some(_)) => io_verdict(OutcomeCode::L7Rsp, error),
            (None, None) => Verdict::from_code(OutcomeCode::L4Ok),
        }
    }
}

/// A connection of a probe in flight, or a kept one.
#[derive(Debug)]
pub struct ProbeStream {
    socket: Socket,
    /// Epoll token.
    token: u64,
    /// `None` while connecting.
    exchange: Option<Box<Exchange>>,
    /// True if an earlier probe opened the connection.
    is_kept: bool,
    /// Events that wait for the handshake budget.
    deferred_events: EpollFlags,
}

/// The TLS session and the HTTP exchange on a connection.
#[derive(Debug, Default)]
struct Exchange {
    tls: Option<Box<tls::TlsConnection>>,
    sent: usize,
    read: usize,
    response: HttpResponse,
    /// True if the server has closed its side of the TCP connection.
    is_closed: bool,
    /// Expiry of the certificates presented in this probe.
    not_after: Option<CertificateExpiry>,
}

/// End of a probe.
#[derive(Debug)]
pub enum StreamEnd {
    /// The probe has a verdict.
    Verdict(Verdict),
    /// The server closed a kept connection before it received the request, which says nothing about the server (RFC 9112
    /// section 9.3.1). The probe restarts on a new connection.
    Stale,
}

impl Drop for ProbeStream {
    /// Resets the connection, unless all of the response was read and the server has closed it: then no program there sees an
    /// error.
    fn drop(&mut self) {
        if !self.exchange.as_ref().is_some_and(|exchange| exchange.is_over()) {
            tcp::reset(&self.socket);
        }
    }
}

impl ProbeStream {
    /// Epoll events of a connection.
    pub const EVENTS: EpollFlags = EpollFlags::EPOLLIN
        .union(EpollFlags::EPOLLOUT)
        .union(EpollFlags::EPOLLRDHUP)
        .union(EpollFlags::EPOLLET);

    /// Starts a probe on a new connection, whose events have `token`.
    ///
    /// # Errors
    /// The verdict, if the probe fails at once.
    pub fn start(plan: &StreamPlan, token: u64) -> Result<Self, Verdict> {
        let socket = tcp::connect(plan.to, plan.from, plan.acknowledge)?;
        Ok(Self { socket, token, exchange: None, is_kept: false, deferred_events: EpollFlags::empty() })
    }

    /// Starts another probe on a kept connection. Returns false if the connection is not usable.
    pub fn restart(&mut self, plan: &StreamPlan, now: Nanos) -> bool {
        let ready = self.exchange.as_mut().filter(|exchange| exchange.response.reuse() == Reuse::Ready);
        let Some(exchange) = ready else { return false };
        self.is_kept = true;
        exchange.reset();
        self.advance(plan, EpollFlags::EPOLLOUT, &mut [], now).is_none()
    }

    /// Returns the epoll token, which stays the same for all probes on the connection.
    pub const fn token(&self) -> u64 {
        self.token
    }

    /// Returns the socket, for epoll.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Advances the probe until the socket would block: `events` are edges, so data left unread would raise no event.
    pub fn advance(
        &mut self,
        plan: &StreamPlan,
        events: EpollFlags,
        buffer: &mut [u8],
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
            if tcp::is_self_connected(&self.socket, plan.to) {
                return Some(StreamEnd::Verdict(tcp::refused()));
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
        let mut verdict = exchange.advance(plan, &self.socket, events, buffer, now)?;
        verdict.not_after = verdict.not_after.or(exchange.not_after);
        verdict.skipped_setup = self.is_kept || exchange.has_resumed();
        // Some servers announce by an unsolicited response that they close an idle connection.
        let is_stale =
            !exchange.response.has_begun() || verdict.detail == OutcomeDetail::Status(REQUEST_TIMEOUT);
        let has_passed = verdict.code.passed() == Some(true);
        Some(if self.is_kept && is_stale && !has_passed {
            StreamEnd::Stale
        } else {
            StreamEnd::Verdict(verdict)
        })
    }

    /// Returns true if the next step is part of a TLS handshake.
    pub fn is_handshaking(&self, plan: &StreamPlan, events: EpollFlags) -> bool {
        match &self.exchange {
            // A connection that failed begins no handshake.
            None => plan.has_handshake() && !events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP),
            Some(exchange) => exchange.is_handshaking(),
        }
    }

    /// Returns true if this probe opened its connection and resumed a TLS session.
    pub fn has_resumed(&self) -> bool {
        !self.is_kept && self.exchange.as_ref().is_some_and(|exchange| exchange.has_resumed())
    }

    /// Stores events for a later step. Returns true if there were none before.
    pub fn defer_events(&mut self, events: EpollFlags) -> bool {
        let is_first = self.deferred_events.is_empty();
        self.deferred_events |= events;
        is_first
    }

    /// Returns the availability of the connection for another probe, after the verdict of this one.
    pub fn reuse(&self) -> Reuse {
        let response = self.exchange.as_ref().map(|exchange| &exchange.response);
        response.filter(|response| response.is_judged()).map_or(Reuse::No, HttpResponse::reuse)
    }

    /// Handles events of an idle connection. Returns false if it is no longer usable.
    pub fn stays_idle(
        &mut self,
        plan: &StreamPlan,
        events: EpollFlags,
        buffer: &mut [u8],
        now: Nanos,
    ) -> bool {
        let Some(exchange) = &mut self.exchange else { return false };
        let has_verdict = exchange.advance(plan, &self.socket, events, buffer, now).is_some();
        !has_verdict && !events.intersects(CLOSING) && exchange.response.reuse() != Reuse::No
    }

    /// Returns the verdict of a timeout.
    pub fn timeout_verdict(&self, plan: &StreamPlan) -> Verdict {
        match &self.exchange {
            _ if !self.deferred_events.is_empty() => Verdict::new(OutcomeCode::Local, HANDSHAKES_DEFERRED),
            None => Verdict::from_code(OutcomeCode::L4Tout),
            Some(exchange) if exchange.is_handshaking() => Verdict::from_code(OutcomeCode::L6Tout),
            Some(exchange) => exchange.timeout_verdict(plan),
        }
    }
}

impl Exchange {
    fn new(plan: &StreamPlan, now: Nanos) -> io::Result<Self> {
        let mut exchange = Self::default();
        let Some(tls) = &plan.tls else { return Ok(exchange) };
        let mut tls = tls.begin(now).map_err(io::Error::other)?;
        // A request written before the end of the handshake goes out with its last segment. On its own, Nagle's algorithm
        // would delay it until the server acknowledges that segment, which may take 40 ms.
        if let Some(request) = &plan.request {
            exchange.sent = tls.writer().write(&request.bytes)?;
        }
        exchange.tls = Some(tls);
        Ok(exchange)
    }

    /// Prepares for another request on the connection.
    fn reset(&mut self) {
        (self.sent, self.read, self.response, self.not_after) = (0, 0, HttpResponse::default(), None);
    }

    /// Returns true if the server has closed the connection, and all that it sent was read.
    const fn is_over(&self) -> bool {
        self.is_closed && self.response.has_ended()
    }

    fn has_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_resumed())
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    fn advance(
        &mut self,
        plan: &StreamPlan,
        socket: &Socket,
        events: EpollFlags,
        buffer: &mut [u8],
        now: Nanos,
    ) -> Option<Verdict> {
        self.is_closed |= events.contains(EpollFlags::EPOLLRDHUP);
        let mut socket = LimitedSocket {
            socket,
            read: &mut self.read,
            is_closed: &mut self.is_closed,
            is_closing: events.intersects(CLOSING),
            // Data that arrives later raises an edge of its own.
            is_drained: !events.intersects(CLOSING | EpollFlags::EPOLLIN),
        };
        if let (Some(tls), Some(plan)) = (&mut self.tls, &plan.tls)
            && tls.is_handshaking()
        {
            match tls.handshake(plan, &mut socket, now) {
                Ok(not_after) => self.not_after = not_after,
                Err(error) => return handshake_verdict(&error),
            }
        }
        let Some(request) = &plan.request else {
            return match self.tls.as_mut().map(|tls| tls.await_acceptance(&mut socket)) {
                Some(Err(error)) => handshake_verdict(&error),
                Some(Ok(())) | None => Some(Verdict::from_code(OutcomeCode::L6Ok)),
            };
        };
        let result = match &mut self.tls {
            Some(tls) => {
                let mut stream = rustls::Stream::new(&mut ***tls, &mut socket);
                exchange_http(request, &mut self.sent, &mut self.response, &mut stream, buffer)
            }
            None => exchange_http(request, &mut self.sent, &mut self.response, &mut socket, buffer),
        };
        match result {
            Ok(verdict) => verdict,
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => Some(io_verdict(OutcomeCode::L7Rsp, &error)),
        }
    }

    fn timeout_verdict(&self, plan: &StreamPlan) -> Verdict {
        if self.tls.as_ref().is_some_and(|tls| tls.awaits_answer()) {
            return Verdict { not_after: self.not_after, ..Verdict::from_code(OutcomeCode::L6Ok) };
        }
        let length = plan.request.as_ref().map_or(0, |request| request.bytes.len());
        let is_sent = self.sent == length && !self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        let detail = if is_sent { self.response.missing_part() } else { "the request is not taken" };
        Verdict { not_after: self.not_after, ..Verdict::new(OutcomeCode::L7Tout, detail) }
    }
}

/// Sends the request and reads the response until the stream would block, or no more is needed. Returns the verdict in the
/// call in which it becomes certain.
fn exchange_http(
    request: &HttpRequest,
    sent: &mut usize,
    response: &mut HttpResponse,
    stream: &mut (impl Read + Write),
    buffer: &mut [u8],
) -> io::Result<Option<Verdict>> {
    if *sent < request.bytes.len() {
        while *sent < request.bytes.len() {
            *sent += retry_interrupted(|| stream.write(&request.bytes[*sent..]))?;
        }
        stream.flush()?;
    }
    let mut verdict = None;
    loop {
        let length = match retry_interrupted(|| stream.read(buffer)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(verdict),
            // A server that closes without close_notify has closed all the same.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            // An error after the verdict does not change it.
            Err(_) if response.is_judged() => 0,
            other => other?,
        };
        if length == 0 {
            return Ok(verdict.or(response.finish()));
        }
        verdict = verdict.or(response.feed(request, &buffer[..length]));
        if response.is_judged() && response.reuse() == Reuse::No {
            return Ok(verdict);
        }
    }
}

fn retry_interrupted(mut operation: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match operation() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Returns the verdict of a handshake that stopped, or `None` if it can continue later.
fn handshake_verdict(error: &io::Error) -> Option<Verdict> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => None,
        ErrorKind::UnexpectedEof => {
            Some(Verdict::new(OutcomeCode::L6Rsp, "connection closed during the handshake"))
        }
        _ => Some(io_verdict(OutcomeCode::L6Rsp, error)),
    }
}

/// Returns the verdict on an error of an established connection.
fn io_verdict(code: OutcomeCode, error: &io::Error) -> Verdict {
    match (tls_error(error), error.raw_os_error()) {
        // In TLS 1.3 the alert that refuses a handshake can follow its end.
        (Some(fault), _) => {
            let verdict = Verdict::new(OutcomeCode::L6Rsp, tls::describe(fault).into_owned());
            Verdict { not_after: tls::expiry_of(fault), ..verdict }
        }
        (None, Some(_)) => match tcp::connect_failed(error) {
            verdict if verdict.code == OutcomeCode::Local => verdict,
            _ => Verdict::new(code, tcp::describe(error)),
        },
        (None, None) => Verdict::new(code, error.to_string()),
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// A socket that returns at most [`MAX_READ`] bytes, and avoids reads that would block.
struct LimitedSocket<'a> {
    socket: &'a Socket,
    read: &'a mut usize,
    /// Set when the peer's end arrives.
    is_closed: &'a mut bool,
    /// True if an end or an error follows the last byte.
    is_closing: bool,
    /// True if there is nothing to read before the next edge.
    is_drained: bool,
}

impl Read for LimitedSocket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.is_drained {
            return Err(ErrorKind::WouldBlock.into());
        }
        if *self.read >= MAX_READ {
            return Err(io::Error::other("response too large"));
        }
        let length = self.socket.read(into)?;
        *self.is_closed |= length == 0;
        // Data that arrives after this read raises an edge of its own.
        self.is_drained = length < into.len() && !self.is_closing;
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
