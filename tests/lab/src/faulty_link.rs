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

use super::packet::{Packet, complete};
use super::topology::Lab;

/// Maximum delay before shutdown or a new rule is noticed.
const GLANCE: Duration = Duration::from_millis(20);
/// Length of the virtio header before each frame: checksum and segmentation offload.
const PREAMBLE: usize = 10;
/// Maximum frame length.
const ROOM: usize = PREAMBLE + 14 + 65_536;

/// A frame that leaves the link.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Delay after the packet that caused it.
    pub after: Duration,
    /// True if it returns to the sender.
    pub back: bool,
    /// Complete frame.
    pub frame: Vec<u8>,
}

/// A rule: returns the frames to send for a packet, in order.
pub type Treatment = Box<dyn FnMut(&Packet, &mut fastrand::Rng) -> Vec<Sent> + Send>;

/// A link between the prober's host and the server's. Dropping it cuts the link.
pub struct Cable {
    treatment: Arc<Mutex<Treatment>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// Replaces the switch of `lab`. The link is initially perfect.
    ///
    /// # Panics
    /// If the kernel refuses the sockets.
    #[must_use]
    pub fn lay(lab: &Lab, seed: u64) -> Self {
        lab.switch.ip("link set p-prober nomaster");
        lab.switch.ip("link set p-server nomaster");
        let ends = lab.switch.inside(|| ["p-prober", "p-server"].map(|port| end(port).unwrap()));
        let treatment: Arc<Mutex<Treatment>> = Arc::new(Mutex::new(Box::new(|packet, _| vec![packet.on()])));
        let ended = Arc::new(AtomicBool::new(false));
        let (told, treated) = (Arc::clone(&ended), Arc::clone(&treatment));
        let random = fastrand::Rng::with_seed(seed);
        let mut line = Line { ends, random, late: BTreeMap::new(), count: 0, scratch: vec![0; ROOM] };
        let carry = move || {
            while !told.load(Ordering::Relaxed) {
                line.turn(&treated);
            }
        };
        Self { treatment, ended, thread: Some(thread::spawn(carry)) }
    }

    /// Sets the rule for all IP packets except neighbour discovery.
    pub fn treat(&self, how: impl FnMut(&Packet, &mut fastrand::Rng) -> Vec<Sent> + Send + 'static) {
        *self.treatment.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(how);
    }

    /// Makes the link perfect again.
    pub fn mend(&self) {
        self.treat(|packet, _| vec![packet.on()]);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already failed the test.
            _ = thread.join();
        }
    }
}

/// Opens a packet socket on a port of the switch.
fn end(port: &str) -> io::Result<Socket> {
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
type Late = BTreeMap<(Instant, u64), (usize, Vec<u8>)>;

struct Line {
    /// Sockets towards the prober and the server.
    ends: [Socket; 2],
    random: fastrand::Rng,
    late: Late,
    count: u64,
    scratch: Vec<u8>,
}

impl Line {
    fn turn(&mut self, treatment: &Mutex<Treatment>) {
        for end in 0..2 {
            while let Some(frame) = self.take(end) {
                self.carry(end, frame, treatment);
            }
        }
        let now = Instant::now();
        while let Some(next) = self.late.first_entry().filter(|next| next.key().0 <= now) {
            let (end, frame) = next.remove();
            self.put(end, &frame);
        }
        let wait = self.late.first_key_value().map_or(GLANCE, |((at, _), _)| at.duration_since(now));
        let wait = PollTimeout::try_from(wait.min(GLANCE).as_millis()).unwrap();
        let mut fds = [&self.ends[0], &self.ends[1]].map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        poll(&mut fds, wait).unwrap();
    }

    fn carry(&mut self, from: usize, mut frame: Vec<u8>, treatment: &Mutex<Treatment>) {
        let whole = complete(&mut frame, PREAMBLE);
        let packet = whole.then(|| Packet::read(&frame[PREAMBLE..], from == 0)).flatten();
        let Some(packet) = packet else { return self.put(1 - from, &frame) };
        let sent = treatment.lock().unwrap_or_else(PoisonError::into_inner)(&packet, &mut self.random);
        for Sent { after, back, frame } in sent {
            let end = if back { from } else { 1 - from };
            let frame = [&[0; PREAMBLE][..], &frame].concat();
            if after.is_zero() {
                self.put(end, &frame);
            } else {
                self.count += 1;
                self.late.insert((Instant::now() + after, self.count), (end, frame));
            }
        }
    }

    fn take(&mut self, end: usize) -> Option<Vec<u8>> {
        let frame = uapi::recv(self.ends[end].as_raw_fd(), &mut self.scratch[..], 0).ok()?;
        Some(frame.to_vec())
    }

    /// Sends a frame. A full queue drops it, like a network.
    fn put(&self, end: usize, frame: &[u8]) {
        _ = self.ends[end].send(frame);
    }
}
