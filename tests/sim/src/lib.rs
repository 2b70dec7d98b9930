//! The whole system in one process, in virtual time, from one seed: `maglevd`'s own tasks, the prober's own course, the
//! codecs between them, VPP's client and the model of VPP, a disk, and everything that can go wrong between them.
//!
//! One thread runs it on a clock that jumps to when something happens next. Nothing in it depends on anything but the seed:
//! no socket, no file, no other clock, no order of a hash map. So a seed that fails fails again, in every line of its
//! trace, and can be shortened ([`shrink`]).
//!
//! What is not the real thing here: the prober's sockets and the loop around its course ([`prober`]), the disk
//! ([`disk`]), the stats segment, of which there is but since when VPP runs, and all that only shows or asks: gRPC, metrics,
//! logs, signals.

mod check_limit;
mod config_model;
mod controller;
mod disk;
mod expected_overrides;
mod expected_state;
mod fault;
mod inject;
mod late_stream;
mod lifecycle;
mod oracle;
mod pipe;
mod prober;
mod process;
mod rejected_checks;
mod run;
mod running;
pub mod script;
pub mod seeds;
mod servers;
pub mod shrink;
mod simulation;
mod vpp;
mod vpp_model;
mod world;

pub use run::{RunReport, run};
