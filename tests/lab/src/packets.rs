//! Packets through a real VPP: its packet generator sends flows to VIPs, and what leaves towards the servers is captured.
//! Only [`few`] can do with the simulator.
//!
//! No packet leaves VPP's process, and none of this needs a privilege.

#![expect(clippy::panic, clippy::unwrap_used, reason = "what cannot be done ends the test that asked for it")]

use std::thread;
use std::time::{Duration, Instant};

use crate::PATIENCE;

pub mod capture;
pub mod single_flow;
pub mod flow;
pub mod router;

/// Waits for what nobody tells of. If it does not come, says `instead`.
///
/// # Panics
/// It does not come.
pub fn until(mut holds: impl FnMut() -> bool, instead: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{}", instead());
        thread::sleep(Duration::from_millis(5));
    }
}
