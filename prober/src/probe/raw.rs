//! RawSocket sockets, from which packets are sent and received by the batch. Nothing here allocates once it is open.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::RxqOvfl;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, recvmsg,
    sendmmsg, setsockopt,
};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::probe_id::ProbeId;

/// How many packets one system call sends or receives at most.
pub const BATCH: usize = 64;
/// The longest packet that is sent, in bytes.
const LONGEST: usize = 32;
/// The longest packet that is looked at, in bytes: an error with two full IPv4 headers needs 160.
const PACKET: usize = 256;
/// What the kernel may hold for us, in bytes; it grants as much of it as `net.core.rmem_max` allows.
pub const BUFFER: usize = 4 * 1024 * 1024;
/// What the smallest packet takes of that at most, in bytes: what a driver has set aside for it counts.
const ROOM: usize = 8 * 1024;
/// No probe's target.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A socket, or why there is none.
pub type SocketOrReason = Result<RawSocket, &'static str>;

/// One raw socket, what is to be sent from it, and what it received last.
#[derive(Debug)]
pub struct RawSocket {
    socket: Socket,
    /// Whether packets are brought here.
    listens: bool,
    /// Where packets to any address come.
    anywhere: IpAddr,
    /// Where hardly any do.
    nowhere: IpAddr,
    queue: Vec<QueuedPacket>,
    /// Where each of the queue goes.
    to: Vec<Option<SockaddrStorage>>,
    plain: Headers,
    /// Headers with room for a source address.
    sourced: Headers,
    incoming: Headers,
    buffers: Box<[[u8; PACKET]; BATCH]>,
    /// Sender and length of the packet in each buffer.
    received: Vec<(IpAddr, usize)>,
    losses: DropCounter,
}

/// What the kernel has had no room for. With a packet it tells how many it had dropped before that one came in, to whoever
/// has the room for it; so those dropped behind the last of a full buffer are told with the first that comes afterwards.
#[derive(Debug)]
struct DropCounter {
    /// So many packets at once may have been all that there is room for.
    crowd: usize,
    /// So many have been read since there was nothing left to read.
    waiting: usize,
    /// They were a crowd, and the next packet tells what came of it.
    is_open: bool,
    /// How many were dropped in all.
    dropped: u32,
    /// How many of them nobody has asked for.
    news: u32,
    /// Where the kernel tells of them.
    control: Vec<u8>,
}

impl DropCounter {
    fn new(buffer: usize) -> Self {
        let crowd = (buffer / ROOM).max(1);
        Self { crowd, waiting: 0, is_open: false, dropped: 0, news: 0, control: nix::cmsg_space!(u32) }
    }

    const fn count(&mut self, dropped: u32) {
        self.is_open = false;
        self.news = self.news.wrapping_add(dropped.wrapping_sub(self.dropped));
        self.dropped = dropped;
    }

    /// So many packets were read, and there may be more.
    const fn read(&mut self, packets: usize, more: bool) {
        self.waiting += packets;
        if !more {
            self.is_open |= self.waiting >= self.crowd;
            self.waiting = 0;
        }
    }
}

type Headers = MultiHeaders<SockaddrStorage>;

#[derive(Debug)]
struct QueuedPacket {
    key: ProbeId,
    source: Option<IpAddr>,
    bytes: [u8; LONGEST],
    length: usize,
}

impl RawSocket {
    /// Opens a socket that hears only what `filter` lets through, of which the kernel may hold so many bytes. Needs
    /// `CAP_NET_RAW`, and only here.
    ///
    /// # Errors
    /// The socket cannot be set up. One that is not permitted is no error: whoever needs it says so.
    pub fn open(
        buffer: usize,
        domain: Domain,
        protocol: Protocol,
        filter: &[SockFilter],
    ) -> io::Result<SocketOrReason> {
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = match Socket::new_raw(domain, kind, Some(protocol)) {
            Ok(socket) => socket,
            Err(error) => return unavailable(&error).map(Err).ok_or(error),
        };
        socket.attach_filter(filter)?;
        if domain == Domain::IPV4 {
            // What may not be fragmented needs no identification (RFC 6864), and to draw one costs the kernel more than the
            // rest of the header.
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
        }
        socket.set_recv_buffer_size(buffer)?;
        socket.set_send_buffer_size(BUFFER)?;
        // Who is not told of losses knows of none, as under an emulator that has no such option.
        let _ = setsockopt(&socket, RxqOvfl, &1);
        let losses = DropCounter::new(socket.recv_buffer_size()?);
        let (anywhere, nowhere) = if domain == Domain::IPV4 {
            (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(127, 255, 255, 254).into())
        } else {
            (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into())
        };
        let space =
            if domain == Domain::IPV4 { nix::cmsg_space!(in_pktinfo) } else { nix::cmsg_space!(in6_pktinfo) };
        Ok(Ok(Self {
            socket,
            listens: true,
            anywhere,
            nowhere,
            queue: Vec::with_capacity(BATCH),
            to: Vec::with_capacity(BATCH),
            plain: Headers::preallocate(BATCH, None),
            sourced: Headers::preallocate(BATCH, Some(space)),
            incoming: Headers::preallocate(BATCH, None),
            buffers: Box::new([[0; PACKET]; BATCH]),
            received: Vec::with_capacity(BATCH),
            losses,
        }))
    }

    /// Has the kernel bring packets here, or not: it copies each of the protocol for every raw socket before the filter is
    /// asked, but for those that are bound to another address.
    ///
    /// # Errors
    /// The system refuses the address; things stay as they are.
    pub fn listen(&mut self, listens: bool) -> io::Result<()> {
        if listens != self.listens {
            let address = if listens { self.anywhere } else { self.nowhere };
            self.socket.bind(&SocketAddr::new(address, 0).into())?;
            self.listens = listens;
        }
        Ok(())
    }

    /// The socket to wait for.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Queues a packet of the probe `key`; [`Self::flush`] sends it. `None` leaves its source to the kernel.
    pub fn queue<const N: usize>(
        &mut self,
        key: ProbeId,
        to: IpAddr,
        source: Option<IpAddr>,
        packet: [u8; N],
    ) {
        const { assert!(N <= LONGEST) };
        let mut bytes = [0; LONGEST];
        bytes[..N].copy_from_slice(&packet);
        self.queue.push(QueuedPacket { key, source, bytes, length: N });
        self.to.push(Some(SocketAddr::new(to, 0).into()));
    }

    /// Whether a batch is full.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= BATCH
    }

    /// Sends what is queued. Calls `failed` for each packet that this host could not send: the kernel stops at the first
    /// that fails, and reports it when it is the first of a call.
    pub fn flush(&mut self, failed: &mut impl FnMut(ProbeId, Errno)) {
        let mut next = 0;
        while let Some(first) = self.queue.get(next) {
            let (key, source) = (first.key, first.source);
            match self.send(next, source) {
                Ok(sent) => next += sent.max(1),
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    failed(key, errno);
                    next += 1;
                }
            }
        }
        self.queue.clear();
        self.to.clear();
    }

    /// Reads up to one batch. Returns whether there may be more.
    pub fn receive(&mut self) -> bool {
        self.received.clear();
        if self.losses.is_open {
            self.receive_one();
        }
        let mut slices = self.buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let (fd, rest) = (self.socket.as_raw_fd(), &mut slices[self.received.len()..]);
        if let Ok(packets) = recvmmsg(fd, &mut self.incoming, rest, MsgFlags::MSG_DONTWAIT, None) {
            let senders = packets.map(|packet| (packet.address.as_ref().and_then(address), packet.bytes));
            self.received.extend(senders.map(|(from, length)| (from.unwrap_or(NOBODY), length)));
        }
        let more = self.received.len() == BATCH;
        self.losses.read(self.received.len(), more);
        more
    }

    /// Reads one packet, and with it what was dropped: a batch has no room for that.
    fn receive_one(&mut self) {
        let mut slice = [IoSliceMut::new(&mut self.buffers[0])];
        let (fd, control) = (self.socket.as_raw_fd(), Some(self.losses.control.as_mut_slice()));
        let Ok(packet) = recvmsg::<SockaddrStorage>(fd, &mut slice, control, MsgFlags::MSG_DONTWAIT) else {
            return;
        };
        let told = packet.cmsgs().ok().into_iter().flatten().find_map(|told| match told {
            ControlMessageOwned::RxqOvfl(dropped) => Some(dropped),
            _ => None,
        });
        let received = (packet.address.as_ref().and_then(address).unwrap_or(NOBODY), packet.bytes);
        // Nothing is told while there is nothing to tell.
        self.losses.count(told.unwrap_or(0));
        self.received.push(received);
    }

    /// How many packets the kernel has dropped for want of room, as far as it has told since this was last asked.
    pub const fn lost(&mut self) -> u32 {
        std::mem::replace(&mut self.losses.news, 0)
    }

    /// What the last [`Self::receive`] read, with its senders.
    pub fn packets(&self) -> impl Iterator<Item = (IpAddr, &[u8])> {
        let buffers = self.buffers.iter();
        self.received.iter().zip(buffers).map(|((from, length), bytes)| (*from, &bytes[..*length]))
    }

    /// Sends from the `first` of the queue on. One control message serves a whole call, so a batch is a run of packets
    /// with one source.
    fn send(&mut self, first: usize, source: Option<IpAddr>) -> Result<usize, Errno> {
        let rest = self.queue[first..].iter().take(BATCH);
        let run = rest.take_while(|packet| packet.source == source).count();
        let (packets, to) = (&self.queue[first..first + run], &self.to[first..first + run]);
        let slices: [_; BATCH] = array::from_fn(|i| {
            [IoSlice::new(packets.get(i).map_or(&[], |packet| &packet.bytes[..packet.length]))]
        });
        let fd = self.socket.as_raw_fd();
        let send = |headers: &mut Headers, cmsgs: &[ControlMessage<'_>]| {
            Ok(sendmmsg(fd, headers, &slices[..run], to, cmsgs, MsgFlags::MSG_DONTWAIT)?.count())
        };
        match source {
            None => send(&mut self.plain, &[]),
            Some(IpAddr::V4(source)) => {
                send(&mut self.sourced, &[ControlMessage::Ipv4PacketInfo(&pktinfo_v4(source))])
            }
            Some(IpAddr::V6(source)) => {
                send(&mut self.sourced, &[ControlMessage::Ipv6PacketInfo(&pktinfo_v6(source))])
            }
        }
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

fn pktinfo_v4(source: Ipv4Addr) -> in_pktinfo {
    let source = in_addr { s_addr: u32::from_ne_bytes(source.octets()) };
    in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: in_addr { s_addr: 0 } }
}

fn pktinfo_v6(source: Ipv6Addr) -> in6_pktinfo {
    in6_pktinfo { ipi6_addr: in6_addr { s6_addr: source.octets() }, ipi6_ifindex: 0 }
}

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| v6.ip().into()))
}
