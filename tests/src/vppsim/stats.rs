//! The stats socket: each connection is given a memory file and closed.
//!
//! The file has the layout of VPP's stats segment, version 2, with the two entries that tell whether VPP lives and
//! since when.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    self, AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
};

use super::server::Shared;

const SIZE: u64 = 64 << 10;
/// Where VPP believes the segment begins in its memory.
const BASE: u64 = 0x1_3000_0000;
const DIRECTORY: u64 = 4096;
const ENTRY: u64 = 144;
const SCALAR: u32 = 1;
const BOOT_TIME: u64 = 0;
const HEARTBEAT: u64 = 1;

/// The segment.
pub(super) struct Segment(File);

impl Segment {
    pub fn new(boot_time: u64) -> io::Result<Self> {
        let file = File::from(memfd_create("vppsim-stats", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(SIZE)?;
        let segment = Self(file);
        // A vector's length precedes its first element.
        segment.write(DIRECTORY - 8, &2u32.to_le_bytes())?;
        segment.entry(BOOT_TIME, "/sys/boottime", boot_time)?;
        segment.entry(HEARTBEAT, "/sys/heartbeat", 0)?;
        let (version, epoch, in_progress) = (2, 1, 0);
        for (word, value) in (0..).zip([version, BASE, epoch, in_progress, BASE + DIRECTORY]) {
            segment.write(word * 8, &u64::to_le_bytes(value))?;
        }
        Ok(segment)
    }

    fn beat(&self, count: u64) -> io::Result<()> {
        self.write(DIRECTORY + HEARTBEAT * ENTRY + 8, &count.to_le_bytes())
    }

    fn entry(&self, index: u64, name: &str, value: u64) -> io::Result<()> {
        let at = DIRECTORY + index * ENTRY;
        self.write(at, &SCALAR.to_le_bytes())?;
        self.write(at + 8, &value.to_le_bytes())?;
        self.write(at + 16, name.as_bytes())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
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
pub(super) fn serve(shared: &Shared, listener: &UnixListener, segment: &Segment, life: u32) {
    let (mut beats, mut beaten) = (0, Instant::now());
    loop {
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let waiting = poll(&mut ready, PollTimeout::from(100u8));
        let mut world = shared.lock();
        while world.life == life && world.faults.hang {
            world = shared.wait(world);
        }
        if world.life != life {
            return;
        }
        drop(world);
        if beaten.elapsed() >= Duration::from_secs(1) {
            (beats, beaten) = (beats + 1, Instant::now());
            _ = segment.beat(beats);
        }
        if matches!(waiting, Ok(1..)) {
            // A client that has gone away meanwhile is its own loss.
            _ = hand_out(listener, segment);
        }
    }
}

fn hand_out(listener: &UnixListener, segment: &Segment) -> io::Result<()> {
    let (client, _) = listener.accept()?;
    let files = [segment.0.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&files)];
    sendmsg::<()>(client.as_raw_fd(), &[IoSlice::new(&[])], &message, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}
