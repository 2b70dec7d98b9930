use std::io::Write;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::directory::{ENTRY, NAME};
use super::*;

const BASE: u64 = 0x1_3000_0000;
const EPOCH: u64 = 16;
const IN_PROGRESS: u64 = 24;

/// Builder of a segment in the layout of VPP 26.10.
struct SegmentBuilder {
    bytes: Vec<u8>,
    entries: Vec<(u32, u64, &'static str)>,
}

impl SegmentBuilder {
    fn new() -> Self {
        Self { bytes: vec![0; HEADER], entries: Vec::new() }
    }

    fn with(mut self, kind: u32, value: u64, name: &'static str) -> Self {
        self.entries.push((kind, value, name));
        self
    }

    fn counters(mut self, kind: u32, name: &'static str, rows: &[&[u64]]) -> Self {
        let width = if kind == COMBINED { 2 } else { 1 };
        let rows: Vec<u64> = rows.iter().map(|row| self.vector(row.len() / width, row)).collect();
        let value = self.vector(rows.len(), &rows);
        self.with(kind, value, name)
    }

    /// Appends a vector and returns its address.
    fn vector(&mut self, len: usize, words: &[u64]) -> u64 {
        self.bytes.extend(u32::try_from(len).unwrap().to_ne_bytes());
        self.bytes.extend([0; 4]);
        let address = BASE + self.bytes.len() as u64;
        self.bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        address
    }

    fn bytes(mut self) -> Vec<u8> {
        let directory = self.vector(self.entries.len(), &[]);
        for (kind, value, name) in &self.entries {
            self.bytes.extend(kind.to_ne_bytes());
            self.bytes.extend([0; 4]);
            self.bytes.extend(value.to_ne_bytes());
            self.bytes.extend(name.as_bytes());
            self.bytes.resize(self.bytes.len() + ENTRY - NAME - name.len(), 0);
        }
        for (at, word) in (0..).step_by(8).zip([VERSION, BASE, 1, 0, directory]) {
            self.bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
        }
        self.bytes
    }
}

/// Returns a segment of three threads: the second has more counters than the first, the third has none.
fn two_threads() -> Vec<u8> {
    SegmentBuilder::new()
        .with(SCALAR, 1_700_000_000, BOOT_TIME)
        .with(SCALAR, 7, "/sys/boot")
        .with(GAUGE, 3, "/sys/gauge")
        .counters(SIMPLE, FIRST_PACKETS, &[&[1, 2], &[10, 20, 30], &[]])
        .counters(COMBINED, ROUTE_TO, &[&[1, 100, 2, 200], &[10, 1000], &[]])
        .bytes()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open(bytes: &[u8]) -> StatsSegment {
    StatsSegment::from_file(file(bytes))
}

fn scalar(segment: &mut StatsSegment, name: &str) -> Result<Option<u64>, Error> {
    segment.read(|now| now.scalar(name))
}

/// Reads all kinds of entries, to reach every check.
fn read_all(segment: &mut StatsSegment) -> Result<(), Error> {
    let indexes = BTreeSet::from([0, 1, 2, 40, u32::MAX]);
    segment.read(|now| {
        now.scalar(BOOT_TIME)?;
        now.simple(FIRST_PACKETS, &indexes)?;
        now.combined(ROUTE_TO, &indexes).map(drop)
    })
}

#[test]
fn scalar_is_found_by_full_name() {
    let mut segment = open(&two_threads());
    assert_eq!(scalar(&mut segment, BOOT_TIME).unwrap(), Some(1_700_000_000));
    assert_eq!(scalar(&mut segment, "/sys/boot").unwrap(), Some(7));
    assert_eq!(scalar(&mut segment, "/sys/gauge").unwrap(), Some(3));
    assert_eq!(scalar(&mut segment, FIRST_PACKETS).unwrap(), None, "no scalar");
    assert_eq!(scalar(&mut segment, "/nothing").unwrap(), None);
}

#[test]
fn counters_are_summed_over_unequal_rows() {
    let indexes = BTreeSet::from([0, 1, 2, 3, 1000]);
    let mut segment = open(&two_threads());
    let packets = segment.read(|now| now.simple(FIRST_PACKETS, &indexes)).unwrap().unwrap();
    assert_eq!(packets, BTreeMap::from([(0, 11), (1, 22), (2, 30), (3, 0), (1000, 0)]));
    let route = segment.read(|now| now.combined(ROUTE_TO, &indexes)).unwrap().unwrap();
    let traffic = |packets, bytes| CombinedCounter { packets, bytes };
    assert_eq!(route[&0], traffic(11, 1100));
    assert_eq!(route[&1], traffic(2, 200));
    assert_eq!(route[&2], CombinedCounter::default());
    assert_eq!(segment.read(|now| now.simple(ROUTE_TO, &indexes)).unwrap(), None, "another type");
    assert_eq!(segment.read(|now| now.combined(ROUTE_VIA, &indexes)).unwrap(), None);
}

#[test]
fn sparse_and_dense_counters_are_read() {
    let row: Vec<u64> = (0..5000).collect();
    let mut segment = open(&SegmentBuilder::new().counters(SIMPLE, FIRST_PACKETS, &[&row, &row]).bytes());
    let indexes: BTreeSet<u32> = (0..3000).chain([4000, 4031, 4064, 4999, 5000]).collect();
    let found = segment.read(|now| now.simple(FIRST_PACKETS, &indexes)).unwrap().unwrap();
    assert!(
        found.iter().all(|(index, count)| *count == if *index < 5000 { u64::from(*index) * 2 } else { 0 })
    );
    assert_eq!(found.len(), indexes.len());
}

#[test]
fn values_are_fresh_names_hold_per_epoch() {
    let before = two_threads();
    let file = file(&before);
    let mut segment = StatsSegment::from_file(file.try_clone().unwrap());
    assert_eq!(scalar(&mut segment, "/sys/boot").unwrap(), Some(7));

    let with = |value, name| SegmentBuilder::new().with(SCALAR, value, name).bytes();
    let (at_first, renamed) = (with(8, "/sys/boot"), with(9, "/sys/other"));
    file.write_all_at(&at_first, 0).unwrap();
    assert_eq!(scalar(&mut segment, BOOT_TIME).unwrap(), Some(8), "by its place: the epoch is the same");
    file.write_all_at(&renamed, 0).unwrap();
    file.write_all_at(&u64::to_ne_bytes(2), EPOCH).unwrap();
    assert_eq!(scalar(&mut segment, BOOT_TIME).unwrap(), None);
    assert_eq!(scalar(&mut segment, "/sys/other").unwrap(), Some(9));
}

#[test]
fn read_across_change_is_repeated() {
    let file = file(&two_threads());
    let mut segment = StatsSegment::from_file(file.try_clone().unwrap());
    let mut looks = 0;
    let seen = segment.read(|now| {
        looks += 1;
        if looks == 1 {
            file.write_all_at(&u64::to_ne_bytes(2), EPOCH).unwrap();
            return Err(Error::Malformed("what was half written"));
        }
        now.scalar("/sys/boot")
    });
    assert_eq!((seen.unwrap(), looks), (Some(7), 2));
}

#[test]
fn endless_change_is_an_error() {
    let file = file(&two_threads());
    file.write_all_at(&[1], IN_PROGRESS).unwrap();
    assert!(matches!(scalar(&mut StatsSegment::from_file(file), BOOT_TIME), Err(Error::LayoutUnstable)));
}

#[test]
fn other_version_is_reported() {
    let mut bytes = two_threads();
    bytes[0] = 3;
    assert!(matches!(scalar(&mut open(&bytes), BOOT_TIME), Err(Error::Version(3))));
}

#[test]
fn truncated_segment_is_an_error() {
    let bytes = two_threads();
    for length in 0..bytes.len() {
        assert!(read_all(&mut open(&bytes[..length])).is_err(), "{length} bytes");
    }
}

#[test]
fn segment_truncated_after_open_is_error() {
    let file = file(&two_threads());
    let mut segment = StatsSegment::from_file(file.try_clone().unwrap());
    read_all(&mut segment).unwrap();
    file.set_len(100).unwrap();
    assert!(read_all(&mut segment).is_err());
    file.set_len(0).unwrap();
    assert!(matches!(read_all(&mut segment), Err(Error::Io(_))));
}

#[test]
fn too_many_threads_are_malformed() {
    let rows: Vec<&[u64]> = vec![&[1]; 1025];
    let mut segment = open(&SegmentBuilder::new().counters(SIMPLE, FIRST_PACKETS, &rows).bytes());
    assert!(matches!(read_all(&mut segment), Err(Error::Malformed(_))));
}

/// Words that include plausible lengths and addresses.
fn plausible() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..2000u64,
        (0..2000u64).prop_map(|at| BASE + at),
        Just(u64::MAX),
        Just(1 << 31)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn corrupted_segment_never_panics(changes in prop::collection::vec((1usize..150, plausible()), 1..4)) {
        let mut bytes = two_threads();
        for (word, value) in changes {
            // An endless change would cost 0.1 s per case.
            let at = word * 8;
            if at != IN_PROGRESS as usize && at + 8 <= bytes.len() {
                bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
            }
        }
        let _ = read_all(&mut open(&bytes));
    }

    #[test]
    fn sums_match_the_rows(
        rows in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..200), 0..5),
        indexes in prop::collection::btree_set(0u32..300, 0..50),
    ) {
        let slices: Vec<&[u64]> = rows.iter().map(Vec::as_slice).collect();
        let mut segment = open(&SegmentBuilder::new().counters(SIMPLE, FIRST_PACKETS, &slices).bytes());
        let found = segment.read(|now| now.simple(FIRST_PACKETS, &indexes)).unwrap().unwrap();
        for (index, sum) in found {
            let expected = rows.iter().filter_map(|row| row.get(index as usize)).fold(0, |a: u64, b| a.wrapping_add(*b));
            prop_assert_eq!(sum, expected);
        }
    }
}
