//! The socket from which VPP sends the descriptor of its segment.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::Error;

/// Requests the segment from the stats socket at `path`. Blocks for at most twice `limit`.
pub(super) fn request_segment(path: &Path, limit: Duration) -> Result<File, Error> {
    let failed = |errno: nix::Error| Error::Connect { path: path.to_owned(), reason: errno.into() };
    let socket =
        socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
    let limit = TimeVal::milliseconds(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
    // The send timeout also limits `connect`, for a VPP that does not accept.
    setsockopt(&socket, sockopt::ReceiveTimeout, &limit).map_err(failed)?;
    setsockopt(&socket, sockopt::SendTimeout, &limit).map_err(failed)?;
    let address = UnixAddr::new(path).map_err(failed)?;
    connect(socket.as_raw_fd(), &address).map_err(failed)?;
    receive_descriptor(&socket)
}

/// Receives the descriptor, which VPP sends with an empty message (`SCM_RIGHTS`).
fn receive_descriptor(socket: &OwnedFd) -> Result<File, Error> {
    let mut space = cmsg_space!([i32; 1]);
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut into, Some(&mut space), flags)
        .map_err(io::Error::from)?;
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().map_err(io::Error::from)?.next() else {
        return Err(Error::NoSegment);
    };
    let fd = *fds.first().ok_or(Error::NoSegment)?;
    Ok(File::from(take_ownership(fd)))
}

/// Takes ownership of a descriptor just received. nix returns only its number.
#[expect(
    unsafe_code,
    reason = "the kernel created the descriptor for this message, so it has no other owner"
)]
fn take_ownership(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel created the open descriptor for this message, so it has no other owner.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
