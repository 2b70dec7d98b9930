//! `maglevd`, the controller: decides health and failover, and programs VPP accordingly. A library only so that fuzzing, the
//! simulation and benchmarks can drive its parts; it has no stable interface.
//!
//! [`maglev_core`] decides, without IO or clock. This crate feeds it inputs and carries out its outputs:
//!
//! ```text
//!  gRPC ── requests ──┐                 ┌── outputs ──► prober link ──► maglevd-prober
//!  SIGHUP ── reload ──┤                 │
//!                     ▼                 ├── outputs ──► VPP link ────► VPP
//!                  driver: maglev_core::State
//!                     ▲                 ├── overrides ─► persister ──► disk
//!  prober link ───────┤                 │
//!  VPP link ── inputs ┘                 └── events ───► log, metrics, subscribers
//! ```
//!
//! # Tasks and channels
//!
//! [`tasks::start`] starts the first five, on a thread of their own; [`daemon`] starts the servers, on a runtime with two
//! workers. Task loops use `biased` `select!`, ordered so that a busy source cannot starve the others.
//!
//! * **Driver** ([`driver`]): owns the core's state. Receives batches of inputs (bounded `mpsc`) and requests (bounded
//!   `mpsc`), and runs the core's timer. Feeds the watchdog from its own loop ([`service_manager`]).
//! * **Prober link** ([`prober`]): reconnects to the prober. Receives commands (unbounded `mpsc`, discarded unless they belong
//!   to the current link) and the network namespace (`watch`); sends inputs.
//! * **VPP link** ([`vpp`]): reconnects to VPP. Receives commands (unbounded `mpsc`); sends inputs. While connected it also
//!   runs the traffic reader ([`vpp`]'s `traffic`), which receives index changes (`broadcast`) and publishes counters (`watch`).
//! * **Persister** ([`overrides`]): receives the newest overrides (`watch`, so it may skip some), writes them to disk, and
//!   publishes its status (`watch`). The driver never waits for the disk.
//! * **Ownership writer** ([`ownership`]): receives the VIPs that are ours in VPP (`watch`), and writes them to disk.
//! * **gRPC server** ([`grpc`]) and **metrics endpoint** ([`metrics`]): clients of the driver through a [`handle::Handle`]. They
//!   render snapshots on their own threads and subscribe to events (`broadcast`, bounded: a slow subscriber loses the oldest).
//!
//! All tasks are cancel-safe at their `select!`: a message is taken only when its arm runs. At shutdown the driver ends first.
//! Its channels close, the links end, and the persister writes the last overrides.
//!
//! # Modules
//!
//! [`published`] holds the data that tasks publish; producers and consumers depend on it, and not on each other. The module graph
//! has no cycles; `tests/house` verifies that.

pub mod access;
pub mod clock;
mod coalesced;
pub mod config;
mod connection_limit;
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
pub mod ownership;
pub mod privilege;
pub mod prober;
pub mod published;
mod readings;
pub mod reload;
pub mod retry;
mod root;
pub mod service_manager;
pub mod spawner;
mod task_thread;
pub mod tasks;
pub mod version;
pub mod vpp;
