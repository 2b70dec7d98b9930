//! A faulty link: drops, delays, duplicates, reorders, corrupts and forges packets by rules of a test.
//!
//! It replaces the switch. Random draws come from a seed, in the order of the packets.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};
use uapi::c;

use super::packet::{Packet, SentFrame, complete_checksum};
use super::topology::Lab;

/// Maximum delay before shutdown or a new rule is noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Length of the virtio header before each frame: checksum and segmentation offload.
const PREAMBLE: usize = 10;
/// Maximum frame length.
const MAX_FRAME: usize = PREAMBLE + 14 + 65_536;

/// A rule: returns the frames to send for a packet, in order.
pub type LinkRule = Box<dyn FnMut(&Packet, &mut fastrand::Rng) -> Vec<SentFrame> + Send>;

/// A link between the prober's host and the server's. Dropping it cuts the link.
pub struct FaultyLink {
    rule: Arc<Mutex<LinkRule>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FaultyLink {
    /// Replaces the switch of `lab`. The link is initially perfect.
    ///
    /// # Panics
    /// If the kernel refuses the sockets.
    #[must_use]
    pub fn install(lab: &Lab, seed: u64) -> Self {
        lab.switch.ip("link set p-prober nomaster");
        lab.switch.ip("link set p-server nomaster");
        let ends = lab.switch.inside(|| ["p-prober", "p-server"].map(|port| open_port(port).unwrap()));
        let rule: Arc<Mutex<LinkRule>> = Arc::new(Mutex::new(Box::new(|packet, _| vec![packet.forward()])));
        let ended = Arc::new(AtomicBool::new(false));
        let (stopped, current) = (Arc::clone(&ended), Arc::clone(&rule));
        let random = fastrand::Rng::with_seed(seed);
        let mut forwarder =
            Forwarder { ends, random, delayed: BTreeMap::new(), count: 0, scratch: vec![0; MAX_FRAME] };
        let run = move || {
            while !stopped.load(Ordering::Relaxed) {
                forwarder.run_once(&current);
            }
        };
        Self { rule, ended, thread: Some(thread::spawn(run)) }
    }

    /// Sets the rule for all IP packets except neighbour discovery.
    pub fn set_rule(&self, how: impl FnMut(&Packet, &mut fastrand::Rng) -> Vec<SentFrame> + Send + 'static) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(how);
    }

    /// Makes the link perfect again.
    pub fn clear_rule(&self) {
        self.set_rule(|packet, _| vec![packet.forward()]);
    }
}

impl Drop for FaultyLink {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already failed the test.
            _ = thread.join();
        }
    }
}

/// Opens a packet socket on a port of the switch.
fn open_port(port: &str) -> io::Result<Socket> {
    let all = c::ETH_P_ALL as u16;
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    socket.set_nonblocking(true)?;
    uapi::setsockopt(socket.as_raw_fd(), c::SOL_PACKET, c::PACKET_VNET_HDR, &1_i32)?;
    uapi::setsockopt(socket.as_raw_fd(), c::SOL_PACKET, c::PACKET_IGNORE_OUTGOING, &1_i32)?;
    let mut address: c::sockaddr_ll = uapi::pod_zeroed();
    address.sll_family = c::AF_PACKET as u16;
    address.sll_protocol = all.to_be();
    address.sll_ifindex = if_nametoindex(port)?.cast_signed();
    uapi::bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

/// Delayed frames by due time, with end and contents. A counter keeps frames of the same instant in order.
type DelayQueue = BTreeMap<(Instant, u64), (usize, Vec<u8>)>;

struct Forwarder {
    /// Sockets towards the prober and the server.
    ends: [Socket; 2],
    random: fastrand::Rng,
    delayed: DelayQueue,
    count: u64,
    scratch: Vec<u8>,
}

impl Forwarder {
    fn run_once(&mut self, rule: &Mutex<LinkRule>) {
        for end in 0..2 {
            while let Some(frame) = self.receive(end) {
                self.forward(end, frame, rule);
            }
        }
        let now = Instant::now();
        while let Some(next) = self.delayed.first_entry().filter(|next| next.key().0 <= now) {
            let (end, frame) = next.remove();
            self.send(end, &frame);
        }
        let wait =
            self.delayed.first_key_value().map_or(POLL_INTERVAL, |((at, _), _)| at.duration_since(now));
        let wait = PollTimeout::try_from(wait.min(POLL_INTERVAL).as_millis()).unwrap();
        let mut fds = [&self.ends[0], &self.ends[1]].map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        poll(&mut fds, wait).unwrap();
    }

    fn forward(&mut self, from: usize, mut frame: Vec<u8>, rule: &Mutex<LinkRule>) {
        let whole = complete_checksum(&mut frame, PREAMBLE);
        let packet = whole.then(|| Packet::read(&frame[PREAMBLE..], from == 0)).flatten();
        let Some(packet) = packet else { return self.send(1 - from, &frame) };
        let sent = rule.lock().unwrap_or_else(PoisonError::into_inner)(&packet, &mut self.random);
        for SentFrame { after, back, frame } in sent {
            let end = if back { from } else { 1 - from };
            let frame = [&[0; PREAMBLE][..], &frame].concat();
            if after.is_zero() {
                self.send(end, &frame);
            } else {
                self.count += 1;
                self.delayed.insert((Instant::now() + after, self.count), (end, frame));
            }
        }
    }

    fn receive(&mut self, end: usize) -> Option<Vec<u8>> {
        let frame = uapi::recv(self.ends[end].as_raw_fd(), &mut self.scratch[..], 0).ok()?;
        Some(frame.to_vec())
    }

    /// Sends a frame. A full queue drops it, like a network.
    fn send(&self, end: usize, frame: &[u8]) {
        _ = self.ends[end].send(frame);
    }
}
