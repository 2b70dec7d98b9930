//! The parts of `maglevd-prober`, which sends health probes and streams their outcomes to `maglevd`.
//!
//! The crate is internal: it is a library so that fuzz targets, the simulation and benchmarks can drive its parts. Its API
//! changes without notice.
//!
//! # Structure
//!
//! One thread, one epoll loop ([`engine`]). All decisions about time are in the pure [`scheduler`]:
//!
//! ```text
//!              ┌────────────────────────── engine: one iteration ──────────────────────────┐
//!              │                                                                           │
//!  epoll_wait ─┼─► begin_iteration ──► dispatch events ──► process_timers ──► start probes │
//!      ▲       │                        │ replies,          │ timeouts,        │           │
//!      │       │                        │ connections       │ due checks       │ connect,  │
//!      │       │                        ▼                   ▼                  ▼ SYN, ping │
//!      │       │                  finish_probe ───────► Scheduler ◄──────── start_next     │
//!      │       │                                           │                               │
//!      │       │      service_controller ◄─── Outbox ◄─────┘ take_reports                  │
//!      │       │        heartbeat, check sets, outcomes                                    │
//!      │       └────────────────────────────────┬──────────────────────────────────────────┘
//!      └──────── until next_wakeup, or an event ┘
//! ```
//!
//! | module | content | IO |
//! |---|---|---|
//! | [`scheduler`] | start times, timeouts, order of outcomes | none |
//! | [`set`], [`targets`], [`protocol`] | check sets as transactions, validation of messages | none |
//! | [`outbox`] | queue of messages to the controller | none |
//! | [`probe`] | one module per kind of probe; packet formats without IO | sockets |
//! | [`engine`] | the loop, the sockets, the controller session | epoll, sockets |
//! | [`listen`], [`netns`], [`privilege`] | start-up: the controller's socket, the namespace, dropping privilege | start-up only |
//!
//! The leaf modules [`verdict`] and [`probe_id`] are all that the scheduler knows of a probe.

pub mod args;
pub mod clock;
pub mod engine;
pub mod listen;
pub mod netns;
pub mod outbox;
pub mod privilege;
pub mod probe;
pub mod probe_id;
pub mod protocol;
pub mod random;
pub mod scheduler;
pub mod set;
pub mod targets;
pub mod verdict;
