//! Raw sockets that send and receive packets in batches. They allocate only when they are opened.

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

use super::drop_counter::DropCounter;
use crate::probe_id::ProbeId;

/// Maximum number of packets per system call.
pub const BATCH: usize = 64;
/// Maximum size of a sent packet, in bytes.
const MAX_SENT: usize = 32;
/// Number of bytes read of a packet: an ICMP error with two full IPv4 headers needs 160.
const MAX_READ: usize = 256;
/// Requested buffer size, in bytes; the kernel grants up to `net.core.rmem_max`.
pub const BUFFER_SIZE: usize = 4 * 1024 * 1024;
/// Stands for a sender without an IP address; never the target of a probe.
const NO_SENDER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A socket, or the reason for its absence.
pub type SocketOrReason = Result<RawSocket, &'static str>;

/// Reason to reject a received packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PacketReject {
    /// Its probe has been answered already.
    Duplicate,
    /// It matches no probe in flight.
    Stray,
    /// Its cookie is wrong, or its sender is not the target.
    Spoofed,
    /// It does not parse.
    Malformed,
}

/// A prober with one raw socket per address family.
pub trait RawProber {
    /// A valid packet.
    type Message;

    /// Reads up to one batch of packets of a family. Returns true if there may be more.
    fn receive(&mut self, v4: bool, messages: &mut Vec<Result<Self::Message, PacketReject>>) -> bool;

    /// Returns the number of packets of a family that the kernel dropped since the last call.
    fn take_dropped(&mut self, v4: bool) -> u32;
}

/// One raw socket, its send queue, and the batch received last.
#[derive(Debug)]
pub struct RawSocket {
    socket: Socket,
    /// True if the kernel delivers packets here.
    is_receiving: bool,
    /// Local address that receives all packets.
    wildcard: IpAddr,
    /// Local address that receives hardly any.
    sink: IpAddr,
    queue: Vec<QueuedPacket>,
    /// Destination of each queued packet.
    destinations: Vec<Option<SockaddrStorage>>,
    /// Headers for packets whose source the kernel chooses.
    plain: Headers,
    /// Headers with room for a source address.
    sourced: Headers,
    incoming: Headers,
    buffers: Box<[[u8; MAX_READ]; BATCH]>,
    /// Sender and length of the packet in each buffer.
    received: Vec<(IpAddr, usize)>,
    drops: DropCounter,
}

type Headers = MultiHeaders<SockaddrStorage>;

#[derive(Debug)]
struct QueuedPacket {
    id: ProbeId,
    source: Option<IpAddr>,
    bytes: [u8; MAX_SENT],
    length: usize,
}

impl RawSocket {
    /// Opens a socket that receives only packets that pass `filter`. Needs `CAP_NET_RAW`, here only.
    ///
    /// # Errors
    /// The socket cannot be set up. Lack of permission is not an error, but the reason in the result.
    pub fn open(
        buffer_size: usize,
        domain: Domain,
        protocol: Protocol,
        filter: &[SockFilter],
    ) -> io::Result<SocketOrReason> {
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = match Socket::new_raw(domain, kind, Some(protocol)) {
            Ok(socket) => socket,
            Err(error) => return unavailable_reason(&error).map(Err).ok_or(error),
        };
        socket.attach_filter(filter)?;
        if domain == Domain::IPV4 {
            // An atomic datagram needs no identification (RFC 6864), and generating one costs the kernel more than the rest
            // of the header.
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
        }
        socket.set_recv_buffer_size(buffer_size)?;
        socket.set_send_buffer_size(BUFFER_SIZE)?;
        // Without this option, as under some emulators, no drops are ever reported.
        let _ = setsockopt(&socket, RxqOvfl, &1);
        let drops = DropCounter::new(socket.recv_buffer_size()?);
        let (wildcard, sink) = if domain == Domain::IPV4 {
            (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(127, 255, 255, 254).into())
        } else {
            (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into())
        };
        let space =
            if domain == Domain::IPV4 { nix::cmsg_space!(in_pktinfo) } else { nix::cmsg_space!(in6_pktinfo) };
        Ok(Ok(Self {
            socket,
            is_receiving: true,
            wildcard,
            sink,
            queue: Vec::with_capacity(BATCH),
            destinations: Vec::with_capacity(BATCH),
            plain: Headers::preallocate(BATCH, None),
            sourced: Headers::preallocate(BATCH, Some(space)),
            incoming: Headers::preallocate(BATCH, None),
            buffers: Box::new([[0; MAX_READ]; BATCH]),
            received: Vec::with_capacity(BATCH),
            drops,
        }))
    }

    /// Enables or disables reception, by binding the socket. The kernel copies each packet of the protocol for every raw
    /// socket before it runs the filter, except for sockets bound to another address.
    ///
    /// # Errors
    /// The system refuses the address; nothing changes.
    pub fn set_receiving(&mut self, is_receiving: bool) -> io::Result<()> {
        if is_receiving != self.is_receiving {
            let address = if is_receiving { self.wildcard } else { self.sink };
            self.socket.bind(&SocketAddr::new(address, 0).into())?;
            self.is_receiving = is_receiving;
        }
        Ok(())
    }

    /// Returns the socket, for epoll.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Queues a packet of probe `id`; [`Self::flush`] sends it. Without `source`, the kernel chooses the source address.
    pub fn queue<const N: usize>(
        &mut self,
        id: ProbeId,
        to: IpAddr,
        source: Option<IpAddr>,
        packet: [u8; N],
    ) {
        const { assert!(N <= MAX_SENT) };
        let mut bytes = [0; MAX_SENT];
        bytes[..N].copy_from_slice(&packet);
        self.queue.push(QueuedPacket { id, source, bytes, length: N });
        self.destinations.push(Some(SocketAddr::new(to, 0).into()));
    }

    /// Returns true if a batch is queued.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= BATCH
    }

    /// Sends the queue. Calls `failed` for each packet that this host could not send: `sendmmsg` stops at the first failure,
    /// and reports it when that packet is the first of a call.
    pub fn flush(&mut self, failed: &mut impl FnMut(ProbeId, Errno)) {
        let mut next = 0;
        while let Some(first) = self.queue.get(next) {
            let (id, source) = (first.id, first.source);
            match self.send_run(next, source) {
                Ok(sent) => next += sent.max(1),
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    // EINVAL is a route of type `blackhole`, or a source address that left this host.
                    let is_blackhole = errno == Errno::EINVAL && source.is_none();
                    failed(id, if is_blackhole { Errno::ENETUNREACH } else { errno });
                    next += 1;
                }
            }
        }
        self.queue.clear();
        self.destinations.clear();
    }

    /// Reads up to one batch. Returns true if there may be more.
    pub fn receive(&mut self) -> bool {
        self.received.clear();
        if self.drops.is_check_pending() {
            self.receive_with_drops();
        }
        let mut slices = self.buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let (fd, rest) = (self.socket.as_raw_fd(), &mut slices[self.received.len()..]);
        if let Ok(packets) = recvmmsg(fd, &mut self.incoming, rest, MsgFlags::MSG_DONTWAIT, None) {
            let senders = packets.map(|packet| (packet.address.as_ref().and_then(ip_address), packet.bytes));
            self.received.extend(senders.map(|(from, length)| (from.unwrap_or(NO_SENDER), length)));
        }
        let has_more = self.received.len() == BATCH;
        self.drops.record_read(self.received.len(), has_more);
        has_more
    }

    /// Reads one packet with the kernel's drop count; the headers of a batch have no room for it.
    fn receive_with_drops(&mut self) {
        let mut slice = [IoSliceMut::new(&mut self.buffers[0])];
        let (fd, control) = (self.socket.as_raw_fd(), Some(self.drops.control_buffer()));
        let Ok(packet) = recvmsg::<SockaddrStorage>(fd, &mut slice, control, MsgFlags::MSG_DONTWAIT) else {
            return;
        };
        let total = packet.cmsgs().ok().into_iter().flatten().find_map(|message| match message {
            ControlMessageOwned::RxqOvfl(dropped) => Some(dropped),
            _ => None,
        });
        let received = (packet.address.as_ref().and_then(ip_address).unwrap_or(NO_SENDER), packet.bytes);
        self.drops.record_total(total);
        self.received.push(received);
    }

    /// Returns the number of packets that the kernel dropped for a full buffer, as far as it has reported them since the
    /// last call.
    pub const fn take_dropped(&mut self) -> u32 {
        self.drops.take_unreported()
    }

    /// Returns the packets of the last [`Self::receive`], with their senders.
    pub fn packets(&self) -> impl Iterator<Item = (IpAddr, &[u8])> {
        let buffers = self.buffers.iter();
        self.received.iter().zip(buffers).map(|((from, length), bytes)| (*from, &bytes[..*length]))
    }

    /// Sends a run of packets with one source, from `first` on: one control message serves a whole call.
    fn send_run(&mut self, first: usize, source: Option<IpAddr>) -> Result<usize, Errno> {
        let rest = self.queue[first..].iter().take(BATCH);
        let run = rest.take_while(|packet| packet.source == source).count();
        let (packets, to) = (&self.queue[first..first + run], &self.destinations[first..first + run]);
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

/// Returns the reason for the lack of a raw socket, if it is a permanent property of this host.
fn unavailable_reason(error: &io::Error) -> Option<&'static str> {
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

fn ip_address(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| v6.ip().into()))
}
