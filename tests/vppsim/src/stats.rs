//! The stats socket: each connection is given a memory file and closed.
//!
//! The file has the layout of VPP's stats segment, version 2, with the entries that tell whether VPP lives and since when,
//! and the counters of the plugin and of its routes, of one thread.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use maglev_vpp::stats::{
    BOOT_TIME, FIRST_PACKETS, NEXT_PACKETS, NO_SERVER_PACKETS, ROUTE_TO, ROUTE_VIA, Traffic,
    UNTRACKED_PACKETS,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    self, AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
};

use super::faults::Faults;
use super::plugin::Plugin;
use super::server::Shared;

/// What the file is called where a process shows what it has open.
pub const STATS_SEGMENT: &str = "vppsim-stats";
/// The least size of the file.
const SIZE: u64 = 64 << 10;
/// Where VPP believes the segment begins in its memory.
const BASE: u64 = 0x1_3000_0000;
const DIRECTORY: usize = 4096;
const VECTORS: usize = 8192;
const ENTRY: usize = 144;
const SCALAR: u32 = 1;
const SIMPLE: u32 = 2;
const COMBINED: u32 = 3;
const HEARTBEAT: &str = "/sys/heartbeat";
const VERSION: u64 = 2;

/// The segment of one life.
pub(super) struct Segment {
    file: File,
    boot_time: u64,
    beats: u64,
    epoch: u64,
    /// How many VIPs and routes there is room for, and how often everything was moved: VPP counts an epoch when one of
    /// them changes.
    shape: [usize; 3],
    moves: usize,
}

impl Segment {
    pub fn new(boot_time: u64) -> io::Result<Self> {
        let file = File::from(memfd_create(STATS_SEGMENT, MFdFlags::MFD_CLOEXEC)?);
        Ok(Self { file, boot_time, beats: 0, epoch: 1, shape: [0; 3], moves: 0 })
    }

    /// Moves all vectors to another place.
    pub fn shift(&mut self) {
        self.moves += 1;
    }

    /// Writes what the plugin has counted. What is new is there from now on.
    pub fn publish(&mut self, plugin: &Plugin, faults: &Faults) -> io::Result<()> {
        let mut image = Image { bytes: vec![0; VECTORS + self.moves * 64], entries: 0 };
        image.scalar(BOOT_TIME, self.boot_time);
        image.scalar(HEARTBEAT, self.beats);
        let [to, via] = plugin.fib.counters();
        let vips: Vec<[u64; 4]> = plugin.vips.all().map(|vip| vip.packets).collect();
        image.combined(ROUTE_TO, &to);
        image.combined(ROUTE_VIA, &via);
        // The first VIP beside the hidden one makes them.
        if vips.len() > 1 {
            let names = [NEXT_PACKETS, FIRST_PACKETS, UNTRACKED_PACKETS, NO_SERVER_PACKETS];
            for (fate, name) in names.into_iter().enumerate() {
                image.simple(name, vips.iter().map(|packets| packets[fate]));
            }
        }
        let shape = [vips.len(), to.len(), self.moves];
        let restless = faults.stats_restless || shape != self.shape;
        self.file.set_len(SIZE.max(image.bytes.len() as u64))?;
        self.header(restless)?;
        self.file.write_all_at(&image.bytes[DIRECTORY - 8..], DIRECTORY as u64 - 8)?;
        self.epoch += u64::from(shape != self.shape);
        self.shape = shape;
        self.header(faults.stats_restless)?;
        faults.stats_size.map_or(Ok(()), |size| self.file.set_len(size))
    }

    fn header(&self, in_progress: bool) -> io::Result<()> {
        let directory = BASE + DIRECTORY as u64;
        let words = [VERSION, BASE, self.epoch, u64::from(in_progress), directory];
        self.file.write_all_at(&words.map(u64::to_le_bytes).concat(), 0)
    }
}

/// The file under construction; the header comes last.
struct Image {
    bytes: Vec<u8>,
    entries: usize,
}

impl Image {
    fn scalar(&mut self, name: &str, value: u64) {
        self.entry(SCALAR, value, name);
    }

    fn simple(&mut self, name: &str, row: impl Iterator<Item = u64>) {
        let row: Vec<u64> = row.collect();
        self.counters(SIMPLE, name, row.len(), &row);
    }

    fn combined(&mut self, name: &str, row: &[Traffic]) {
        let words: Vec<u64> = row.iter().flat_map(|traffic| [traffic.packets, traffic.bytes]).collect();
        self.counters(COMBINED, name, row.len(), &words);
    }

    fn counters(&mut self, kind: u32, name: &str, length: usize, words: &[u64]) {
        let row = self.vector(length, words);
        let rows = self.vector(1, &[row]);
        self.entry(kind, rows, name);
    }

    /// Appends a vector, and returns its address. Its length precedes its first element.
    fn vector(&mut self, length: usize, words: &[u64]) -> u64 {
        self.bytes.extend((length as u64).to_le_bytes());
        let address = BASE + self.bytes.len() as u64;
        self.bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        address
    }

    fn entry(&mut self, kind: u32, value: u64, name: &str) {
        let at = DIRECTORY + self.entries * ENTRY;
        self.bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        self.bytes[at + 8..at + 16].copy_from_slice(&value.to_le_bytes());
        self.bytes[at + 16..at + 16 + name.len()].copy_from_slice(name.as_bytes());
        self.entries += 1;
        self.bytes[DIRECTORY - 8..DIRECTORY].copy_from_slice(&(self.entries as u64).to_le_bytes());
    }
}

/// Binds the socket at `path`, whatever was there before.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    super::server::clear(path)?;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    socket::bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    socket::listen(&listener, Backlog::new(16)?)?;
    Ok(listener.into())
}

/// Hands out the segment for as long as `life` lasts, and beats its heart once a second.
pub(super) fn serve(shared: &Shared, listener: &UnixListener, life: u32) {
    let mut beaten = Instant::now();
    loop {
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let waiting = poll(&mut ready, PollTimeout::from(100u8));
        let mut world = shared.lock();
        while world.birth.life == life && world.faults.hang {
            world = shared.wait(world);
        }
        if world.birth.life != life {
            return;
        }
        if beaten.elapsed() >= Duration::from_secs(1) {
            beaten = Instant::now();
            if let Some(segment) = &mut world.segment {
                segment.beats += 1;
            }
            world.publish();
        }
        if matches!(waiting, Ok(1..)) {
            world.publish();
            if let Some(segment) = &world.segment {
                // A client that has gone away meanwhile is its own loss.
                _ = hand_out(listener, segment);
            }
        }
    }
}

fn hand_out(listener: &UnixListener, segment: &Segment) -> io::Result<()> {
    let (client, _) = listener.accept()?;
    let files = [segment.file.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&files)];
    sendmsg::<()>(client.as_raw_fd(), &[IoSlice::new(&[])], &message, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}
