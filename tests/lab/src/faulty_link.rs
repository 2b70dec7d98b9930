//! A cable that can be bad: it loses, delays, doubles, mixes up, spoils and forges what passes, by rules that a test lays down.
//!
//! It stands in the place of the switch. What is drawn is drawn from a seed, in the order in which packets come.

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

/// How soon the end, and another treatment, are noticed at the latest.
const GLANCE: Duration = Duration::from_millis(20);
/// What the kernel puts before each frame: which checksum is still to be computed, and into what the frame is to be cut.
const PREAMBLE: usize = 10;
/// No frame is longer.
const ROOM: usize = PREAMBLE + 14 + 65_536;

/// Something that leaves the cable.
#[derive(Clone, Debug)]
pub struct Sent {
    /// How long after what caused it came in.
    pub after: Duration,
    /// Back to where that came from, and not on.
    pub back: bool,
    /// The whole frame.
    pub frame: Vec<u8>,
}

/// What becomes of a packet: what leaves the cable for it, in that order.
pub type Treatment = Box<dyn FnMut(&Packet, &mut fastrand::Rng) -> Vec<Sent> + Send>;

/// A cable between the prober's host and the server's. It goes when dropped, and nothing passes any more.
pub struct Cable {
    treatment: Arc<Mutex<Treatment>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// Takes the place of the switch in `lab`. It is a good one at first.
    ///
    /// # Panics
    /// The kernel does not let us.
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

    /// Treats every IP packet so from now on, but for what neighbours find each other by.
    pub fn treat(&self, how: impl FnMut(&Packet, &mut fastrand::Rng) -> Vec<Sent> + Send + 'static) {
        *self.treatment.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(how);
    }

    /// Is a good cable again.
    pub fn mend(&self) {
        self.treat(|packet, _| vec![packet.on()]);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // If it panicked, its test has waited in vain.
            _ = thread.join();
        }
    }
}

/// What a port of the switch is held by.
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

/// What is to leave later, by when: at which end, and what. Of two that leave at once, the one that came first is first.
type Late = BTreeMap<(Instant, u64), (usize, Vec<u8>)>;

struct Line {
    /// The prober's, and the server's.
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

    /// What the other end has no room for, or what is no frame, is lost.
    fn put(&self, end: usize, frame: &[u8]) {
        _ = self.ends[end].send(frame);
    }
}
