//! Vectors of counters: one row per thread of VPP. The reader sums them.

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use super::memory::{SegmentMemory, VectorRange, word_at};

/// Upper bound of VPP's threads.
const MAX_THREADS: u64 = 1024;
/// Largest gap between counters that one read covers: skipping a gap costs less than another read.
const MAX_GAP: u32 = 32;
/// Largest number of counters per read, at most half a megabyte.
const MAX_BATCH: usize = 1024;

/// Sums the counters with these `indexes`, of `N` words each, of the vector at VPP's address `pointer`. Missing rows and
/// counters beyond a row's end count as zero.
pub(super) fn sum_counters<const N: usize>(
    memory: &SegmentMemory<'_>,
    pointer: u64,
    indexes: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, [u64; N]>, Error> {
    let mut sums: Vec<(u32, [u64; N])> = indexes.iter().map(|index| (*index, [0; N])).collect();
    let mut buffer = Vec::new();
    for row in memory.words(pointer, MAX_THREADS)? {
        let row = memory.vector(row, N * 8)?;
        let clusters = sums.chunk_by_mut(|a, b| b.0 - a.0 <= MAX_GAP);
        for sums in clusters.flat_map(|sums| sums.chunks_mut(MAX_BATCH)) {
            add_row(memory, row, sums, &mut buffer)?;
        }
    }
    Ok(sums.into_iter().collect())
}

/// Adds the counters of `row` to `sums`, with one read.
fn add_row<const N: usize>(
    memory: &SegmentMemory<'_>,
    row: VectorRange,
    sums: &mut [(u32, [u64; N])],
    buffer: &mut Vec<u8>,
) -> Result<(), Error> {
    let there = sums.partition_point(|(index, _)| u64::from(*index) < row.len);
    let ([(first, _), ..], [.., (last, _)]) = (&sums[..there], &sums[..there]) else { return Ok(()) };
    let (first, last) = (*first, *last);
    buffer.resize((last - first + 1) as usize * N * 8, 0);
    memory.fill(row.at + u64::from(first) * N as u64 * 8, buffer)?;
    for (index, sum) in &mut sums[..there] {
        let counter = (*index - first) as usize * N * 8;
        for (word, sum) in sum.iter_mut().enumerate() {
            *sum = sum.wrapping_add(word_at(buffer, counter + word * 8));
        }
    }
    Ok(())
}
