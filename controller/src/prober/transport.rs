//! A link to the prober over a socket.

use std::io;
use std::os::fd::AsFd;

use maglev_ipc::{ControllerLink, ToController, ToProber, link};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::MessageTransport;

/// A link to the prober over a socket.
#[derive(Debug)]
pub struct SocketTransport {
    link: ControllerLink,
    /// The link's descriptor, to wait for. tokio has no type for sockets of type `SOCK_SEQPACKET`; all that is asked of
    /// this one is when the link can be read or written.
    readiness: UnixStream,
}

impl SocketTransport {
    /// # Errors
    /// The system has no descriptor left, or nothing to wait with.
    pub fn new(link: ControllerLink) -> io::Result<Self> {
        let readiness = UnixStream::from_std(link.as_fd().try_clone_to_owned()?.into())?;
        Ok(Self { link, readiness })
    }

    /// Tells tokio that the link has nothing more to read, or takes no more.
    fn not_ready(&self, interest: Interest) {
        let _ = self.readiness.try_io(interest, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

impl MessageTransport for SocketTransport {
    fn send(&self, message: &ToProber) -> Result<(), link::Error> {
        let sent = self.link.send(message);
        if let Err(link::Error::WouldBlock) = sent {
            self.not_ready(Interest::WRITABLE);
        }
        sent
    }

    fn receive(&mut self) -> Result<ToController, link::Error> {
        let received = self.link.receive();
        if let Err(link::Error::WouldBlock) = received {
            self.not_ready(Interest::READABLE);
        }
        received
    }

    async fn readable(&self) -> io::Result<()> {
        self.readiness.readable().await
    }

    async fn writable(&self) -> io::Result<()> {
        self.readiness.writable().await
    }
}
