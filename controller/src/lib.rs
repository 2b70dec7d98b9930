//! What `maglevd` is made of. A library only so that its parts can be driven from outside: fuzzed, simulated and measured.

pub mod access;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod driver;
#[cfg(test)]
mod fixture;
pub mod flags;
pub mod grpc;
pub mod handle;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod overrides;
pub mod privilege;
pub mod prober;
pub mod published;
pub mod reload;
pub mod retry;
pub mod service_manager;
pub mod spawner;
pub mod tasks;
pub mod version;
pub mod vpp;
