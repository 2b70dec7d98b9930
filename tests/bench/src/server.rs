//! Serves all backends at once: one thread on every address of 127.0.0.0/8.
//!
//! `TCP` accepts and closes; `HTTP` and `HTTPS` answer, and close if they are asked to.

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

/// Where connections are accepted and closed.
pub const TCP: u16 = 7001;
/// Where HTTP is spoken.
pub const HTTP: u16 = 7002;
/// Where HTTPS is spoken.
pub const HTTPS: u16 = 7003;

const PORTS: [u16; 3] = [TCP, HTTP, HTTPS];
const BACKLOG: i32 = 65_535;
/// How soon the end is noticed, in milliseconds.
const GLANCE: u8 = 100;
const EVENTS: usize = 512;
const MAX_REQUEST: usize = 4096;

const WELL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";
const SICK: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nsick\n";

/// How a backend fares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Health {
    /// Answers 200.
    Well,
    /// Answers 503.
    Sick,
    /// Accepts and reads, and does not answer.
    Silent,
}

/// What the server has seen, and what it is told.
#[derive(Debug)]
pub struct State {
    /// Connections accepted at `TCP`, and questions read elsewhere.
    pub served: AtomicU64,
    /// When they arrived.
    pub arrivals: Arc<Arrivals>,
    health: Vec<AtomicU8>,
    /// When each backend first answered as it now does, in ns; 0 if it has not.
    answered: Vec<AtomicU64>,
    ended: AtomicBool,
}

impl State {
    /// From now on `backend` fares like that.
    pub fn ail(&self, backend: u32, health: Health) {
        self.answered[backend as usize].store(0, Ordering::SeqCst);
        self.health[backend as usize].store(health as u8, Ordering::SeqCst);
    }

    /// When `backend` first answered as it fares now, by [`now`]'s clock.
    #[must_use]
    pub fn answered(&self, backend: u32) -> Option<u64> {
        Some(self.answered[backend as usize].load(Ordering::SeqCst)).filter(|&at| at > 0)
    }

    /// What `backend` says.
    fn answer(&self, backend: u32) -> Option<&'static [u8]> {
        let health = self.health.get(backend as usize)?.load(Ordering::SeqCst);
        match health {
            0 => Some(WELL),
            1 => Some(SICK),
            _ => None,
        }
    }

    fn has_answered(&self, backend: u32) {
        if let Some(answered) = self.answered.get(backend as usize) {
            // What it said before stays the first time.
            _ = answered.compare_exchange(0, now(), Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

/// Serves until dropped.
pub struct Server {
    /// What it has seen.
    pub state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts, for so many backends.
    ///
    /// # Errors
    /// A port is taken.
    pub fn start(backends: u32) -> anyhow::Result<Self> {
        let count = backends as usize;
        let state = Arc::new(State {
            served: AtomicU64::new(0),
            arrivals: Arc::new(Arrivals::new(count)),
            health: (0..count).map(|_| AtomicU8::new(Health::Well as u8)).collect(),
            answered: (0..count).map(|_| AtomicU64::new(0)).collect(),
            ended: AtomicBool::new(false),
        });
        let mut hall = Hall::open(Arc::clone(&state))?;
        let serve = move || {
            if let Err(error) = hall.serve() {
                eprintln!("bench: the server has ended: {error}");
            }
        };
        Ok(Self { state, thread: Some(thread::spawn(serve)) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // If it panicked, the measurement had no answers, and said so.
            _ = thread.join();
        }
    }
}

/// Where guests are received.
struct Hall {
    state: Arc<State>,
    events: Epoll,
    listeners: HashMap<RawFd, (TcpListener, u16)>,
    guests: HashMap<RawFd, Guest>,
    tls: Arc<ServerConfig>,
}

/// A connection that may ask something.
struct Guest {
    stream: TcpStream,
    backend: u32,
    asked: Vec<u8>,
    tls: Option<Box<ServerConnection>>,
}

impl Hall {
    fn open(state: Arc<State>) -> anyhow::Result<Self> {
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
        Ok(Self { state, events, listeners, guests: HashMap::new(), tls: tls()? })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        while !self.state.ended.load(Ordering::Relaxed) {
            let count = match self.events.wait(&mut events, GLANCE) {
                Err(Errno::EINTR) => 0,
                ready => ready?,
            };
            for event in &events[..count] {
                let fd = event.data() as RawFd;
                if self.listeners.contains_key(&fd) {
                    self.accept(fd);
                } else if let Some(guest) = self.guests.get_mut(&fd)
                    && !guest.attend(&self.state)
                {
                    self.guests.remove(&fd);
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, listener: RawFd) {
        let Some((listener, port)) = self.listeners.get(&listener) else { return };
        // Whoever has gone again, or finds no room, comes back with the next probe.
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
                self.guests.insert(fd, Guest { stream, backend, asked: Vec::new(), tls });
            }
        }
    }
}

impl Guest {
    /// Reads, and answers what is asked. Says whether the guest stays.
    fn attend(&mut self, state: &State) -> bool {
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

    fn reply(&mut self, state: &State) -> bool {
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

    /// Sends what TLS has to say.
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
    // As web servers do: whoever comes back may resume.
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
}
