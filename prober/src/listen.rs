//! The listening socket for controllers: from systemd, or created here.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use maglev_sandbox::ServiceUser;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockname, getsockopt, listen,
    socket, sockopt,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{fchownat, getuid};
use socket2::Socket;

/// Returns the listening socket passed by systemd (`LISTEN_FDS`).
///
/// # Errors
/// systemd passes several sockets, or one of another type.
pub fn from_systemd() -> anyhow::Result<Option<Socket>> {
    let mut sockets = sd_listen_fds::get().context("LISTEN_FDS")?;
    let Some((_, socket)) = sockets.pop() else { return Ok(None) };
    ensure!(sockets.is_empty(), "systemd passes {} sockets, expected 1", sockets.len() + 1);
    let socket = socket.into_std();
    let is_listening = getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false);
    let kind = getsockopt(&socket, sockopt::SockType);
    ensure!(
        is_listening && kind == Ok(SockType::SeqPacket),
        "systemd passes a socket of another type than ListenSequentialPacket="
    );
    let socket = Socket::from(socket);
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    Ok(Some(socket))
}

/// Creates the listening socket at `path` with mode 0660, and replaces a stale socket. As root, sets its group to the
/// controller's.
///
/// # Errors
/// Another process listens there, or the socket cannot be created.
pub fn bind_path(path: &Path) -> anyhow::Result<Socket> {
    remove_stale(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let before = umask(Mode::from_bits_truncate(0o117));
    let bound = bind(fd.as_raw_fd(), &UnixAddr::new(path)?);
    umask(before);
    bound?;
    if let (true, Some(controller)) = (getuid().is_root(), ServiceUser::controller()) {
        // A user who may write in the directory may have put a link in the socket's place.
        fchownat(AT_FDCWD, path, None, Some(controller.gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    }
    listen(&fd, Backlog::new(8)?)?;
    Ok(fd.into())
}

/// Returns the users that may connect: root, the user of this process, the controller's user, and the owner of the
/// directory, who could replace the socket anyway.
pub fn allowed_users(listener: &Socket) -> Vec<u32> {
    let controller = ServiceUser::controller().map(|user| user.uid.as_raw());
    let owner = directory(listener).and_then(|dir| fs::metadata(dir).ok()).map(|metadata| metadata.uid());
    [Some(0), Some(getuid().as_raw()), controller, owner].into_iter().flatten().collect()
}

fn directory(listener: &Socket) -> Option<PathBuf> {
    let address: UnixAddr = getsockname(listener.as_raw_fd()).ok()?;
    Some(address.path()?.parent()?.to_owned())
}

fn remove_stale(path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(metadata) => ensure!(metadata.file_type().is_socket(), "file exists and is not a socket"),
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => Ok(fs::remove_file(path)?),
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => bail!("another process listens on this socket"),
        Err(errno) => Err(errno.into()),
    }
}
