//! The network namespace of the probes, which has a name in a directory.

use std::fs::{self, File, Metadata};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tracing::warn;

/// Directory of the names.
pub const NAMES: &str = "/run/netns";
/// Size of the buffer for events, in bytes: at least one event with the longest name.
const EVENTS: usize = 4096;

/// A watch on the name of the entered namespace. A process in a namespace keeps it alive after its name is deleted, without the
/// links that have moved to the next one of the same name.
#[derive(Debug)]
pub struct NamespaceWatch {
    events: OwnedFd,
    name: String,
}

impl NamespaceWatch {
    /// Begins to watch a name in a directory.
    ///
    /// # Errors
    /// The directory does not exist, or the system has no resources for it.
    pub fn new(directory: &Path, name: &str) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let made = WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&events, directory, made | WatchFlags::DELETE | WatchFlags::ONLYDIR)?;
        Ok(Self { events, name: name.to_owned() })
    }

    /// Reads the events. Returns true if another namespace has got the name.
    pub fn is_replaced(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut reader = Reader::new(&self.events, &mut buffer);
        while let Ok(event) = reader.next() {
            if event.file_name().is_none_or(|name| name.to_bytes() != self.name.as_bytes()) {
                continue;
            }
            if !event.events().contains(ReadFlags::DELETE) {
                return true;
            }
            warn!("network namespace {} was deleted, probes go on in it", self.name);
        }
        false
    }
}

impl AsFd for NamespaceWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// Enters a network namespace. Needs CAP_SYS_ADMIN, unless the process is in it, as systemd's `NetworkNamespacePath=` has it.
///
/// # Errors
/// There is none of this name, or no permission.
pub fn enter(name: &str) -> io::Result<()> {
    let namespace = File::open(Path::new(NAMES).join(name))?;
    let identity = |file: &Metadata| (file.dev(), file.ino());
    if identity(&namespace.metadata()?) == identity(&fs::metadata("/proc/thread-self/ns/net")?) {
        return Ok(());
    }
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_namespace_of_the_name_replaces() {
        let names = tempfile::tempdir().unwrap();
        let path = |name: &str| names.path().join(name);
        fs::write(path("blue"), "").unwrap();
        let watch = NamespaceWatch::new(names.path(), "blue").unwrap();
        fs::write(path("green"), "").unwrap();
        fs::remove_file(path("blue")).unwrap();
        assert!(!watch.is_replaced());
        fs::write(path("blue"), "").unwrap();
        assert!(watch.is_replaced());
        assert!(!watch.is_replaced());
        fs::rename(path("green"), path("blue")).unwrap();
        assert!(watch.is_replaced());
    }
}
