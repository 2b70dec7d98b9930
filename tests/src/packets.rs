//! Packets through a real VPP: its packet generator sends flows to VIPs, and what leaves towards the servers is captured.
//!
//! No packet leaves VPP's process, and none of this needs a privilege.

#![expect(clippy::panic, clippy::unwrap_used, reason = "what cannot be done ends the test that asked for it")]

pub mod capture;
pub mod flow;
pub mod router;
