//! Deterministic simulation of the whole system in one process and in virtual time, from one seed: `maglevd`'s own tasks, the
//! prober's own scheduler, the codecs between them, VPP's client and the model of VPP, a disk, and faults of every kind.
//!
//! One thread runs it, on a clock that jumps to the next event. Everything depends on the seed alone: there is no socket, file,
//! other clock or hash map order. A failing seed therefore fails again with the same trace, and can be shortened ([`shrink`]).
//!
//! Simulated instead of real are the prober's sockets and the loop around its scheduler ([`prober`]), the disk ([`disk`]), and
//! the stats segment, reduced to VPP's boot time. Metrics, gRPC, logs and signals are left out.
//!
//! Modules in the order of their dependencies: models ([`config_model`], [`servers`], [`pipe`], [`disk`], [`vpp_model`]), the
//! expectations ([`oracle`], [`expected_overrides`], [`rejected_checks`]), the state ([`world`]) with its rules
//! ([`expected_state`], [`check_limit`]), the processes ([`controller`], [`prober`], [`vpp`], [`lifecycle`]), the faults
//! ([`fault`], [`script`], [`inject`]), and the run ([`mod@run`]).

mod check_limit;
mod config_model;
mod controller;
mod disk;
mod expected_overrides;
mod expected_state;
mod fault;
mod inject;
mod kept_traffic;
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
mod withdrawn_routes;
mod world;

pub use run::{RunReport, run};
