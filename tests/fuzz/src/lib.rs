//! Every decoder of vpp-maglev, as functions of bytes alone. Each asserts more than that it returns: what was read is
//! written and read again, what comes in pieces is read as what comes at once, what one side lets through the other takes,
//! and nothing takes more memory than it may.
//!
//! `tests/replay.rs` feeds them what is in `corpus/` and in [`Target::seeds`]; `make fuzz` explores.

// A target fails by a panic, as a test does.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a target is a test of one input")]

mod configuration;
mod http;
mod icmp;
mod link;
mod operator;
mod pem;
mod scraps;
mod session;
mod stats;
mod vpp;
mod world;

use peak_alloc::PeakAlloc;

/// Counts, so that a target can be held to a bound.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A decoder.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Also the name of its folder in `corpus`.
    pub name: &'static str,
    /// The longest input, in bytes.
    pub longest: usize,
    /// What one input may take at once, in bytes.
    pub memory: usize,
    /// Inputs that are good, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    configuration::CONFIG,
    configuration::OVERRIDES,
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

impl Target {
    /// The target called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Has it make what it keeps for all inputs, so that it is not counted to the first.
    pub fn warm_up(&self) {
        (self.run)(b"");
    }

    /// Feeds it `input`.
    ///
    /// # Panics
    /// It does what it must not. To measure its memory, nothing else may run meanwhile.
    pub fn feed(&self, input: &[u8]) {
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        (self.run)(input);
        let taken = MEMORY.peak_usage().saturating_sub(before);
        assert!(taken <= self.memory, "{} took {taken} bytes for {}", self.name, input.len());
    }
}
