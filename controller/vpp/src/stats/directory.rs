//! The directory: the names of the entries, and where they are.

use std::collections::HashMap;

use super::Error;
use super::memory::{Memory, half_at, word_at};

/// The types of entry that are read. Those that stand for other things, or did in another release, are left alone.
pub(super) const SCALAR: u32 = 1;
pub(super) const SIMPLE: u32 = 2;
pub(super) const COMBINED: u32 = 3;
/// A scalar that goes up and down. Was a [`SCALAR`] before VPP 26.02.
pub(super) const GAUGE: u32 = 9;

pub(super) const ENTRY: usize = 144;
pub(super) const VALUE: usize = 8;
pub(super) const NAME: usize = 16;

/// The place of each name in the directory. It holds for one epoch.
#[derive(Debug)]
pub(super) struct Directory(HashMap<Box<[u8]>, u64>);

/// An entry as it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub kind: u32,
    /// The number itself, or the address of a vector.
    pub value: u64,
}

impl Directory {
    /// Reads the directory at VPP's address `pointer`. It is as large as that part of the file for the moment.
    pub fn read(memory: &Memory<'_>, pointer: u64) -> Result<Self, Error> {
        let vector = memory.vector(pointer, ENTRY)?;
        let mut bytes = vec![0; vector.len as usize * ENTRY];
        memory.fill(vector.at, &mut bytes)?;
        let name = |entry: &[u8]| -> Box<[u8]> {
            entry[NAME..].split(|byte| *byte == 0).next().unwrap_or_default().into()
        };
        // A slot that was freed has no name.
        let names = bytes.chunks_exact(ENTRY).map(name).zip(0..).filter(|(name, _)| !name.is_empty());
        Ok(Self(names.collect()))
    }

    /// The entry `name`. Its value is read anew: scalars change without a change of epoch, and the directory moves
    /// without one when VPP appends a link to it.
    pub fn find(&self, memory: &Memory<'_>, pointer: u64, name: &str) -> Result<Option<Entry>, Error> {
        let Some(index) = self.0.get(name.as_bytes()) else { return Ok(None) };
        let vector = memory.vector(pointer, ENTRY)?;
        if *index >= vector.len {
            return Err(Error::Malformed("the directory's length"));
        }
        let mut head = [0; NAME];
        memory.fill(vector.at + index * ENTRY as u64, &mut head)?;
        Ok(Some(Entry { kind: half_at(&head, 0), value: word_at(&head, VALUE) }))
    }
}
