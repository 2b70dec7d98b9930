//! Plays the prober to `maglevd`, or `maglevd` to the prober, and not well.

use std::fs;
use std::path::Path;

use maglev_ipc::{ToController, codec};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{PATIENCE, uninterrupted};

/// Somebody who listens on the prober's socket.
pub struct Impostor(Socket);

impl Impostor {
    /// Listens at `path`, in place of a prober that is dead.
    ///
    /// # Panics
    /// It cannot.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        // There may have been no prober.
        _ = fs::remove_file(path);
        let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        listener.bind(&SockAddr::unix(path).unwrap()).unwrap();
        listener.listen(8).unwrap();
        // This bounds the wait for a connection, too.
        listener.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(listener)
    }

    /// Waits for `maglevd`.
    ///
    /// # Panics
    /// It does not come.
    #[must_use]
    pub fn accept(&self) -> Stranger {
        Stranger(uninterrupted(|| self.0.accept()).expect("maglevd connects to the impostor").0)
    }
}

/// One end of a link that does not keep to the protocol.
pub struct Stranger(Socket);

impl Stranger {
    /// Connects to `path`.
    ///
    /// # Panics
    /// Nobody listens there.
    #[must_use]
    pub fn connect(path: &Path) -> Self {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        socket.connect(&SockAddr::unix(path).unwrap()).unwrap();
        Self(socket)
    }

    /// Sends these bytes as one message.
    ///
    /// # Panics
    /// The other end does not take them.
    pub fn say(&self, bytes: &[u8]) {
        self.0.send(bytes).unwrap();
    }

    /// Sends a message as a prober would.
    ///
    /// # Panics
    /// The other end does not take it.
    pub fn tell(&self, message: &ToController) {
        self.say(&codec::encode(message).unwrap());
    }
}
