//! Server of all backends: one thread on every address of 127.0.0.0/8.
//!
//! `TCP` accepts and closes. `HTTP` and `HTTPS` answer, and close on request.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};
use socket2::{Domain, Socket, Type};

use super::address;
use super::arrivals::{Arrivals, now};

/// Port that accepts and closes.
pub const TCP: u16 = 7001;
/// HTTP port.
pub const HTTP: u16 = 7002;
/// HTTPS port.
pub const HTTPS: u16 = 7003;

const PORTS: [u16; 3] = [TCP, HTTP, HTTPS];
const BACKLOG: i32 = 65_535;
/// Poll interval, in milliseconds.
const POLL_INTERVAL: u8 = 100;
const EVENTS: usize = 512;
const MAX_REQUEST: usize = 4096;

const OK_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";
const SICK: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nsick\n";

/// Health of a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum BackendHealth {
    /// Answers 200.
    Healthy,
    /// Answers 503.
    Failing,
    /// Accepts and reads without answering.
    Silent,
}

/// Statistics and settings of the server.
#[derive(Debug)]
pub struct ServerState {
    /// Connections accepted at `TCP`, and requests read elsewhere.
    pub served: AtomicU64,
    /// Arrival times.
    pub arrivals: Arc<Arrivals>,
    health: Vec<AtomicU8>,
    /// Time of each backend's first answer with its current health, in ns; 0 for none.
    answered: Vec<AtomicU64>,
    ended: AtomicBool,
}

impl ServerState {
    /// Sets the health of `backend`.
    pub fn set_health(&self, backend: u32, health: BackendHealth) {
        self.answered[backend as usize].store(0, Ordering::SeqCst);
        self.health[backend as usize].store(health as u8, Ordering::SeqCst);
    }

    /// Returns the time of `backend`'s first answer with its current health, on [`now`]'s clock.
    #[must_use]
    pub fn answered(&self, backend: u32) -> Option<u64> {
        Some(self.answered[backend as usize].load(Ordering::SeqCst)).filter(|&at| at > 0)
    }

    /// Returns the answer of `backend`.
    fn answer(&self, backend: u32) -> Option<&'static [u8]> {
        let health = self.health.get(backend as usize)?.load(Ordering::SeqCst);
        match health {
            0 => Some(OK_RESPONSE),
            1 => Some(SICK),
            _ => None,
        }
    }

    fn has_answered(&self, backend: u32) {
        if let Some(answered) = self.answered.get(backend as usize) {
            // An earlier first answer remains.
            _ = answered.compare_exchange(0, now(), Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

/// A running server. Ended on drop.
pub struct BackendServer {
    /// Statistics and settings.
    pub state: Arc<ServerState>,
    thread: Option<JoinHandle<()>>,
}

impl BackendServer {
    /// Starts a server for that number of backends.
    ///
    /// # Errors
    /// If a port is taken.
    pub fn start(backends: u32) -> anyhow::Result<Self> {
        let count = backends as usize;
        let state = Arc::new(ServerState {
            served: AtomicU64::new(0),
            arrivals: Arc::new(Arrivals::new(count)),
            health: (0..count).map(|_| AtomicU8::new(BackendHealth::Healthy as u8)).collect(),
            answered: (0..count).map(|_| AtomicU64::new(0)).collect(),
            ended: AtomicBool::new(false),
        });
        let mut hall = Listeners::open(Arc::clone(&state))?;
        let serve = move || {
            if let Err(error) = hall.serve() {
                eprintln!("bench: the server has ended: {error}");
            }
        };
        Ok(Self { state, thread: Some(thread::spawn(serve)) })
    }
}

impl Drop for BackendServer {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic left the measurement without answers, which it has reported.
            _ = thread.join();
        }
    }
}

/// Listeners with their connections.
struct Listeners {
    state: Arc<ServerState>,
    events: Epoll,
    listeners: HashMap<RawFd, (TcpListener, u16)>,
    clients: HashMap<RawFd, Client>,
    tls: Arc<ServerConfig>,
}

/// An accepted connection.
struct Client {
    stream: TcpStream,
    backend: u32,
    asked: Vec<u8>,
    tls: Option<Box<ServerConnection>>,
}

impl Listeners {
    fn open(state: Arc<ServerState>) -> anyhow::Result<Self> {
        let events = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut listeners = HashMap::new();
        for port in PORTS {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
            socket.listen(BACKLOG).with_context(|| format!("port {port}"))?;
            events.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, socket.as_raw_fd() as u64))?;
            listeners.insert(socket.as_raw_fd(), (TcpListener::from(socket), port));
        }
        Ok(Self { state, events, listeners, clients: HashMap::new(), tls: tls()? })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        while !self.state.ended.load(Ordering::Relaxed) {
            let count = match self.events.wait(&mut events, POLL_INTERVAL) {
                Err(Errno::EINTR) => 0,
                ready => ready?,
            };
            for event in &events[..count] {
                let fd = event.data() as RawFd;
                if self.listeners.contains_key(&fd) {
                    self.accept(fd);
                } else if let Some(client) = self.clients.get_mut(&fd)
                    && !client.serve_client(&self.state)
                {
                    self.clients.remove(&fd);
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, listener: RawFd) {
        let Some((listener, port)) = self.listeners.get(&listener) else { return };
        // A client that has left, or found no room, returns with its next probe.
        while let Ok((stream, _)) = listener.accept() {
            let Ok(SocketAddr::V4(at)) = stream.local_addr() else { continue };
            let Some(backend) = address::backend(*at.ip()) else { continue };
            if *port == TCP {
                self.state.served.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let tls = (*port == HTTPS).then(|| ServerConnection::new(Arc::clone(&self.tls)));
            let Ok(tls) = tls.transpose() else { continue };
            let fd = stream.as_raw_fd();
            let ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
            let event = EpollEvent::new(EpollFlags::EPOLLIN, fd as u64);
            if ready.is_ok() && self.events.add(&stream, event).is_ok() {
                let tls = tls.map(Box::new);
                self.clients.insert(fd, Client { stream, backend, asked: Vec::new(), tls });
            }
        }
    }
}

impl Client {
    /// Reads requests and answers them. Returns false when the connection must close.
    fn serve_client(&mut self, state: &ServerState) -> bool {
        let stays = match self.read() {
            Ok(0) => false,
            Ok(_) => self.reply(state),
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        stays & self.flush()
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut room = [0; MAX_REQUEST];
        let length = match &mut self.tls {
            None => self.stream.read(&mut room)?,
            Some(tls) => {
                if tls.read_tls(&mut self.stream)? == 0 {
                    return Ok(0);
                }
                tls.process_new_packets().map_err(io::Error::other)?;
                tls.reader().read(&mut room)?
            }
        };
        self.asked.extend_from_slice(&room[..length]);
        Ok(length)
    }

    fn reply(&mut self, state: &ServerState) -> bool {
        if !self.asked.ends_with(b"\r\n\r\n") {
            return self.asked.len() < MAX_REQUEST;
        }
        let closes = contains(&self.asked, b"HTTP/1.0") || contains(&self.asked, b"onnection: close");
        self.asked.clear();
        state.served.fetch_add(1, Ordering::Relaxed);
        state.arrivals.saw(self.backend, now());
        let Some(answer) = state.answer(self.backend) else { return true };
        state.has_answered(self.backend);
        let written = match &mut self.tls {
            None => self.stream.write_all(answer),
            Some(tls) => tls.writer().write_all(answer),
        };
        if let Some(tls) = self.tls.as_mut().filter(|_| closes) {
            tls.send_close_notify();
        }
        written.is_ok() && !closes
    }

    /// Sends pending TLS data.
    fn flush(&mut self) -> bool {
        let Some(tls) = &mut self.tls else { return true };
        while tls.wants_write() {
            if tls.write_tls(&mut self.stream).is_err() {
                return false;
            }
        }
        true
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn tls() -> anyhow::Result<Arc<ServerConfig>> {
    let certified = rcgen::generate_simple_self_signed([
        "bench.example".to_owned(),
        IpAddr::from([127, 0, 0, 1]).to_string(),
    ])?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)?;
    // Like real web servers, allow session resumption.
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
}
