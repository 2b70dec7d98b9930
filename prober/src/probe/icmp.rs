//! Echo requests to all targets of a family from one raw socket, sent and received in batches.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};

use super::echo::{self, Packet, REQUEST, Token};
use super::filter;
use crate::course::Key;
use crate::random;

/// How many packets one system call sends or receives at most.
const BATCH: usize = 64;
/// The longest packet that is looked at: an error with two full IPv4 headers needs 160 bytes.
const PACKET: usize = 256;
/// What the kernel may hold for us, in bytes; it grants as much of it as `net.core.rmem_max` allows.
const BUFFER: usize = 4 * 1024 * 1024;

/// An address family's socket, or why there is none.
type Opened = Result<Family, &'static str>;

/// Both families.
#[derive(Debug)]
pub struct Pinger {
    v4: Opened,
    v6: Opened,
    ident: u16,
    cookies: RandomState,
    /// The number of the last request.
    serial: u64,
    /// The slot of the newest request of each sequence number, for errors that quote nothing else.
    recent: Vec<u32>,
}

/// What a packet that came in says about a probe.
#[derive(Debug)]
pub struct Heard {
    /// The probe's request.
    pub claim: Claim,
    /// The address that answered, or the one that an error says is not reached.
    pub about: IpAddr,
    /// `None` is an answer; else the network's word.
    pub error: Option<&'static str>,
}

/// A request that was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ping {
    /// Counts all requests.
    serial: u64,
    /// The sequence number in its header.
    seq: u16,
}

/// Which request a packet is about, as far as the packet says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// That check's request of that serial: the cookie proves it.
    Proven(Key, u64),
    /// The request of that sequence number, from that slot: all that a short quote tells.
    Short(u32, u16),
}

impl Claim {
    /// Whether it is this request.
    pub fn is_about(self, ping: Ping) -> bool {
        match self {
            Self::Proven(_, serial) => serial == ping.serial,
            Self::Short(_, seq) => seq == ping.seq,
        }
    }
}

/// A packet that says nothing about a probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Junk {
    /// Its probe has been answered.
    Duplicate,
    /// Its probe is over, or there never was one.
    Stray,
    /// It does not carry the cookie, or comes from elsewhere.
    Spoofed,
    /// It does not parse.
    Malformed,
}

impl Pinger {
    /// Opens what this process may open. Needs `CAP_NET_RAW`, and only here.
    ///
    /// # Errors
    /// The system has no randomness, or a socket cannot be set up. A socket that is not permitted is no error: every
    /// probe that needs it says so.
    pub fn open() -> io::Result<Self> {
        let ident = u16::from_ne_bytes(random::bytes()?);
        Ok(Self {
            v4: Family::open(Domain::IPV4, Protocol::ICMPV4, &filter::v4(ident))?,
            v6: Family::open(Domain::IPV6, Protocol::ICMPV6, &filter::v6(ident))?,
            ident,
            cookies: RandomState::new(),
            serial: u64::from(u16::from_ne_bytes(random::bytes()?)),
            recent: vec![u32::MAX; 1 << 16],
        })
    }

    /// The sockets, IPv4 first, or why there is none.
    pub fn sockets(&self) -> [Result<BorrowedFd<'_>, &'static str>; 2] {
        [&self.v4, &self.v6].map(|family| match family {
            Ok(family) => Ok(family.socket.as_fd()),
            Err(why) => Err(*why),
        })
    }

    /// Queues a request; [`Self::flush`] sends it.
    ///
    /// # Errors
    /// There is no socket of that family.
    pub fn queue(&mut self, key: Key, target: IpAddr, source: Option<IpAddr>) -> Result<Ping, &'static str> {
        let serial = self.serial + 1;
        let token = self.token(key, serial);
        let family = if target.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let family = family.as_mut().map_err(|why| *why)?;
        let request = if target.is_ipv4() { echo::request_v4 } else { echo::request_v6 };
        let to = SocketAddr::new(target, 0).into();
        family.queue.push(Request { key, to, source, packet: request(self.ident, token) });
        self.serial = serial;
        self.recent[usize::from(token.seq())] = key.slot;
        Ok(Ping { serial, seq: token.seq() })
    }

    /// Whether a batch is full.
    pub fn is_full(&self) -> bool {
        [&self.v4, &self.v6].into_iter().flatten().any(|family| family.queue.len() >= BATCH)
    }

    /// Sends what is queued. Calls `failed` for each request that this host could not send.
    pub fn flush(&mut self, mut failed: impl FnMut(Key, Errno)) {
        for family in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            family.flush(&mut failed);
        }
    }

    /// Reads up to one batch of a family's packets. Returns whether there may be more.
    pub fn receive(&mut self, v4: bool, heard: &mut Vec<Result<Heard, Junk>>) -> bool {
        let Ok(family) = (if v4 { &mut self.v4 } else { &mut self.v6 }) else { return false };
        family.read();
        let Ok(family) = (if v4 { &self.v4 } else { &self.v6 }) else { return false };
        let parse = if v4 { echo::parse_v4 } else { echo::parse_v6 };
        heard.extend(family.packets().map(|(from, bytes)| match parse(bytes) {
            Some(packet) => self.recognise(packet, from),
            None => Err(Junk::Malformed),
        }));
        family.received.len() == BATCH
    }

    /// Holds a packet against what was sent, as far as no probe's state is needed.
    fn recognise(&self, packet: Packet, from: IpAddr) -> Result<Heard, Junk> {
        let (echo, about, error) = match packet {
            Packet::Reply(echo) => (echo, from, None),
            Packet::Error { what, target, echo } => (echo, target, Some(what)),
        };
        if echo.ident != self.ident {
            return Err(Junk::Stray);
        }
        let claim = match echo.token {
            Some(token) => {
                let key = Key::from(token.key);
                if token != self.token(key, token.serial) || echo.seq != token.seq() {
                    return Err(Junk::Spoofed);
                }
                Claim::Proven(key, token.serial)
            }
            None if error.is_some() => Claim::Short(self.recent[usize::from(echo.seq)], echo.seq),
            None => return Err(Junk::Spoofed),
        };
        Ok(Heard { claim, about, error })
    }

    /// The cookie is a keyed hash (SipHash, its key from the kernel's randomness): a server that has seen any
    /// number of its own cookies cannot make one for another.
    fn token(&self, key: Key, serial: u64) -> Token {
        let key = u64::from(key);
        Token { key, serial, cookie: self.cookies.hash_one((key, serial)) }
    }
}

#[derive(Debug)]
struct Family {
    socket: Socket,
    queue: Vec<Request>,
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<[u8; PACKET]>,
    /// Sender and length of the packet in each buffer.
    received: Vec<(IpAddr, usize)>,
}

#[derive(Debug)]
struct Request {
    key: Key,
    to: SockaddrStorage,
    source: Option<IpAddr>,
    packet: [u8; REQUEST],
}

impl Family {
    fn open(domain: Domain, protocol: Protocol, filter: &[socket2::SockFilter]) -> io::Result<Opened> {
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = match Socket::new_raw(domain, kind, Some(protocol)) {
            Ok(socket) => socket,
            Err(error) => return unavailable(&error).map(Err).ok_or(error),
        };
        socket.attach_filter(filter)?;
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_send_buffer_size(BUFFER)?;
        Ok(Ok(Self {
            socket,
            queue: Vec::with_capacity(BATCH),
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![[0; PACKET]; BATCH],
            received: Vec::with_capacity(BATCH),
        }))
    }

    /// Reads as many packets as there are, up to one batch.
    fn read(&mut self) {
        self.received.clear();
        let mut slices: Vec<_> = self.buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
        let fd = self.socket.as_raw_fd();
        if let Ok(packets) = recvmmsg(fd, &mut self.headers, &mut slices, MsgFlags::MSG_DONTWAIT, None) {
            let senders = packets.map(|packet| (packet.address.as_ref().and_then(address), packet.bytes));
            self.received.extend(senders.map(|(from, length)| (from.unwrap_or(NOBODY), length)));
        }
    }

    fn packets(&self) -> impl Iterator<Item = (IpAddr, &[u8])> {
        self.received.iter().zip(&self.buffers).map(|((from, length), bytes)| (*from, &bytes[..*length]))
    }

    fn flush(&mut self, failed: &mut impl FnMut(Key, Errno)) {
        // One control message serves a whole call, so a batch is a run of requests with one source.
        for run in self.queue.chunk_by(|a, b| a.source == b.source) {
            for batch in run.chunks(BATCH) {
                send_all(&self.socket, batch, failed);
            }
        }
        self.queue.clear();
    }
}

/// Why this host gives no raw socket, if it may be so for good.
fn unavailable(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => Some("raw sockets are not permitted (CAP_NET_RAW)"),
        Some(Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT) => Some("this host has no such address family"),
        _ => None,
    }
}

/// Sends every request that can be sent: the kernel stops at the first that fails, and reports it when it is the
/// first of a call.
fn send_all(socket: &Socket, mut requests: &[Request], failed: &mut impl FnMut(Key, Errno)) {
    while let Some(first) = requests.first() {
        match send_some(socket, requests, first.source) {
            Ok(sent) => requests = &requests[sent.max(1)..],
            Err(Errno::EINTR) => {}
            Err(errno) => {
                failed(first.key, errno);
                requests = &requests[1..];
            }
        }
    }
}

fn send_some(socket: &Socket, requests: &[Request], source: Option<IpAddr>) -> Result<usize, Errno> {
    let slices: Vec<_> = requests.iter().map(|request| [IoSlice::new(&request.packet)]).collect();
    let to: Vec<_> = requests.iter().map(|request| Some(request.to)).collect();
    let fd = socket.as_raw_fd();
    let send = |cmsgs: &[ControlMessage<'_>], space| {
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(requests.len(), space);
        Ok(sendmmsg(fd, &mut headers, &slices, &to, cmsgs, MsgFlags::MSG_DONTWAIT)?.count())
    };
    match source {
        None => send(&[], None),
        Some(IpAddr::V4(source)) => {
            let info = pktinfo_v4(source);
            send(&[ControlMessage::Ipv4PacketInfo(&info)], Some(nix::cmsg_space!(in_pktinfo)))
        }
        Some(IpAddr::V6(source)) => {
            let info = pktinfo_v6(source);
            send(&[ControlMessage::Ipv6PacketInfo(&info)], Some(nix::cmsg_space!(in6_pktinfo)))
        }
    }
}

fn pktinfo_v4(source: Ipv4Addr) -> in_pktinfo {
    let source = in_addr { s_addr: u32::from_ne_bytes(source.octets()) };
    in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: in_addr { s_addr: 0 } }
}

fn pktinfo_v6(source: Ipv6Addr) -> in6_pktinfo {
    in6_pktinfo { ipi6_addr: in6_addr { s6_addr: source.octets() }, ipi6_ifindex: 0 }
}

/// No probe's target.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::echo::Echo;

    const KEY: Key = Key { slot: 7, epoch: 3 };
    const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn reply(pinger: &Pinger, change: impl FnOnce(&mut Echo)) -> Result<Claim, Junk> {
        let token = pinger.token(KEY, 42);
        let mut echo = Echo { ident: pinger.ident, seq: token.seq(), token: Some(token) };
        change(&mut echo);
        pinger.recognise(Packet::Reply(echo), TARGET).map(|heard| heard.claim)
    }

    fn forge(echo: &mut Echo, change: impl FnOnce(&mut Token)) {
        echo.token.as_mut().map(change);
    }

    #[test]
    fn only_the_cookie_proves_a_reply() {
        let pinger = Pinger::open().unwrap();
        assert_eq!(reply(&pinger, |_| {}), Ok(Claim::Proven(KEY, 42)));
        assert_eq!(reply(&pinger, |echo| echo.ident ^= 1), Err(Junk::Stray));
        assert_eq!(reply(&pinger, |echo| echo.seq ^= 1), Err(Junk::Spoofed));
        assert_eq!(reply(&pinger, |echo| echo.token = None), Err(Junk::Spoofed));
        assert_eq!(reply(&pinger, |echo| forge(echo, |token| token.cookie ^= 1)), Err(Junk::Spoofed));
        assert_eq!(reply(&pinger, |echo| forge(echo, |token| token.key ^= 1)), Err(Junk::Spoofed));
        assert_eq!(reply(&pinger, |echo| forge(echo, |token| token.serial ^= 1)), Err(Junk::Spoofed));
        // Another prober's cookies are worth nothing.
        let token = Pinger::open().unwrap().token(KEY, 42);
        assert_eq!(reply(&pinger, |echo| echo.token = Some(token)), Err(Junk::Spoofed));
    }

    #[test]
    fn a_short_quote_is_known_by_its_sequence_number() {
        let mut pinger = Pinger::open().unwrap();
        let token = pinger.token(KEY, 42);
        pinger.recent[usize::from(token.seq())] = KEY.slot;
        let echo = Echo { ident: pinger.ident, seq: token.seq(), token: None };
        let error = Packet::Error { what: "host unreachable", target: TARGET, echo };
        let heard = pinger.recognise(error, Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!((heard.claim, heard.about), (Claim::Short(KEY.slot, token.seq()), TARGET));
        assert!(heard.claim.is_about(Ping { serial: 42, seq: token.seq() }));
        assert!(!heard.claim.is_about(Ping { serial: 42, seq: token.seq() ^ 1 }));
    }
}
