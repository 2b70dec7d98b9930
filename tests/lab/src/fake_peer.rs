//! Misbehaving peers of `maglevd` and of the prober.

use std::fs;
use std::path::Path;

use maglev_ipc::ToController;
use maglev_ipc_link::codec;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{PATIENCE, uninterrupted};

/// A listener on the prober's socket that violates the protocol.
pub struct FakeProber(Socket);

impl FakeProber {
    /// Listens at `path` in place of a dead prober.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn listen(path: &Path) -> Self {
        // There may have been no prober.
        _ = fs::remove_file(path);
        let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        listener.bind(&SockAddr::unix(path).unwrap()).unwrap();
        listener.listen(8).unwrap();
        // Also bounds the wait for a connection.
        listener.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(listener)
    }

    /// Waits for a connection of `maglevd`.
    ///
    /// # Panics
    /// If it does not connect.
    #[must_use]
    pub fn accept(&self) -> FakePeer {
        FakePeer(uninterrupted(|| self.0.accept()).expect("maglevd connects to the fake prober").0)
    }
}

/// One end of a link that violates the protocol.
pub struct FakePeer(Socket);

impl FakePeer {
    /// Connects to `path`.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn connect(path: &Path) -> Self {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        socket.connect(&SockAddr::unix(path).unwrap()).unwrap();
        Self(socket)
    }

    /// Sends these bytes as one message.
    ///
    /// # Panics
    /// If that fails.
    pub fn send_bytes(&self, bytes: &[u8]) {
        self.0.send(bytes).unwrap();
    }

    /// Sends a valid message of a prober.
    ///
    /// # Panics
    /// If that fails.
    pub fn send(&self, message: &ToController) {
        self.send_bytes(&codec::encode(message).unwrap());
    }
}
