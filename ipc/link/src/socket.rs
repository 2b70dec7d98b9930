//! The socket of the link. It never blocks: both ends wait for it in their own loops.

use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use maglev_ipc::message::MAX_MESSAGE;
use maglev_ipc::{ToController, ToProber};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, recvmsg, sendmsg, socket,
    sockopt,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::codec;

/// The controller's end.
pub type ControllerSocket = MessageSocket<ToProber, ToController>;
/// The prober's end.
pub type ProberSocket = MessageSocket<ToController, ToProber>;

/// A failure of the link. All but [`Error::WouldBlock`] end it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing to read, or no room to write. Wait for the descriptor.
    #[error("would block")]
    WouldBlock,
    /// The peer closed the link.
    #[error("the peer closed the link")]
    Closed,
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer sent bytes that are not a message.
    #[error("malformed message: {0}")]
    Malformed(#[from] codec::Error),
    /// The peer sent a packet larger than [`MAX_MESSAGE`].
    #[error("message larger than {MAX_MESSAGE} bytes")]
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

/// Identity of the peer, as the kernel recorded it when the connection was made (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerCredentials {
    /// Process id.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// One end of a connection, which sends `Out` and receives `In`.
#[derive(Debug)]
pub struct MessageSocket<Out, In> {
    fd: OwnedFd,
    buffer: Vec<u8>,
    direction: PhantomData<fn(Out) -> In>,
}

impl<Out: Serialize, In: DeserializeOwned> MessageSocket<Out, In> {
    /// Wraps a connected socket of type `SOCK_SEQPACKET`.
    ///
    /// # Errors
    /// The socket is of another type, or cannot be made nonblocking.
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

    /// Connects to the socket at `path`. A full accept queue, such as that of a stopped peer, is an error at once.
    ///
    /// # Errors
    /// There is no listener, its queue is full, or this user may not connect.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        match connect(fd.as_raw_fd(), &UnixAddr::new(path)?) {
            Err(Errno::EAGAIN) => Err(io::Error::other("the accept queue is full").into()),
            done => {
                done?;
                Self::new(fd)
            }
        }
    }

    /// Sends one message atomically.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if the peer's queue is full. All others end the link.
    pub fn send(&self, message: &Out) -> Result<(), Error> {
        let bytes = codec::encode(message)?;
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        sendmsg::<UnixAddr>(self.fd.as_raw_fd(), &[IoSlice::new(&bytes)], &[], flags, None)?;
        Ok(())
    }

    /// Receives one message.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if there is none yet. All others end the link.
    pub fn receive(&mut self) -> Result<In, Error> {
        self.buffer.resize(MAX_MESSAGE, 0);
        let (length, truncated) = {
            let mut into = [IoSliceMut::new(&mut self.buffer)];
            let got = recvmsg::<UnixAddr>(self.fd.as_raw_fd(), &mut into, None, MsgFlags::MSG_DONTWAIT)?;
            (got.bytes, got.flags.contains(MsgFlags::MSG_TRUNC))
        };
        match length {
            _ if truncated => Err(Error::TooLarge),
            // Every message has at least one byte, so an empty packet is the end of the stream.
            0 => Err(Error::Closed),
            length => Ok(codec::decode(&self.buffer[..length])?),
        }
    }

    /// Returns the peer's credentials.
    ///
    /// # Errors
    /// `SO_PEERCRED` failed.
    pub fn peer(&self) -> Result<PeerCredentials, Error> {
        let cred = getsockopt(&self.fd, sockopt::PeerCredentials)?;
        Ok(PeerCredentials { pid: cred.pid(), uid: cred.uid(), gid: cred.gid() })
    }
}

impl<Out, In> AsFd for MessageSocket<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<Out, In> AsRawFd for MessageSocket<Out, In> {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{Backlog, bind, listen, socketpair};

    use super::*;

    fn pair() -> (ControllerSocket, ProberSocket, [i32; 2]) {
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let raw = [a.as_raw_fd(), b.as_raw_fd()];
        (MessageSocket::new(a).unwrap(), MessageSocket::new(b).unwrap(), raw)
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
    fn send_to_full_peer_would_block() {
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
    fn oversized_and_malformed_packets_are_distinguished() {
        let (_controller, mut prober, raw) = pair();
        nix::sys::socket::send(raw[0], &vec![0; MAX_MESSAGE + 1], MsgFlags::empty()).unwrap();
        assert!(matches!(prober.receive(), Err(Error::TooLarge)));
        nix::sys::socket::send(raw[0], b"\xff\xff\xff", MsgFlags::empty()).unwrap();
        assert!(matches!(prober.receive(), Err(Error::Malformed(_))));
    }

    #[test]
    fn peer_credentials_are_the_kernels() {
        let (controller, _prober, _) = pair();
        let me = PeerCredentials {
            pid: std::process::id().cast_signed(),
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
        };
        assert_eq!(controller.peer().unwrap(), me);
    }

    #[test]
    fn connect_to_full_queue_fails_at_once() {
        let path = std::env::temp_dir().join(format!("maglev-ipc-link-{}", std::process::id()));
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let connected: Vec<_> = (0..8).map(|_| ControllerSocket::connect(&path)).collect();
        std::fs::remove_file(&path).unwrap();
        assert!(connected[0].is_ok());
        assert!(
            matches!(&connected[7], Err(Error::Io(error)) if error.to_string().contains("queue is full"))
        );
    }

    #[test]
    fn stream_socket_is_refused() {
        let (a, _b) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).unwrap();
        assert!(ControllerSocket::new(a).is_err());
    }
}
