//! A model of the disk for overrides. A power cut loses unsynced changes, and writes can fail.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use maglevd::overrides::Disk;
use nix::errno::Errno;
use tokio::time::sleep;

use super::process::SimProcess;

/// Duration of a call.
const CALL_DELAY: Duration = Duration::from_millis(5);

/// The disk, which outlives the processes.
#[derive(Clone, Debug)]
pub struct DiskModel(Arc<Mutex<DiskState>>);

#[derive(Debug)]
struct DiskState {
    rng: Rng,
    /// Files as processes see them.
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Files that survive a power cut. Some of `unsynced` may survive as well.
    durable: BTreeMap<PathBuf, Vec<u8>>,
    /// Changes since the last sync of the directory, in order.
    unsynced: Vec<DiskChange>,
    /// Error of the next calls, and their number.
    failure: Option<(Errno, u32)>,
}

#[derive(Clone, Debug)]
enum DiskChange {
    Written(PathBuf, Vec<u8>),
    Removed(PathBuf),
    Renamed(PathBuf, PathBuf),
}

impl DiskModel {
    /// Returns an empty disk.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(DiskState {
            rng: Rng::with_seed(seed),
            files: BTreeMap::new(),
            durable: BTreeMap::new(),
            unsynced: Vec::new(),
            failure: None,
        })))
    }

    /// Returns the disk as `process` sees it.
    pub fn mount(&self, process: &Arc<SimProcess>) -> MountedDisk {
        MountedDisk { disk: self.clone(), process: Arc::clone(process) }
    }

    /// Makes the next write calls fail.
    pub fn fail(&self, errno: Errno, times: u32) {
        self.lock().failure = Some((errno, times));
    }

    /// Cuts the power. A prefix of the unsynced changes survives.
    pub fn cut_power(&self) {
        let mut state = self.lock();
        let unsynced = std::mem::take(&mut state.unsynced);
        let survivors = state.rng.usize(0..=unsynced.len());
        let mut files = std::mem::take(&mut state.durable);
        unsynced.iter().take(survivors).for_each(|change| apply(change, &mut files));
        state.durable.clone_from(&files);
        state.files = files;
    }

    fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(change: &DiskChange, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    match change {
        DiskChange::Written(path, bytes) => _ = files.insert(path.clone(), bytes.clone()),
        DiskChange::Removed(path) => _ = files.remove(path),
        DiskChange::Renamed(from, to) => {
            if let Some(bytes) = files.remove(from) {
                files.insert(to.clone(), bytes);
            }
        }
    }
}

/// The disk as one process sees it.
#[derive(Clone, Debug)]
pub struct MountedDisk {
    disk: DiskModel,
    process: Arc<SimProcess>,
}

impl MountedDisk {
    /// Starts a write call, which may fail. An exited process makes none.
    fn write_call(&self) -> io::Result<MutexGuard<'_, DiskState>> {
        if !self.process.take_effect() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut state = self.disk.lock();
        if let Some((errno, times)) = &mut state.failure {
            let errno = *errno;
            *times -= 1;
            if *times == 0 {
                state.failure = None;
            }
            return Err(errno.into());
        }
        Ok(state)
    }

    fn change(&self, change: DiskChange) -> io::Result<()> {
        let mut state = self.write_call()?;
        apply(&change, &mut state.files);
        state.unsynced.push(change);
        Ok(())
    }
}

impl Disk for MountedDisk {
    async fn block<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        sleep(CALL_DELAY).await;
        Some(work())
    }

    fn claim_dir(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn read(&self, path: &Path, _: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.disk.lock().files.get(path).cloned())
    }

    fn exists(&self, path: &Path) -> bool {
        self.disk.lock().files.contains_key(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.exists(path) { self.change(DiskChange::Removed(path.to_owned())) } else { Ok(()) }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // The file is empty, then partial, then complete. A crash or an error may come in between.
        for part in [0, bytes.len() / 2, bytes.len()] {
            self.change(DiskChange::Written(path.to_owned(), bytes[..part].to_vec()))?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.exists(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change(DiskChange::Renamed(from.to_owned(), to.to_owned()))
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.write_call()?;
        let unsynced = std::mem::take(&mut state.unsynced);
        let DiskState { durable, .. } = &mut *state;
        unsynced.iter().for_each(|change| apply(change, durable));
        Ok(())
    }
}
