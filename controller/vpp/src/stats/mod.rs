//! VPP's stats segment: shared memory that VPP writes and anybody may read.
//!
//! It is read through its descriptor and never mapped, so a VPP that dies, shrinks the file or writes nonsense is at
//! worst an error. Everything in it is in the byte order of the host; its pointers are addresses in VPP's memory.
//!
//! VPP counts how often it has changed the layout (the *epoch*), and says while it does. Whatever was read across such
//! a change is thrown away and read again. Counters themselves move at any time: packets and bytes of one counter may
//! be apart by the packet of the moment.

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

use directory::{COMBINED, Directory, Entry, GAUGE, SCALAR, SIMPLE};
use memory::{Memory, word_at};

/// The entry that holds when VPP started, in seconds since the Unix epoch.
pub const BOOT_TIME: &str = "/sys/boottime";
/// Per VIP, packets of flows that are known. Like all four of its kind a vector by [`crate::cli::ShownVip::index`],
/// which VPP makes with its first VIP, and has no slash.
pub const NEXT_PACKETS: &str = "packet from existing sessions";
/// Per VIP, packets that begin a flow.
pub const FIRST_PACKETS: &str = "first session packet";
/// Per VIP, packets that found no room in the table of flows, and went by the new-flow table.
pub const UNTRACKED_PACKETS: &str = "untracked packet";
/// Per VIP, packets that were dropped for want of a server.
pub const NO_SERVER_PACKETS: &str = "no server configured";
/// Packets and bytes that arrived for a route, by its stats index. For a VIP's: before encapsulation.
pub const ROUTE_TO: &str = "/net/route/to";
/// Packets and bytes that went through a route from another, by its stats index. For a server's: what the load
/// balancer sent to it, encapsulated.
pub const ROUTE_VIA: &str = "/net/route/via";

/// The only version of the layout since VPP 20.09.
const VERSION: u64 = 2;
const HEADER: usize = 40;
/// How often a read is begun again because VPP was changing the layout.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// Why the stats segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens at the path, or it may not be opened.
    #[error("cannot connect to VPP's stats socket at {path}: {reason}", path = .path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        reason: io::Error,
    },
    /// VPP did not hand over the segment.
    #[error("VPP sent no stats segment")]
    NoSegment,
    /// The segment cannot be read.
    #[error("cannot read VPP's stats segment: {0}")]
    Io(#[from] io::Error),
    /// The layout is another one.
    #[error("VPP's stats segment is of version {0}, and only {VERSION} is known")]
    Version(u64),
    /// It makes no sense.
    #[error("VPP's stats segment makes no sense: {0}")]
    Malformed(&'static str),
    /// VPP never stopped changing it.
    #[error("VPP's stats segment did not come to rest")]
    Restless,
}

/// A stats segment. It outlives its VPP; its numbers then stand still.
#[derive(Debug)]
pub struct Segment {
    file: File,
    /// The directory, and the epoch that it is of.
    directory: Option<(u64, Directory)>,
}

/// What the segment holds while VPP leaves its layout alone.
#[derive(Debug)]
pub struct Snapshot<'a> {
    memory: Memory<'a>,
    /// VPP's address of the directory.
    pointer: u64,
    directory: &'a Directory,
}

/// What one counter of `/net/route/...` has seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the IP header on.
    pub bytes: u64,
}

/// What the segment begins with.
#[derive(Clone, Copy)]
struct Header {
    base: u64,
    epoch: u64,
    in_progress: bool,
    directory: u64,
}

impl Segment {
    /// Asks the VPP whose stats socket is at `path` for its segment. Blocks for twice `limit` at most.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::NoSegment`] or [`Error::Io`].
    pub fn open(path: &Path, limit: Duration) -> Result<Self, Error> {
        socket::ask(path, limit).map(Self::from_file)
    }

    /// The segment in `file`.
    #[must_use]
    pub const fn from_file(file: File) -> Self {
        Self { file, directory: None }
    }

    /// Shows `look` the segment, again until VPP has left the layout alone meanwhile. Blocks for a tenth of a second
    /// at most while VPP does not.
    ///
    /// # Errors
    /// Those of `look`; the segment cannot be read, makes no sense, or does not come to rest.
    pub fn read<T>(&mut self, mut look: impl FnMut(&Snapshot<'_>) -> Result<T, Error>) -> Result<T, Error> {
        for _ in 0..TRIES {
            let before = self.header()?;
            if !before.in_progress {
                let seen = self.snapshot(before).and_then(|snapshot| look(&snapshot));
                // What was read must not be newer than the header that vouches for it.
                fence(Ordering::Acquire);
                let after = self.header()?;
                if !after.in_progress && after.epoch == before.epoch {
                    return seen;
                }
                self.directory = None;
            }
            std::thread::sleep(PAUSE);
        }
        Err(Error::Restless)
    }

    fn snapshot(&mut self, header: Header) -> Result<Snapshot<'_>, Error> {
        fence(Ordering::Acquire);
        let memory = Memory { file: &self.file, size: self.file.metadata()?.len(), base: header.base };
        let pointer = header.directory;
        let directory = match self.directory.take() {
            Some((epoch, directory)) if epoch == header.epoch => directory,
            _ => Directory::read(&memory, pointer)?,
        };
        let (_, directory) = self.directory.insert((header.epoch, directory));
        Ok(Snapshot { memory, pointer, directory })
    }

    fn header(&self) -> Result<Header, Error> {
        let mut bytes = [0; HEADER];
        self.file.read_exact_at(&mut bytes, 0)?;
        let word = |index: usize| word_at(&bytes, index * 8);
        match word(0) {
            VERSION => {}
            other => return Err(Error::Version(other)),
        }
        Ok(Header { base: word(1), epoch: word(2), in_progress: word(3) != 0, directory: word(4) })
    }
}

impl Snapshot<'_> {
    /// The number that the entry `name` holds, if there is such an entry and it holds one number.
    ///
    /// # Errors
    /// The segment cannot be read, or makes no sense.
    pub fn scalar(&self, name: &str) -> Result<Option<u64>, Error> {
        let entry = self.entry(name)?;
        Ok(entry.filter(|entry| matches!(entry.kind, SCALAR | GAUGE)).map(|entry| entry.value))
    }

    /// The counters of the vector `name` with these `indexes`, if there is such a vector.
    ///
    /// # Errors
    /// The segment cannot be read, or makes no sense.
    pub fn simple(&self, name: &str, indexes: &BTreeSet<u32>) -> Result<Option<BTreeMap<u32, u64>>, Error> {
        let Some(pointer) = self.vector(name, SIMPLE)? else { return Ok(None) };
        let sums = counters::sums(&self.memory, pointer, indexes)?;
        Ok(Some(sums.into_iter().map(|(index, [count])| (index, count)).collect()))
    }

    /// The counters of the vector `name` of packets and bytes with these `indexes`, if there is such a vector.
    ///
    /// # Errors
    /// The segment cannot be read, or makes no sense.
    pub fn combined(
        &self,
        name: &str,
        indexes: &BTreeSet<u32>,
    ) -> Result<Option<BTreeMap<u32, Traffic>>, Error> {
        let Some(pointer) = self.vector(name, COMBINED)? else { return Ok(None) };
        let sums = counters::sums(&self.memory, pointer, indexes)?;
        Ok(Some(
            sums.into_iter().map(|(index, [packets, bytes])| (index, Traffic { packets, bytes })).collect(),
        ))
    }

    fn vector(&self, name: &str, kind: u32) -> Result<Option<u64>, Error> {
        Ok(self.entry(name)?.filter(|entry| entry.kind == kind).map(|entry| entry.value))
    }

    fn entry(&self, name: &str) -> Result<Option<Entry>, Error> {
        self.directory.find(&self.memory, self.pointer, name)
    }
}
