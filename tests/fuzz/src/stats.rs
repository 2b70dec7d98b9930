//! VPP's stats segment with any content.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

use maglev_vpp::stats::{BOOT_TIME, Error, FIRST_PACKETS, ROUTE_TO, StatsSegment};

use crate::FuzzTarget;

/// The names and offsets of the directory, at most as large as the file, and a buffer for counters.
pub const STATS: FuzzTarget = FuzzTarget { name: "stats", longest: 16 << 10, memory: 1 << 20, seeds, run };

/// Offset of the header's flag for a change in progress.
const IN_PROGRESS: usize = 24;
const HEADER: usize = 40;
const ENTRY: usize = 144;
const BASE: u64 = 0x1_3000_0000;

thread_local! {
    static FILE: File = tempfile::tempfile().expect("a place for the segment");
}

fn run(input: &[u8]) {
    let mut bytes = input.to_vec();
    if bytes.len() >= HEADER {
        // Sets the version, so that the reader continues. Clears the flag, because the reader would wait.
        bytes[..8].copy_from_slice(&2_u64.to_ne_bytes());
        bytes[IN_PROGRESS..IN_PROGRESS + 8].fill(0);
    }
    let file = FILE.with(|file| {
        file.set_len(0).and_then(|()| file.write_all_at(&bytes, 0)).expect("the segment is written");
        file.try_clone().expect("a second descriptor")
    });
    let mut segment = StatsSegment::from_file(file);
    let indexes = BTreeSet::from([0, 1, 2, 40, 5000, u32::MAX]);
    let _ = segment.read(|now| now.scalar(BOOT_TIME));
    let counters = segment.read(|now| now.simple(FIRST_PACKETS, &indexes));
    let _ = segment.read(|now| now.combined(ROUTE_TO, &indexes));
    assert!(!matches!(counters, Err(Error::LayoutUnstable)), "nobody changes it");
    if let Ok(Some(counters)) = counters {
        assert_eq!(Some(counters), read_counters(&bytes, &indexes), "as read by a simpler reader");
    }
}

/// Reads the counters one by one.
fn read_counters(bytes: &[u8], indexes: &BTreeSet<u32>) -> Option<BTreeMap<u32, u64>> {
    let word = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?));
    let base = word(8)?;
    let vector = |pointer: u64| -> Option<(usize, usize)> {
        if pointer == 0 {
            return Some((0, 0));
        }
        let at = usize::try_from(pointer.checked_sub(base)?).ok()?;
        let length = bytes.get(at.checked_sub(8)?..at - 4)?;
        Some((at, u32::from_ne_bytes(length.try_into().ok()?) as usize))
    };
    let (directory, entries) = vector(word(32)?)?;
    let named = |entry: &usize| {
        let name = bytes.get(entry + 16..entry + ENTRY).unwrap_or_default();
        name.split(|byte| *byte == 0).next() == Some(FIRST_PACKETS.as_bytes())
    };
    // The last of two entries with one name counts.
    let entry = (0..entries).rev().map(|entry| directory + entry * ENTRY).find(named)?;
    let (rows, count) = vector(word(entry + 8)?)?;
    let mut sums: BTreeMap<u32, u64> = indexes.iter().map(|index| (*index, 0)).collect();
    for row in 0..count {
        let (at, length) = vector(word(rows + row * 8)?)?;
        for (index, sum) in &mut sums {
            if (*index as usize) < length {
                *sum = sum.wrapping_add(word(at + *index as usize * 8)?);
            }
        }
    }
    Some(sums)
}

/// A segment with two rows of counters and a scalar.
fn seeds() -> Vec<Vec<u8>> {
    let mut bytes = vec![0; HEADER];
    let mut vector = |words: &[u64], length: u32| {
        bytes.extend(length.to_ne_bytes());
        bytes.extend([0; 4]);
        let pointer = BASE + bytes.len() as u64;
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        pointer
    };
    let rows = [vector(&[1, 2, 3], 3), vector(&[10, 20], 2)];
    let simple = vector(&rows, 2);
    let row = vector(&[1, 100, 2, 200], 2);
    let combined = vector(&[row], 1);
    let directory = vector(&[], 3);
    for (kind, value, name) in
        [(1_u32, 1_700_000_000, BOOT_TIME), (2, simple, FIRST_PACKETS), (3, combined, ROUTE_TO)]
    {
        let entry = bytes.len();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(value.to_ne_bytes());
        bytes.extend(name.as_bytes());
        bytes.resize(entry + ENTRY, 0);
    }
    for (at, word) in (0..).step_by(8).zip([2, BASE, 1, 0, directory]) {
        bytes[at..at + 8].copy_from_slice(&u64::to_ne_bytes(word));
    }
    vec![bytes]
}
