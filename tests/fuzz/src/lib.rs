//! Fuzz targets: every decoder of vpp-maglev, as a function of bytes. Each target asserts more than a return: decoded values
//! encode and decode to the same value, split input decodes as whole input, one side accepts what the other side sends, and
//! memory stays bounded.
//!
//! `tests/replay.rs` runs them on `corpus/` and [`FuzzTarget::seeds`]. `make fuzz` explores.

// A target fails by a panic, as a test does.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a target is a test of one input")]

mod configuration;
mod http;
mod icmp;
mod input_parts;
mod link;
mod operator;
mod pem;
mod session;
mod stats;
mod system;
mod vpp;

use peak_alloc::PeakAlloc;

/// Measures memory, so that targets can have a bound.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct FuzzTarget {
    /// Name, and directory in `corpus`.
    pub name: &'static str,
    /// Maximum size of an input, in bytes.
    pub longest: usize,
    /// Maximum memory that one input may use at a time, in bytes.
    pub memory: usize,
    /// Valid inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[FuzzTarget] = &[
    configuration::CONFIG,
    configuration::OVERRIDES,
    configuration::OWNERSHIP,
    http::HTTP,
    http::BODY,
    icmp::ICMP,
    link::TO_CONTROLLER,
    link::TO_PROBER,
    operator::COMMAND,
    operator::REQUEST,
    pem::CERTIFICATES,
    session::SESSION,
    stats::STATS,
    vpp::FRAMES,
    vpp::LISTING,
];

impl FuzzTarget {
    /// Returns the target `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Initialises the caches of a target, so that the first input does not count them.
    pub fn warm_up(&self) {
        (self.run)(b"");
    }

    /// Runs the target on `input`.
    ///
    /// # Panics
    /// An assertion fails. The memory is measured for the whole process, so nothing else may run.
    pub fn feed(&self, input: &[u8]) {
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        (self.run)(input);
        let taken = MEMORY.peak_usage().saturating_sub(before);
        assert!(taken <= self.memory, "{} took {taken} bytes for {}", self.name, input.len());
    }
}
