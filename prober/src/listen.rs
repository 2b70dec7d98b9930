//! The socket on which controllers come in: from systemd, or made here.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockname, getsockopt, listen,
    socket, sockopt,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{User, chown, getuid};
use socket2::Socket;

/// The user that the controller runs as.
const CONTROLLER: &str = "maglevd";

/// Takes the listening socket that systemd passes.
///
/// # Errors
/// It passes another number of sockets than one, or one of another kind.
pub fn activated() -> anyhow::Result<Option<Socket>> {
    let mut sockets = sd_listen_fds::get().context("LISTEN_FDS")?;
    let Some((_, socket)) = sockets.pop() else { return Ok(None) };
    ensure!(sockets.is_empty(), "systemd passes {} sockets where one is wanted", sockets.len() + 1);
    let socket = socket.into_std();
    let is_listening = getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false);
    let kind = getsockopt(&socket, sockopt::SockType);
    ensure!(
        is_listening && kind == Ok(SockType::SeqPacket),
        "systemd passes a socket that is not of ListenSequentialPacket="
    );
    let socket = Socket::from(socket);
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    Ok(Some(socket))
}

/// Makes the listening socket at `path`, in place of one that nobody listens on any more. Its mode is 0660; root
/// gives it to the controller's group.
///
/// # Errors
/// Somebody listens there, or the file cannot be made.
pub fn at(path: &Path) -> anyhow::Result<Socket> {
    remove_stale(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let before = umask(Mode::from_bits_truncate(0o117));
    let bound = bind(fd.as_raw_fd(), &UnixAddr::new(path)?);
    umask(before);
    bound?;
    if getuid().is_root()
        && let Ok(Some(controller)) = User::from_name(CONTROLLER)
    {
        chown(path, None, Some(controller.gid))?;
    }
    listen(&fd, Backlog::new(8)?)?;
    Ok(fd.into())
}

/// Who may connect: root, whoever started this prober, the controller's user, and the owner of the directory, who
/// could put a socket of their own in the place of ours anyway.
pub fn users(listener: &Socket) -> Vec<u32> {
    let controller = User::from_name(CONTROLLER).ok().flatten().map(|user| user.uid.as_raw());
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
        Ok(metadata) => ensure!(metadata.file_type().is_socket(), "there is a file that is no socket"),
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => Ok(fs::remove_file(path)?),
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => bail!("another process listens there"),
        Err(errno) => Err(errno.into()),
    }
}
