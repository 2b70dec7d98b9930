//! VPP's stats segment: shared memory that VPP writes and anybody may read.
//!
//! It is read through its descriptor and never mapped, so a VPP that dies, shrinks the file or writes nonsense is at
//! worst an error. Everything in it is in the byte order of the host; its pointers are addresses in VPP's memory.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// The entry that holds when VPP started, in seconds since the Unix epoch.
pub const BOOT_TIME: &str = "/sys/boottime";

/// The only version of the layout since VPP 20.09.
const VERSION: u64 = 2;
const HEADER: usize = 40;
const ENTRY: usize = 144;
const NAME: usize = 16;
const SCALAR: u32 = 1;
const GAUGE: u32 = 9;
/// How often a read is begun again because VPP was changing the directory.
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
pub struct Segment(File);

/// What the segment begins with.
struct Header {
    base: u64,
    epoch: u64,
    in_progress: bool,
    directory: u64,
}

impl Segment {
    /// Asks the VPP whose stats socket is at `path` for its segment. Blocks for as long as `limit`.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::NoSegment`] or [`Error::Io`].
    pub fn open(path: &Path, limit: Duration) -> Result<Self, Error> {
        let failed = |errno: nix::Error| Error::Connect { path: path.to_owned(), reason: errno.into() };
        let socket =
            socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
        let limit = TimeVal::milliseconds(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit).map_err(failed)?;
        let address = UnixAddr::new(path).map_err(failed)?;
        connect(socket.as_raw_fd(), &address).map_err(failed)?;
        received(&socket).map(Self)
    }

    /// The segment in `file`.
    #[must_use]
    pub const fn from_file(file: File) -> Self {
        Self(file)
    }

    /// The number that the entry `name` holds, if there is such an entry and it holds one number.
    ///
    /// # Errors
    /// The segment cannot be read, or makes no sense.
    pub fn scalar(&self, name: &str) -> Result<Option<u64>, Error> {
        for _ in 0..TRIES {
            let before = self.header()?;
            if !before.in_progress {
                let found = self.find(&before, name);
                let after = self.header()?;
                if !after.in_progress && after.epoch == before.epoch {
                    return found;
                }
            }
            std::thread::sleep(PAUSE);
        }
        Err(Error::Restless)
    }

    fn header(&self) -> Result<Header, Error> {
        let bytes = self.bytes::<HEADER>(0)?;
        let word = |at: usize| u64_at(&bytes, at * 8);
        match word(0) {
            VERSION => {}
            other => return Err(Error::Version(other)),
        }
        Ok(Header { base: word(1), epoch: word(2), in_progress: word(3) != 0, directory: word(4) })
    }

    fn find(&self, header: &Header, name: &str) -> Result<Option<u64>, Error> {
        let directory =
            header.directory.checked_sub(header.base).ok_or(Error::Malformed("the directory's address"))?;
        let length = directory.checked_sub(8).ok_or(Error::Malformed("the directory's address"))?;
        let count = u32::from_ne_bytes(self.bytes(length)?) as usize;
        let whole = usize::try_from(self.0.metadata()?.len().saturating_sub(directory)).unwrap_or(usize::MAX);
        if count > whole / ENTRY {
            return Err(Error::Malformed("the directory's length"));
        }
        let mut entries = vec![0; count * ENTRY];
        self.0.read_exact_at(&mut entries, directory)?;
        let named = |entry: &&[u8]| entry[NAME..].split(|byte| *byte == 0).next() == Some(name.as_bytes());
        let entry = entries.chunks_exact(ENTRY).find(named);
        let is_scalar = |entry: &&[u8]| matches!(u32_at(entry, 0), SCALAR | GAUGE);
        Ok(entry.filter(is_scalar).map(|entry| u64_at(entry, 8)))
    }

    fn bytes<const N: usize>(&self, at: u64) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.0.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

/// The descriptor that VPP sends with an empty message.
fn received(socket: &OwnedFd) -> Result<File, Error> {
    let mut space = cmsg_space!([i32; 1]);
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut into, Some(&mut space), flags)
        .map_err(io::Error::from)?;
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().map_err(io::Error::from)?.next() else {
        return Err(Error::NoSegment);
    };
    let fd = *fds.first().ok_or(Error::NoSegment)?;
    Ok(File::from(owned(fd)))
}

/// Takes over a descriptor that was received just now. nix knows it by its number only.
#[expect(
    unsafe_code,
    reason = "the kernel made the descriptor for this message, and nobody else knows its number"
)]
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: as above: it is open, and it is nobody else's to close.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(word)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const BASE: u64 = 0x1_3000_0000;

    /// A segment of the layout that a real VPP 26.10 was seen to have.
    fn segment(entries: &[(u32, u64, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [VERSION, BASE, 1, 0, BASE + 48] {
            bytes.extend(u64::to_ne_bytes(word));
        }
        bytes.extend(u32::try_from(entries.len()).unwrap().to_ne_bytes());
        bytes.extend([0; 4]);
        for (kind, value, name) in entries {
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(value.to_ne_bytes());
            bytes.extend(name.as_bytes());
            bytes.resize(bytes.len() + ENTRY - NAME - name.len(), 0);
        }
        bytes
    }

    fn open(bytes: &[u8]) -> Segment {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Segment::from_file(file)
    }

    #[test]
    fn a_scalar_is_found_by_its_whole_name() {
        let segment = open(&segment(&[
            (SCALAR, 7, "/sys/boot"),
            (SCALAR, 1_700_000_000, BOOT_TIME),
            (2, 9, "/if/drops"),
        ]));
        assert_eq!(segment.scalar(BOOT_TIME).unwrap(), Some(1_700_000_000));
        assert_eq!(segment.scalar("/sys/boot").unwrap(), Some(7));
        assert_eq!(segment.scalar("/if/drops").unwrap(), None, "no scalar");
        assert_eq!(segment.scalar("/nothing").unwrap(), None);
    }

    #[test]
    fn a_segment_that_never_rests_is_given_up() {
        let mut bytes = segment(&[]);
        bytes[24] = 1;
        assert!(matches!(open(&bytes).scalar(BOOT_TIME), Err(Error::Restless)));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = segment(&[]);
        bytes[0] = 3;
        assert!(matches!(open(&bytes).scalar(BOOT_TIME), Err(Error::Version(3))));
    }

    #[test]
    fn a_segment_cut_anywhere_is_an_error() {
        let bytes = segment(&[(SCALAR, 1, BOOT_TIME)]);
        for length in 0..bytes.len() {
            assert!(open(&bytes[..length]).scalar(BOOT_TIME).is_err(), "{length} bytes");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_segment_makes_it_panic(at in 8usize..60, word in any::<u64>()) {
            let mut bytes = segment(&[(SCALAR, 1, BOOT_TIME)]);
            bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
            let _ = open(&bytes).scalar(BOOT_TIME);
        }
    }
}
