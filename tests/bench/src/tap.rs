//! Sees probes arrive that no server is told of: a packet socket on loopback.
//!
//! It takes the packets of some backends only, so that being watched costs a probe next to nothing.

use std::io::{self, IoSliceMut};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::address;
use super::arrivals::Arrivals;

/// How many backends are watched at least, if there are so many.
const WATCHED: u32 = 1000;
/// The kernel keeps what arrives, with its time, until it is looked at.
const GLANCE: Duration = Duration::from_millis(5);
const ROOM: usize = 4 << 20;
const ETH_P_IP: u16 = 0x0800;

/// The first packet of a probe.
#[derive(Clone, Copy, Debug)]
pub enum Packet {
    /// A SYN to this port.
    Syn(u16),
    /// An echo request.
    Echo,
}

/// Watches until dropped.
pub struct Tap {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tap {
    /// Tells `arrivals` of every such `packet`, for some of so many backends.
    ///
    /// # Errors
    /// There is no such socket; it needs `CAP_NET_RAW`.
    pub fn new(packet: Packet, backends: u32, arrivals: Arc<Arrivals>) -> io::Result<Self> {
        let protocol = Protocol::from(i32::from(ETH_P_IP.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
        socket.attach_filter(&filter(packet, sampling(backends)))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::RcvBufForce, &ROOM)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        let ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ended);
        let watch = move || {
            while !told.load(Ordering::Relaxed) {
                thread::sleep(GLANCE);
                while let Some((backend, at)) = take(&socket) {
                    arrivals.saw(backend, at);
                }
            }
        };
        Ok(Self { ended, thread: Some(thread::spawn(watch)) })
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing that could fail.
            _ = thread.join();
        }
    }
}

/// The next packet, if there is one: whose it was, and when.
fn take(socket: &Socket) -> Option<(u32, u64)> {
    let mut packet = [0; 20];
    let mut space = cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(&mut packet)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).ok()?;
    let at = message.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time).as_nanos() as u64),
        _ => None,
    })?;
    let [.., a, b, c, d] = packet;
    Some((address::backend(Ipv4Addr::new(a, b, c, d))?, at))
}

/// The bits of an address that are 0 in those that are watched.
fn sampling(backends: u32) -> u32 {
    let every = (backends / WATCHED).max(1);
    (1 << every.ilog2()) - 1
}

/// A program for the kernel's filter: looks at a packet from its IP header on.
fn filter(packet: Packet, mask: u32) -> Vec<SockFilter> {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    const LOAD_BYTE_BEHIND: u16 = 0x50;
    const LOAD_HALF_BEHIND: u16 = 0x48;
    const AND: u16 = 0x54;
    const IS: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let (protocol, rest): (u32, &[(u16, u32)]) = match packet {
        Packet::Syn(port) => {
            (6, &[(LOAD_HALF_BEHIND, 2), (IS, port.into()), (LOAD_BYTE_BEHIND, 13), (AND, 0x12), (IS, 0x02)])
        }
        Packet::Echo => (1, &[(LOAD_BYTE_BEHIND, 0), (IS, 8)]),
    };
    let mut steps = vec![(LOAD_BYTE, 9), (IS, protocol), (LOAD_WORD, 16), (AND, mask), (IS, 0)];
    steps.push((LOAD_HEADER_LENGTH, 0));
    steps.extend(rest);
    steps.extend([(RETURN, 64), (RETURN, 0)]);
    let last = steps.len() - 1;
    let step = |(at, &(code, value)): (usize, &(u16, u32))| {
        let otherwise = if code == IS { (last - at - 1) as u8 } else { 0 };
        SockFilter::new(code, 0, otherwise, value)
    };
    steps.iter().enumerate().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_backends_at_least_are_watched() {
        assert_eq!([100, 1000, 1999, 2000, 10_000, 50_000].map(sampling), [0, 0, 0, 1, 7, 31]);
    }
}
