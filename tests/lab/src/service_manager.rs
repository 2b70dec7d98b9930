//! Plays the service manager to a daemon.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use super::test_dir::Place;
use super::{PATIENCE, uninterrupted};

/// What a daemon tells its service manager.
pub struct Manager(UnixDatagram);

impl Manager {
    /// Listens at `notify` in `place`.
    ///
    /// # Panics
    /// It cannot.
    #[must_use]
    pub fn new(place: &Place) -> Self {
        let path = place.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        // As systemd's is, so that whoever should not speak does not for other reasons.
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next thing that it is told.
    ///
    /// # Panics
    /// It is told nothing.
    #[must_use]
    pub fn next(&self) -> String {
        let mut buffer = [0; 1000];
        let length = uninterrupted(|| self.0.recv(&mut buffer)).expect("something is told");
        String::from_utf8(buffer[..length].to_vec()).unwrap().trim_end().to_owned()
    }

    /// Waits until it is told something that begins with `start`, and returns what it was told before, and that.
    ///
    /// # Panics
    /// It is not.
    pub fn until(&self, start: &str) -> Vec<String> {
        let (begin, mut told) = (Instant::now(), Vec::new());
        loop {
            told.push(self.next());
            if told.last().is_some_and(|last| last.starts_with(start)) {
                return told;
            }
            // It may be told of other things for ever.
            assert!(begin.elapsed() < PATIENCE, "{start} was to be told, and not {told:?}");
        }
    }
}
