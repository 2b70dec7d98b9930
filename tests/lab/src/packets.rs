//! Packets through a real VPP: its packet generator sends flows to VIPs, and packets towards the servers are captured. Only
//! [`single_flow`] also supports the simulator.
//!
//! No packet leaves VPP's process, so no privileges are needed.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failure ends the test")]

use std::thread;
use std::time::{Duration, Instant};

use crate::PATIENCE;

pub mod capture;
pub mod flow;
pub mod router;
pub mod single_flow;

/// Polls until `holds` returns true. On timeout, panics with `instead`.
///
/// # Panics
/// On timeout.
pub fn until(mut holds: impl FnMut() -> bool, instead: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{}", instead());
        thread::sleep(Duration::from_millis(5));
    }
}
