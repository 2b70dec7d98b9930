//! File-system access of the stores in the state directory.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use tokio::task::spawn_blocking;
use tracing::warn;

/// Blocking file operations.
pub trait Disk: Send + Sync + 'static {
    /// Runs blocking work off the runtime's workers; `None` during shutdown.
    fn block<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send;

    /// Creates a directory, unless it exists, and locks it until this process exits. Fails with
    /// [`io::ErrorKind::ResourceBusy`] if another process has the lock.
    fn claim_dir(&mut self, path: &Path) -> io::Result<()>;

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

/// File in a directory whose lock stands for the directory. It stays empty, and the lock ends with the process.
const LOCK: &str = "lock";

/// File system of the host.
#[derive(Debug, Default)]
pub struct SystemDisk {
    /// State directory at the start. The sandbox permits writes in no other.
    first: OnceLock<Option<DirId>>,
    locked: Option<DirLock>,
}

/// Device and inode of a directory.
type DirId = (u64, u64);

/// Locked directory.
#[derive(Debug)]
struct DirLock {
    directory: DirId,
    /// Holds the lock.
    _file: File,
}

impl SystemDisk {
    /// Creates and locks the directory at `path`, unless this process already has. It may be another one than before:
    /// moved, restored from a backup, or below a new mount.
    fn lock_dir(&mut self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o750).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.is_dir() => {
                return Err(error);
            }
            _ => {}
        }
        let directory = dir_id(path)?;
        if self.locked.as_ref().is_none_or(|locked| locked.directory != directory) {
            warn_about_owner(path);
            self.locked = None;
            self.locked = Some(DirLock { directory, _file: lock_file(&path.join(LOCK))? });
        }
        Ok(())
    }
}

/// Warns about a directory whose files another user can replace, and with them the overrides.
fn warn_about_owner(path: &Path) {
    let Ok(metadata) = path.metadata() else { return };
    let (owner, ours) = (metadata.uid(), geteuid().as_raw());
    if (owner != 0 && owner != ours) || metadata.mode() & 0o022 != 0 {
        let directory = path.display();
        warn!(
            %directory, owner, mode = format!("{:o}", metadata.mode() & 0o7777),
            "another user can change the overrides: give the state directory to root or to maglevd's user, with mode 750"
        );
    }
}

fn dir_id(path: &Path) -> io::Result<DirId> {
    path.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Error of a directory in which the sandbox permits no writes.
const REPLACED: &str = "maglevd's sandbox permits writes only in the directory of its start, which is no longer there: put it \
                        back, or note `maglevc show overrides`, restart maglevd and set them again";

/// Creates and locks a file. Some file systems have no locks: there, two processes are not told apart.
fn lock_file(path: &Path) -> io::Result<File> {
    // A file that is open for writing keeps its file system from being remounted read-only.
    let file = open_lock(path, false)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(busy()),
        Err(TryLockError::Error(_)) => {
            // NFS locks only files that are open for writing.
            let file = open_lock(path, true)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(busy()),
                Err(TryLockError::Error(error)) => warn!(
                    file = %path.display(), %error,
                    "cannot lock the state directory: no other maglevd may use it"
                ),
            }
            Ok(file)
        }
    }
}

fn open_lock(path: &Path, write: bool) -> io::Result<File> {
    // Opening a FIFO of that name would block.
    let flags = OFlag::O_CREAT | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    OpenOptions::new().read(true).write(write).mode(0o600).custom_flags(flags.bits()).open(path)
}

fn busy() -> io::Error {
    let message = "another maglevd uses this state directory: stop it, or give each its own --state-dir";
    io::Error::new(io::ErrorKind::ResourceBusy, message)
}

impl Disk for SystemDisk {
    async fn block<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        spawn_blocking(work).await.ok()
    }

    fn claim_dir(&mut self, path: &Path) -> io::Result<()> {
        let claimed = self.lock_dir(path);
        let now = dir_id(path).ok();
        let first = *self.first.get_or_init(|| now);
        match claimed {
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied && (now.is_none() || now != first) =>
            {
                Err(io::Error::new(error.kind(), REPLACED))
            }
            claimed => claimed,
        }
    }

    fn read(&self, path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
        // Opening a FIFO of that name would block.
        let flags = OFlag::O_NONBLOCK.bits();
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
