//! The stats segment: a memory file in the layout of VPP's stats segment, version 2.
//!
//! Its entries are the heartbeat, the boot time, the number of workers, the gauges of the heap, and the counters of the plugin
//! and of its routes, of one thread.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use maglev_vpp::stats::{
    BOOT_TIME, CombinedCounter, FIRST_PACKETS, MAIN_HEAP, NEXT_PACKETS, NO_SERVER_PACKETS, ROUTE_TO,
    ROUTE_VIA, UNTRACKED_PACKETS, WORKERS,
};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::faults::{HeapSize, InjectedFaults};
use super::plugin::LbPlugin;

/// Name of the file in `/proc/PID/fd`.
pub const STATS_SEGMENT: &str = "vppsim-stats";
/// Minimum size of the file.
const SIZE: u64 = 64 << 10;
/// Address of the segment in VPP's memory.
const BASE: u64 = 0x1_3000_0000;
const DIRECTORY: usize = 4096;
const VECTORS: usize = 8192;
const ENTRY: usize = 144;
const SCALAR: u32 = 1;
const SIMPLE: u32 = 2;
const COMBINED: u32 = 3;
const GAUGE: u32 = 9;
const HEARTBEAT: &str = "/sys/heartbeat";
const VERSION: u64 = 2;

/// The segment of one run of VPP.
pub(super) struct StatsSegment {
    pub file: File,
    boot_time: u64,
    pub heartbeats: u64,
    epoch: u64,
    /// Number of VIPs, routes and relocations. VPP increments the epoch when one of them changes.
    shape: [usize; 3],
    relocations: usize,
}

impl StatsSegment {
    pub fn new(boot_time: u64) -> io::Result<Self> {
        let file = File::from(memfd_create(STATS_SEGMENT, MFdFlags::MFD_CLOEXEC)?);
        Ok(Self { file, boot_time, heartbeats: 0, epoch: 1, shape: [0; 3], relocations: 0 })
    }

    /// Moves all vectors to another offset.
    pub fn relocate(&mut self) {
        self.relocations += 1;
    }

    /// Writes the plugin's counters. New entries are visible from then on.
    pub fn publish_stats(&mut self, plugin: &LbPlugin, faults: &InjectedFaults) -> io::Result<()> {
        let mut image = SegmentImage { bytes: vec![0; VECTORS + self.relocations * 64], entries: 0 };
        image.scalar(BOOT_TIME, self.boot_time);
        image.scalar(HEARTBEAT, self.heartbeats);
        image.entry(GAUGE, 0, WORKERS);
        let HeapSize { total, free } = faults.heap.unwrap_or_default();
        let used = total - free.min(total);
        // The others are the mapped, allocated and releasable bytes, and the number of free chunks.
        image.simple(MAIN_HEAP, [total, used, free, 0, total, 1, free].into_iter());
        let [to, via] = plugin.fib.counters();
        let vips: Vec<[u64; 4]> = plugin.vips.all().map(|vip| vip.packets).collect();
        image.combined(ROUTE_TO, &to);
        image.combined(ROUTE_VIA, &via);
        // VPP creates these entries with the first visible VIP.
        if vips.len() > 1 {
            let names = [NEXT_PACKETS, FIRST_PACKETS, UNTRACKED_PACKETS, NO_SERVER_PACKETS];
            for (outcome, name) in names.into_iter().enumerate() {
                image.simple(name, vips.iter().map(|packets| packets[outcome]));
            }
        }
        let shape = [vips.len(), to.len(), self.relocations];
        let is_changing = faults.stats_always_changing || shape != self.shape;
        self.file.set_len(SIZE.max(image.bytes.len() as u64))?;
        self.header(is_changing)?;
        self.file.write_all_at(&image.bytes[DIRECTORY - 8..], DIRECTORY as u64 - 8)?;
        self.epoch += u64::from(shape != self.shape);
        self.shape = shape;
        self.header(faults.stats_always_changing)?;
        faults.stats_size.map_or(Ok(()), |size| self.file.set_len(size))
    }

    fn header(&self, in_progress: bool) -> io::Result<()> {
        let directory = BASE + DIRECTORY as u64;
        let words = [VERSION, BASE, self.epoch, u64::from(in_progress), directory];
        self.file.write_all_at(&words.map(u64::to_le_bytes).concat(), 0)
    }
}

/// The file under construction. The header is written last.
struct SegmentImage {
    bytes: Vec<u8>,
    entries: usize,
}

impl SegmentImage {
    fn scalar(&mut self, name: &str, value: u64) {
        self.entry(SCALAR, value, name);
    }

    fn simple(&mut self, name: &str, row: impl Iterator<Item = u64>) {
        let row: Vec<u64> = row.collect();
        self.counters(SIMPLE, name, row.len(), &row);
    }

    fn combined(&mut self, name: &str, row: &[CombinedCounter]) {
        let words: Vec<u64> = row.iter().flat_map(|traffic| [traffic.packets, traffic.bytes]).collect();
        self.counters(COMBINED, name, row.len(), &words);
    }

    fn counters(&mut self, kind: u32, name: &str, length: usize, words: &[u64]) {
        let row = self.vector(length, words);
        let rows = self.vector(1, &[row]);
        self.entry(kind, rows, name);
    }

    /// Appends a vector, and returns its address. The length precedes the first element.
    fn vector(&mut self, length: usize, words: &[u64]) -> u64 {
        self.bytes.extend((length as u64).to_le_bytes());
        let address = BASE + self.bytes.len() as u64;
        self.bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        address
    }

    fn entry(&mut self, kind: u32, value: u64, name: &str) {
        let at = DIRECTORY + self.entries * ENTRY;
        self.bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        self.bytes[at + 8..at + 16].copy_from_slice(&value.to_le_bytes());
        self.bytes[at + 16..at + 16 + name.len()].copy_from_slice(name.as_bytes());
        self.entries += 1;
        self.bytes[DIRECTORY - 8..DIRECTORY].copy_from_slice(&(self.entries as u64).to_le_bytes());
    }
}
