//! The pure heart of `maglevd`: it decides, and does nothing else.
//!
//! No clock, no randomness, no socket, no file, no channel: the current time is an argument of every call, and the
//! answer to every input is a list of outputs. The crate and its dependencies are `no_std`
//! (`tests/no_std.rs`), and it has no `unsafe`.
//!
//! ```text
//!  Input ──► State::handle(input, now) ──► Vec<Output>
//!              health    Tracker + Outcome            -> Option<Transition>
//!              failover  Config + health + overrides  -> weights
//!              plan      Desired + Actual             -> steps, in safe order
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod config;
mod cow_list;
pub mod dataplane;
pub mod event;
pub mod failover;
pub mod health;
pub mod maglev;
pub mod overrides;
pub mod plan;
pub mod state;
pub mod time;
pub mod view;

/// The name of a frontend, pool, backend or healthcheck.
pub type Name = alloc::sync::Arc<str>;
