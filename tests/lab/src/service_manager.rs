//! A fake service manager.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use super::test_dir::TestDir;
use super::{PATIENCE, uninterrupted};

/// Receiver of a daemon's notifications.
pub struct FakeServiceManager(UnixDatagram);

impl FakeServiceManager {
    /// Listens at `notify` in `dir`.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn new(dir: &TestDir) -> Self {
        let path = dir.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        // Same mode as systemd's socket, so that only the sandbox can prevent a notification.
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// Returns the next notification.
    ///
    /// # Panics
    /// On timeout.
    #[must_use]
    pub fn next(&self) -> String {
        let mut buffer = [0; 1000];
        let length = uninterrupted(|| self.0.recv(&mut buffer)).expect("no notification arrived");
        String::from_utf8(buffer[..length].to_vec()).unwrap().trim_end().to_owned()
    }

    /// Waits for a notification that begins with `start`. Returns all notifications up to it.
    ///
    /// # Panics
    /// On timeout.
    pub fn until(&self, start: &str) -> Vec<String> {
        let (begin, mut received) = (Instant::now(), Vec::new());
        loop {
            received.push(self.next());
            if received.last().is_some_and(|last| last.starts_with(start)) {
                return received;
            }
            // Other notifications may arrive without end.
            assert!(begin.elapsed() < PATIENCE, "no {start}; received {received:?}");
        }
    }
}
