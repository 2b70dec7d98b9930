//! Link to the prober over a socket.

use std::io;
use std::os::fd::AsFd;

use maglev_ipc::{ToController, ToProber};
use maglev_ipc_link as link;
use maglev_ipc_link::ControllerSocket;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::MessageTransport;

/// Link to the prober over a socket.
#[derive(Debug)]
pub struct SocketTransport {
    link: ControllerSocket,
    /// Duplicate of the link's descriptor, for readiness. tokio has no type for `SOCK_SEQPACKET`; this one is never
    /// read or written.
    readiness: UnixStream,
}

impl SocketTransport {
    /// Registers the link with the runtime.
    ///
    /// # Errors
    /// No descriptors, or no runtime.
    pub fn new(link: ControllerSocket) -> io::Result<Self> {
        let readiness = UnixStream::from_std(link.as_fd().try_clone_to_owned()?.into())?;
        Ok(Self { link, readiness })
    }

    /// Clears tokio's readiness after the link would block.
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
