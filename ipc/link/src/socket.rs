//! The socket between the two processes. It never blocks: both ends wait in loops of their own.

use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, recvmsg, sendmsg, socket,
    sockopt,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::codec;
use crate::message::{ToController, ToProber};

/// The controller's end.
pub type ControllerLink = Link<ToProber, ToController>;
/// The prober's end.
pub type ProberLink = Link<ToController, ToProber>;

/// What goes wrong on a link. Every one of these but [`Error::WouldBlock`] ends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing to read, or no room to write; wait for the descriptor.
    #[error("would block")]
    WouldBlock,
    /// The other end has closed.
    #[error("the other end has closed the link")]
    Closed,
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other end does not keep to the protocol.
    #[error("malformed message: {0}")]
    Malformed(#[from] codec::Error),
    /// The other end sent more than a message may hold.
    #[error("a message of more than {} bytes", codec::MAX)]
    TooLarge,
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EAGAIN => Self::WouldBlock,
            Errno::ECONNRESET | Errno::EPIPE => Self::Closed,
            other => Self::Io(other.into()),
        }
    }
}

/// Who is at the other end, by the kernel's word (`SO_PEERCRED`), taken when the connection was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerCredentials {
    /// Process.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// One end of a connection, which sends `Out` and receives `In`.
#[derive(Debug)]
pub struct Link<Out, In> {
    fd: OwnedFd,
    buffer: Vec<u8>,
    direction: PhantomData<fn(Out) -> In>,
}

impl<Out: Serialize, In: DeserializeOwned> Link<Out, In> {
    /// Takes over a connected socket of type `SOCK_SEQPACKET`.
    ///
    /// # Errors
    /// The socket is of another type, or cannot be set not to block.
    pub fn new(fd: OwnedFd) -> Result<Self, Error> {
        if getsockopt(&fd, sockopt::SockType)? != SockType::SeqPacket {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the socket is not of type SOCK_SEQPACKET",
            )
            .into());
        }
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(flags))?;
        Ok(Self { fd, buffer: Vec::new(), direction: PhantomData })
    }

    /// Connects to the socket at `path`. Never waits: an end that is stopped, and whose queue is full, is an error.
    ///
    /// # Errors
    /// Nobody listens there, nobody accepts, or this user may not connect.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        match connect(fd.as_raw_fd(), &UnixAddr::new(path)?) {
            Err(Errno::EAGAIN) => {
                Err(io::Error::other("connections are not accepted: the queue is full").into())
            }
            done => {
                done?;
                Self::new(fd)
            }
        }
    }

    /// Sends one message, whole or not at all.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] when the other end does not keep up; all others end the link.
    pub fn send(&self, message: &Out) -> Result<(), Error> {
        let bytes = codec::encode(message)?;
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        sendmsg::<UnixAddr>(self.fd.as_raw_fd(), &[IoSlice::new(&bytes)], &[], flags, None)?;
        Ok(())
    }

    /// Receives one message.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] when there is none yet; all others end the link.
    pub fn receive(&mut self) -> Result<In, Error> {
        self.buffer.resize(codec::MAX, 0);
        let (length, truncated) = {
            let mut into = [IoSliceMut::new(&mut self.buffer)];
            let got = recvmsg::<UnixAddr>(self.fd.as_raw_fd(), &mut into, None, MsgFlags::MSG_DONTWAIT)?;
            (got.bytes, got.flags.contains(MsgFlags::MSG_TRUNC))
        };
        match length {
            _ if truncated => Err(Error::TooLarge),
            // No message is empty, so this is the end of the stream.
            0 => Err(Error::Closed),
            length => Ok(codec::decode(&self.buffer[..length])?),
        }
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn peer(&self) -> Result<PeerCredentials, Error> {
        let cred = getsockopt(&self.fd, sockopt::PeerCredentials)?;
        Ok(PeerCredentials { pid: cred.pid(), uid: cred.uid(), gid: cred.gid() })
    }
}

impl<Out, In> AsFd for Link<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<Out, In> AsRawFd for Link<Out, In> {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{Backlog, bind, listen, socketpair};

    use super::*;

    fn pair() -> (ControllerLink, ProberLink, [i32; 2]) {
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let raw = [a.as_raw_fd(), b.as_raw_fd()];
        (Link::new(a).unwrap(), Link::new(b).unwrap(), raw)
    }

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let (controller, mut prober, _) = pair();
        controller.send(&ToProber::Begin { generation: 1 }).unwrap();
        controller.send(&ToProber::Commit { generation: 1 }).unwrap();
        assert_eq!(prober.receive().unwrap(), ToProber::Begin { generation: 1 });
        assert_eq!(prober.receive().unwrap(), ToProber::Commit { generation: 1 });
        assert!(matches!(prober.receive(), Err(Error::WouldBlock)));
        drop(controller);
        assert!(matches!(prober.receive(), Err(Error::Closed)));
    }

    #[test]
    fn an_end_that_does_not_read_is_not_waited_for() {
        let (controller, mut prober, _) = pair();
        let mut sent = 0;
        while controller.send(&ToProber::Begin { generation: sent }).is_ok() {
            sent += 1;
        }
        assert!(matches!(controller.send(&ToProber::Heartbeat), Err(Error::WouldBlock)));
        for generation in 0..sent {
            assert_eq!(prober.receive().unwrap(), ToProber::Begin { generation });
        }
    }

    #[test]
    fn too_large_and_malformed_are_told_apart() {
        let (_controller, mut prober, raw) = pair();
        nix::sys::socket::send(raw[0], &vec![0; codec::MAX + 1], MsgFlags::empty()).unwrap();
        assert!(matches!(prober.receive(), Err(Error::TooLarge)));
        nix::sys::socket::send(raw[0], b"\xff\xff\xff", MsgFlags::empty()).unwrap();
        assert!(matches!(prober.receive(), Err(Error::Malformed(_))));
    }

    #[test]
    fn the_peer_is_who_the_kernel_says() {
        let (controller, _prober, _) = pair();
        let me = PeerCredentials {
            pid: std::process::id().cast_signed(),
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
        };
        assert_eq!(controller.peer().unwrap(), me);
    }

    #[test]
    fn an_end_that_accepts_nobody_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("maglev-ipc-{}", std::process::id()));
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let connected: Vec<_> = (0..8).map(|_| ControllerLink::connect(&path)).collect();
        std::fs::remove_file(&path).unwrap();
        assert!(connected[0].is_ok());
        assert!(
            matches!(&connected[7], Err(Error::Io(error)) if error.to_string().contains("queue is full"))
        );
    }

    #[test]
    fn a_stream_socket_is_refused() {
        let (a, _b) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).unwrap();
        assert!(ControllerLink::new(a).is_err());
    }
}
