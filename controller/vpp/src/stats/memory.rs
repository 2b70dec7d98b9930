//! Bytes of the segment. Every place is checked against the file before a read or an allocation.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::Error;

/// Size of a vector's header: its length, and four unused bytes.
const VECTOR_HEADER: u64 = 8;

/// The file, and its address in VPP's memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentMemory<'a> {
    pub file: &'a File,
    /// Size in bytes at this moment.
    pub size: u64,
    /// VPP's address of the first byte.
    pub base: u64,
}

/// A vector that lies inside the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct VectorRange {
    /// Offset of the first element in the file.
    pub at: u64,
    /// Number of elements.
    pub len: u64,
}

impl SegmentMemory<'_> {
    /// Returns the vector of `width`-byte elements at VPP's address `pointer`. A null pointer is an empty vector.
    pub fn vector(&self, pointer: u64, width: usize) -> Result<VectorRange, Error> {
        if pointer == 0 {
            return Ok(VectorRange { at: 0, len: 0 });
        }
        let at = pointer.checked_sub(self.base).ok_or(Error::Malformed("an address"))?;
        let header = at.checked_sub(VECTOR_HEADER).ok_or(Error::Malformed("an address"))?;
        if at > self.size {
            return Err(Error::Malformed("an address"));
        }
        let mut len = [0; 4];
        self.fill(header, &mut len)?;
        let len = u64::from(u32::from_ne_bytes(len));
        if len > (self.size - at) / width as u64 {
            return Err(Error::Malformed("a length"));
        }
        Ok(VectorRange { at, len })
    }

    /// Reads a vector of at most `most` words.
    pub fn words(&self, pointer: u64, most: u64) -> Result<Vec<u64>, Error> {
        let vector = self.vector(pointer, 8)?;
        if vector.len > most {
            return Err(Error::Malformed("a length"));
        }
        let mut bytes = vec![0; vector.len as usize * 8];
        self.fill(vector.at, &mut bytes)?;
        Ok(bytes.chunks_exact(8).map(|word| word_at(word, 0)).collect())
    }

    /// Reads the bytes at offset `at`.
    pub fn fill(&self, at: u64, buffer: &mut [u8]) -> Result<(), Error> {
        Ok(self.file.read_exact_at(buffer, at)?)
    }
}

/// Returns the word at `at`.
pub(super) fn word_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

/// Returns the half word at `at`.
pub(super) fn half_at(bytes: &[u8], at: usize) -> u32 {
    let mut half = [0; 4];
    half.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(half)
}
