//! The directory: names and places of the entries.

use std::collections::HashMap;

use super::Error;
use super::memory::{SegmentMemory, half_at, word_at};

/// Supported types of entries. Others are skipped, because their meaning differs between releases.
pub(super) const SCALAR: u32 = 1;
pub(super) const SIMPLE: u32 = 2;
pub(super) const COMBINED: u32 = 3;
/// A scalar that can decrease. Before VPP 26.02 it was a [`SCALAR`].
pub(super) const GAUGE: u32 = 9;

pub(super) const ENTRY: usize = 144;
pub(super) const VALUE: usize = 8;
pub(super) const NAME: usize = 16;

/// Index of each name in the directory, valid for one epoch.
#[derive(Debug)]
pub(super) struct SegmentDirectory(HashMap<Box<[u8]>, u64>);

/// Current content of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct DirectoryEntry {
    pub kind: u32,
    /// Value of a scalar, or address of a vector.
    pub value: u64,
}

impl SegmentDirectory {
    /// Reads the directory at VPP's address `pointer`. Allocates as much as that part of the file.
    pub fn read(memory: &SegmentMemory<'_>, pointer: u64) -> Result<Self, Error> {
        let vector = memory.vector(pointer, ENTRY)?;
        let mut bytes = vec![0; vector.len as usize * ENTRY];
        memory.fill(vector.at, &mut bytes)?;
        let name = |entry: &[u8]| -> Box<[u8]> {
            entry[NAME..].split(|byte| *byte == 0).next().unwrap_or_default().into()
        };
        // A freed slot has an empty name.
        let names = bytes.chunks_exact(ENTRY).map(name).zip(0..).filter(|(name, _)| !name.is_empty());
        Ok(Self(names.collect()))
    }

    /// Looks `name` up. Reads the value each time: scalars change without a new epoch, and so does the directory's address when
    /// VPP appends a link.
    pub fn find(
        &self,
        memory: &SegmentMemory<'_>,
        pointer: u64,
        name: &str,
    ) -> Result<Option<DirectoryEntry>, Error> {
        let Some(index) = self.0.get(name.as_bytes()) else { return Ok(None) };
        let vector = memory.vector(pointer, ENTRY)?;
        if *index >= vector.len {
            return Err(Error::Malformed("the directory's length"));
        }
        let mut head = [0; NAME];
        memory.fill(vector.at + index * ENTRY as u64, &mut head)?;
        Ok(Some(DirectoryEntry { kind: half_at(&head, 0), value: word_at(&head, VALUE) }))
    }
}
