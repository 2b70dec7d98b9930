//! VPP's stats segment: shared memory that VPP writes and other processes read.
//!
//! The segment is read through its descriptor and never mapped. A VPP that exits, shrinks the file or writes garbage causes
//! an error at worst. Values are in host byte order, and pointers are addresses in VPP's memory.
//!
//! VPP counts changes of the layout (the *epoch*), and sets a flag during each. A read that overlaps a change is repeated.
//! Counters change at any time, so packets and bytes of one counter may differ by one packet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

mod counters;
mod directory;
mod memory;
mod socket;
#[cfg(test)]
mod tests;

use directory::{COMBINED, DirectoryEntry, GAUGE, SCALAR, SIMPLE, SegmentDirectory};
use memory::{SegmentMemory, word_at};

/// Entry with the time of VPP's start, in seconds since the Unix epoch.
pub const BOOT_TIME: &str = "/sys/boottime";
/// Index of the hidden VIP that takes strays: packets to the address of a VIP, of no VIP's protocol and port. VPP counts them as
/// [`NO_SERVER_PACKETS`] and [`UNTRACKED_PACKETS`], and drops them.
pub const STRAY_INDEX: u32 = 0;
/// Entry with the number of VPP's worker threads.
pub const WORKERS: &str = "/sys/num_worker_threads";
/// Gauges of VPP's main heap, in bytes: its size at index 0, and its free part at index 2. They are 0 at first.
pub const MAIN_HEAP: &str = "/mem/main heap";
/// Per VIP: packets of known flows. The four vectors of this kind are indexed by [`crate::cli::ShownVip::index`]. VPP creates
/// them with its first VIP, and their names lack a slash.
pub const NEXT_PACKETS: &str = "packet from existing sessions";
/// Per VIP: first packets of flows.
pub const FIRST_PACKETS: &str = "first session packet";
/// Per VIP: packets without room in the flow table, forwarded by the new-flow table.
pub const UNTRACKED_PACKETS: &str = "untracked packet";
/// Per VIP: packets dropped for lack of a server.
pub const NO_SERVER_PACKETS: &str = "no server configured";
/// By stats index: packets and bytes that arrived for a route. For a VIP: before encapsulation.
pub const ROUTE_TO: &str = "/net/route/to";
/// By stats index: packets and bytes that reached a route through another. For a server: encapsulated packets from the load
/// balancer.
pub const ROUTE_VIA: &str = "/net/route/via";

/// Only version of the layout since VPP 20.09.
const VERSION: u64 = 2;
const HEADER: usize = 40;
/// Number of attempts of a read while VPP changes the layout.
const MAX_ATTEMPTS: usize = 100;
const RETRY_DELAY: Duration = Duration::from_millis(1);

/// Reason for a failed read of the stats segment.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket is missing or not accessible, or nothing listens on it.
    #[error("cannot connect to VPP's stats socket at {path}: {reason}", path = .path.display())]
    Connect {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the system call.
        reason: io::Error,
    },
    /// VPP did not send the segment.
    #[error("VPP sent no stats segment")]
    NoSegment,
    /// A read failed.
    #[error("cannot read VPP's stats segment: {0}")]
    Io(#[from] io::Error),
    /// The layout has another version.
    #[error("VPP's stats segment has version {0}, only {VERSION} is supported")]
    Version(u64),
    /// The content is invalid.
    #[error("invalid stats segment of VPP: {0}")]
    Malformed(&'static str),
    /// VPP did not finish changing the layout.
    #[error("VPP keeps changing the layout of its stats segment")]
    LayoutUnstable,
}

/// A stats segment. It stays readable after its VPP exits; the values then stop changing.
#[derive(Debug)]
pub struct StatsSegment {
    file: File,
    /// The directory, with its epoch.
    directory: Option<(u64, SegmentDirectory)>,
}

/// View of the segment during one epoch.
#[derive(Debug)]
pub struct SegmentSnapshot<'a> {
    memory: SegmentMemory<'a>,
    /// VPP's address of the directory.
    pointer: u64,
    directory: &'a SegmentDirectory,
}

/// Value of a counter in `/net/route/...`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CombinedCounter {
    /// Packets.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

/// Start of the segment.
#[derive(Clone, Copy)]
struct SegmentHeader {
    base: u64,
    epoch: u64,
    in_progress: bool,
    directory: u64,
}

impl StatsSegment {
    /// Requests the segment from the stats socket at `path`. Blocks for at most twice `limit`.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::NoSegment`] or [`Error::Io`].
    pub fn open(path: &Path, limit: Duration) -> Result<Self, Error> {
        socket::request_segment(path, limit).map(Self::from_file)
    }

    /// Wraps the segment in `file`.
    #[must_use]
    pub const fn from_file(file: File) -> Self {
        Self { file, directory: None }
    }

    /// Calls `look` with a view of the segment, and repeats it after a change of the layout. Blocks for at most 0.1 s.
    ///
    /// # Errors
    /// Those of `look`; the segment cannot be read, is invalid, or keeps changing.
    pub fn read<T>(
        &mut self,
        mut look: impl FnMut(&SegmentSnapshot<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let before = self.header()?;
            if !before.in_progress {
                let seen = self.snapshot(before).and_then(|snapshot| look(&snapshot));
                // The values must not be newer than the header that validates them.
                fence(Ordering::Acquire);
                let after = self.header()?;
                if !after.in_progress && after.epoch == before.epoch {
                    return seen;
                }
                self.directory = None;
            }
            std::thread::sleep(RETRY_DELAY);
        }
        Err(Error::LayoutUnstable)
    }

    fn snapshot(&mut self, header: SegmentHeader) -> Result<SegmentSnapshot<'_>, Error> {
        fence(Ordering::Acquire);
        let memory = SegmentMemory { file: &self.file, size: self.file.metadata()?.len(), base: header.base };
        let pointer = header.directory;
        let directory = match self.directory.take() {
            Some((epoch, directory)) if epoch == header.epoch => directory,
            _ => SegmentDirectory::read(&memory, pointer)?,
        };
        let (_, directory) = self.directory.insert((header.epoch, directory));
        Ok(SegmentSnapshot { memory, pointer, directory })
    }

    fn header(&self) -> Result<SegmentHeader, Error> {
        let mut bytes = [0; HEADER];
        self.file.read_exact_at(&mut bytes, 0)?;
        let word = |index: usize| word_at(&bytes, index * 8);
        match word(0) {
            VERSION => {}
            other => return Err(Error::Version(other)),
        }
        Ok(SegmentHeader { base: word(1), epoch: word(2), in_progress: word(3) != 0, directory: word(4) })
    }
}

impl SegmentSnapshot<'_> {
    /// Returns the value of the scalar `name`, if there is one.
    ///
    /// # Errors
    /// The segment cannot be read, or is invalid.
    pub fn scalar(&self, name: &str) -> Result<Option<u64>, Error> {
        let entry = self.entry(name)?;
        Ok(entry.filter(|entry| matches!(entry.kind, SCALAR | GAUGE)).map(|entry| entry.value))
    }

    /// Returns the counters of the vector `name` with these `indexes`, if there is such a vector.
    ///
    /// # Errors
    /// The segment cannot be read, or is invalid.
    pub fn simple(&self, name: &str, indexes: &BTreeSet<u32>) -> Result<Option<BTreeMap<u32, u64>>, Error> {
        let Some(pointer) = self.vector(name, SIMPLE)? else { return Ok(None) };
        let sums = counters::sum_counters(&self.memory, pointer, indexes)?;
        Ok(Some(sums.into_iter().map(|(index, [count])| (index, count)).collect()))
    }

    /// Returns the packet and byte counters of the vector `name` with these `indexes`, if there is such a vector.
    ///
    /// # Errors
    /// The segment cannot be read, or is invalid.
    pub fn combined(
        &self,
        name: &str,
        indexes: &BTreeSet<u32>,
    ) -> Result<Option<BTreeMap<u32, CombinedCounter>>, Error> {
        let Some(pointer) = self.vector(name, COMBINED)? else { return Ok(None) };
        let sums = counters::sum_counters(&self.memory, pointer, indexes)?;
        Ok(Some(
            sums.into_iter()
                .map(|(index, [packets, bytes])| (index, CombinedCounter { packets, bytes }))
                .collect(),
        ))
    }

    fn vector(&self, name: &str, kind: u32) -> Result<Option<u64>, Error> {
        Ok(self.entry(name)?.filter(|entry| entry.kind == kind).map(|entry| entry.value))
    }

    fn entry(&self, name: &str) -> Result<Option<DirectoryEntry>, Error> {
        self.directory.find(&self.memory, self.pointer, name)
    }
}
