//! The stats socket: passes the stats segment to each client as a descriptor, and closes the connection.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
};

use super::segment::StatsSegment;
use super::server::SharedProcess;

/// Binds the socket at `path`, and replaces an existing one.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    super::server::clear(path)?;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    socket::bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    socket::listen(&listener, Backlog::new(16)?)?;
    Ok(listener.into())
}

/// Sends the segment to clients until `generation` ends, and increments the heartbeat once a second.
pub(super) fn serve(shared: &SharedProcess, listener: &UnixListener, generation: u32) {
    let mut last_heartbeat = Instant::now();
    loop {
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let waiting = poll(&mut ready, PollTimeout::from(100u8));
        let mut process = shared.lock();
        while process.identity.generation == generation && process.faults.hang {
            process = shared.wait(process);
        }
        if process.identity.generation != generation {
            return;
        }
        if last_heartbeat.elapsed() >= Duration::from_secs(1) {
            last_heartbeat = Instant::now();
            if let Some(segment) = &mut process.segment {
                segment.heartbeats += 1;
            }
            process.publish_stats();
        }
        if matches!(waiting, Ok(1..)) {
            process.publish_stats();
            if let Some(segment) = &process.segment {
                // A client may be gone already.
                _ = send_segment(listener, segment);
            }
        }
    }
}

fn send_segment(listener: &UnixListener, segment: &StatsSegment) -> io::Result<()> {
    let (client, _) = listener.accept()?;
    let files = [segment.file.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&files)];
    sendmsg::<()>(client.as_raw_fd(), &[IoSlice::new(&[])], &message, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}
