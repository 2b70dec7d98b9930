//! File-system access of the stores in the state directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use tokio::task::spawn_blocking;

/// Blocking file operations.
pub trait Disk: Send + Sync + 'static {
    /// Runs blocking work off the runtime's workers; `None` during shutdown.
    fn block<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send;

    /// Creates a directory, unless it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Reads a file of at most `max` bytes; `None` if it does not exist.
    fn read(&self, path: &Path, max: u64) -> io::Result<Option<Vec<u8>>>;

    /// Returns true if `path` exists.
    fn exists(&self, path: &Path) -> bool;

    /// Removes a file, if it exists.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a file and syncs its contents. The directory entry may not be durable yet.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Renames a file, and replaces the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Syncs a directory, which makes its entries durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Replaces the file `name` in `directory` atomically and durably. After an error the previous file is unchanged.
    fn replace(&self, directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = directory.join(format!("{name}.new"));
        // A run that crashed before its rename may have left it.
        self.remove(&new)?;
        let written = self.write(&new, bytes);
        let moved = written.and_then(|()| self.rename(&new, &directory.join(name)));
        if moved.is_err() {
            // A partial file would waste space on a full disk.
            let _ = self.remove(&new);
        }
        moved?;
        // The rename is durable once the directory is synced.
        self.sync_dir(directory)
    }
}

/// File system of the host.
#[derive(Clone, Copy, Debug)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    async fn block<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        spawn_blocking(work).await.ok()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o750).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.is_dir() => Err(error),
            _ => Ok(()),
        }
    }

    fn read(&self, path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
        // Opening a FIFO of that name would block.
        let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            return Err(io::Error::other(format!("larger than {max} bytes")));
        }
        Ok(Some(bytes))
    }

    fn exists(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}
