//! Observer of probes that no server sees: a packet socket on loopback.
//!
//! It samples some backends only, so that the observation hardly adds cost per probe.

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

/// Minimum number of sampled backends, if there are that many.
const WATCHED: u32 = 1000;
/// Poll interval. The kernel queues packets with their time stamps.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const ROOM: usize = 4 << 20;
const ETH_P_IP: u16 = 0x0800;

/// First packet of a probe.
#[derive(Clone, Copy, Debug)]
pub enum ProbePacket {
    /// SYN to this port.
    Syn(u16),
    /// Echo request.
    Echo,
}

/// A running observer. Ended on drop.
pub struct ProbeTap {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ProbeTap {
    /// Records every such `packet` in `arrivals`, for a sample of the backends.
    ///
    /// # Errors
    /// If the socket cannot be opened, which needs `CAP_NET_RAW`.
    pub fn new(packet: ProbePacket, backends: u32, arrivals: Arc<Arrivals>) -> io::Result<Self> {
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
                thread::sleep(POLL_INTERVAL);
                while let Some((backend, at)) = take(&socket) {
                    arrivals.saw(backend, at);
                }
            }
        };
        Ok(Self { ended, thread: Some(thread::spawn(watch)) })
    }
}

impl Drop for ProbeTap {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread cannot fail.
            _ = thread.join();
        }
    }
}

/// Returns the backend and time of the next packet.
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

/// Returns the address bits that are 0 in sampled backends.
fn sampling(backends: u32) -> u32 {
    let every = (backends / WATCHED).max(1);
    (1 << every.ilog2()) - 1
}

/// Returns a BPF program that matches a packet from its IP header on.
fn filter(packet: ProbePacket, mask: u32) -> Vec<SockFilter> {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    const LOAD_BYTE_BEHIND: u16 = 0x50;
    const LOAD_HALF_BEHIND: u16 = 0x48;
    const AND: u16 = 0x54;
    const IS: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let (protocol, rest): (u32, &[(u16, u32)]) = match packet {
        ProbePacket::Syn(port) => {
            (6, &[(LOAD_HALF_BEHIND, 2), (IS, port.into()), (LOAD_BYTE_BEHIND, 13), (AND, 0x12), (IS, 0x02)])
        }
        ProbePacket::Echo => (1, &[(LOAD_BYTE_BEHIND, 0), (IS, 8)]),
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
    fn at_least_a_thousand_backends_are_sampled() {
        assert_eq!([100, 1000, 1999, 2000, 10_000, 50_000].map(sampling), [0, 0, 0, 1, 7, 31]);
    }
}
