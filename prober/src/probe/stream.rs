//! A probe over TCP, from the first segment to the verdict: connection, TLS if asked, HTTP if asked.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use maglev_ipc::{Check, Code, Http, Mode, Probe, Refusal, Tls};
use nix::sys::epoll::EpollFlags;
use rustls::ClientConnection;
use socket2::Socket;

use super::http::{Answer, Request};
use super::{Verdict, tcp, tls};

/// How much one probe reads at most, in bytes: the most that an answer may need, and as much again for TLS. Else
/// a server that never stops could keep the prober busy until the time-out.
const MAX_READ: usize = 512 * 1024;

/// What a check asks for.
#[derive(Debug)]
pub struct Plan {
    to: SocketAddr,
    from: Option<IpAddr>,
    /// Whether the server's program is to see the connection even if nothing is said over it.
    acknowledge: bool,
    tls: Option<tls::Plan>,
    request: Option<Request>,
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
            tls: tls.map(|tls| configs.plan(tls, http.is_some())).transpose()?,
            request: http.map(Request::compile).transpose()?,
        })
    }
}

impl Plan {
    /// Where it connects to, and from which address.
    pub const fn ends(&self) -> (SocketAddr, Option<IpAddr>) {
        (self.to, self.from)
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

/// A connection that is being probed.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// `None` while connecting.
    talk: Option<Box<Talk>>,
}

/// What is said over the connection.
#[derive(Debug, Default)]
struct Talk {
    tls: Option<ClientConnection>,
    sent: usize,
    read: usize,
    answer: Answer,
}

impl Stream {
    /// Begins a probe.
    ///
    /// # Errors
    /// The verdict, when there is one already.
    pub fn start(plan: &Plan) -> Result<Self, Verdict> {
        Ok(Self { socket: tcp::connect(plan.to, plan.from, plan.acknowledge)?, talk: None })
    }

    /// The socket to wait for.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Goes as far as the socket allows. `events` are edges, so it goes on until the socket would block.
    pub fn advance(&mut self, plan: &Plan, events: EpollFlags, scratch: &mut [u8]) -> Option<Verdict> {
        if self.talk.is_none() {
            if events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP)
                && let Ok(Some(error)) = self.socket.take_error()
            {
                return Some(plan.connection_ended(&error));
            }
            if !events.contains(EpollFlags::EPOLLOUT) {
                return None;
            }
            if plan.tls.is_none() && plan.request.is_none() {
                return Some(Verdict::of(Code::L4Ok));
            }
            match Talk::new(plan) {
                Ok(talk) => self.talk = Some(Box::new(talk)),
                Err(error) => return Some(Verdict::new(Code::Local, error.to_string())),
            }
        }
        // What is not there yet will come with an edge of its own.
        let scratch = if events == EpollFlags::EPOLLOUT { &mut [] } else { scratch };
        self.talk.as_mut()?.advance(plan, &self.socket, scratch)
    }

    /// The verdict when the time is up.
    pub fn time_out(&self, plan: &Plan) -> Verdict {
        match &self.talk {
            None => Verdict::of(Code::L4Tout),
            Some(talk) if talk.is_handshaking() => Verdict::of(Code::L6Tout),
            Some(talk) => talk.time_out(plan),
        }
    }
}

impl Talk {
    fn new(plan: &Plan) -> Result<Self, rustls::Error> {
        let connection = |tls: &tls::Plan| ClientConnection::new(tls.config.clone(), tls.name.clone());
        Ok(Self { tls: plan.tls.as_ref().map(connection).transpose()?, ..Self::default() })
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    fn advance(&mut self, plan: &Plan, socket: &Socket, scratch: &mut [u8]) -> Option<Verdict> {
        let mut socket = Counted { socket, read: &mut self.read };
        if let Some(tls) = &mut self.tls {
            while tls.is_handshaking() {
                if let Err(error) = tls.complete_io(&mut socket) {
                    return handshake_failed(&error);
                }
            }
        }
        let Some(request) = &plan.request else { return Some(Verdict::of(Code::L6Ok)) };
        let result = match &mut self.tls {
            Some(tls) => {
                let mut stream = rustls::Stream::new(tls, &mut socket);
                exchange(request, &mut self.sent, &mut self.answer, &mut stream, scratch)
            }
            None => exchange(request, &mut self.sent, &mut self.answer, &mut socket, scratch),
        };
        match result {
            Ok(verdict) => Some(verdict),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => Some(failed(Code::L7Rsp, &error)),
        }
    }

    fn time_out(&self, plan: &Plan) -> Verdict {
        let length = plan.request.as_ref().map_or(0, |request| request.bytes.len());
        let detail = if self.sent < length { "the request is not taken" } else { self.answer.waiting_for() };
        Verdict::new(Code::L7Tout, detail)
    }
}

/// Sends the request and reads the answer, until there is a verdict or the stream would block. Without `scratch` there
/// is nothing to read.
fn exchange(
    request: &Request,
    sent: &mut usize,
    answer: &mut Answer,
    stream: &mut (impl Read + Write),
    scratch: &mut [u8],
) -> io::Result<Verdict> {
    while *sent < request.bytes.len() {
        *sent += uninterrupted(|| stream.write(&request.bytes[*sent..]))?;
    }
    stream.flush()?;
    if scratch.is_empty() {
        return Err(ErrorKind::WouldBlock.into());
    }
    loop {
        let length = match uninterrupted(|| stream.read(scratch)) {
            // A server that does not close its TLS session in due form has closed all the same.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            other => other?,
        };
        if length == 0 {
            return Ok(answer.finish(request));
        }
        if let Some(verdict) = answer.feed(request, &scratch[..length]) {
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
        (Some(fault), _) => Verdict::new(code, tls::words(fault)),
        (None, Some(_)) => match tcp::remote(error) {
            verdict if verdict.code == Code::Local => verdict,
            _ => Verdict::new(code, tcp::words(error)),
        },
        (None, None) => Verdict::new(code, error.to_string()),
    }
}

/// A socket that gives no more than [`MAX_READ`] bytes.
struct Counted<'a> {
    socket: &'a Socket,
    read: &'a mut usize,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if *self.read >= MAX_READ {
            return Err(io::Error::other("the server sends without end"));
        }
        let length = self.socket.read(into)?;
        *self.read += length;
        Ok(length)
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
