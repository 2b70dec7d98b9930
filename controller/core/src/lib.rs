//! The decisions of `maglevd`: health, failover, and plans for VPP. The crate is sans-IO: it decides and executes nothing.
//!
//! Time is an argument of every call, and the answer to every input is a list of requests. There is no clock, randomness,
//! socket, file or channel. The crate and its dependencies are `no_std` (`tests/no_std.rs`), and it has no `unsafe`.
//!
//! ```text
//!                         ┌──────────────────────── State ────────────────────────┐
//!   Input                 │                                                       │  Output
//!   ─────                 │   health     Tracker + Outcome      -> Transition     │  ──────
//!   Outcomes, Histories ─►│                  │                                    │─► SetChecks, SetInterval
//!   Reload, operate() ───►│   failover   members + health       -> weights        │─► Event
//!   AllRead, VipRead, .. ►│                  │                                    │─► ReadAll, ReadVip, ListVips, ..
//!   StepsApplied ────────►│   plan       desired + actual VIP   -> steps          │─► Apply(steps)
//!   Tick ────────────────►│                                                       │
//!                         └───────────────────────────┬───────────────────────────┘
//!                                                     └─► view(), explain_*(), preview(), summary(), wake_at()
//! ```
//!
//! The caller feeds inputs to [`State::handle`](state::State::handle) and executes the outputs; requests to VPP are answered
//! by further inputs.
//!
//! # Reconciliation of a VIP
//!
//! A VIP has at most one job. Changes during a job are considered when it ends.
//!
//! ```text
//!             plan with steps: Apply                step failed
//!   ┌──────┐ ────────────────────────► ┌─────────┐ ─────────────► ┌─────────┐
//!   │ idle │                           │ running │                │ waiting │
//!   └──────┘ ◄──────────────────────── └─────────┘                └─────────┘
//!     │  ▲       StepsApplied: all                                     │ backoff: ReadVip
//!     │  │                                                             ▼
//!     │  └──────── ServersRead, VipRead: plan again ───────────── ┌─────────┐
//!     └─────────── drift check: ReadServers ────────────────────► │ reading │
//!                                                                 └─────────┘
//! ```
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | [`config`] | the checked configuration, and its checks |
//! | [`health`] | rise/fall counter, freshness, transitions |
//! | [`failover`] | active pool and effective weights |
//! | [`dataplane`] | VIPs of VPP, actual and desired, and steps |
//! | [`plan`] | steps in a safe order |
//! | [`maglev`] | weights, and VPP's new-flow table |
//! | [`overrides`] | operators' overrides |
//! | [`ownership`] | the VIPs that `maglevd` owns in VPP |
//! | [`state`] | the state machine, with the list of stored state |
//! | [`view`], [`event`] | everything that is displayed or published |
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
pub mod ownership;
pub mod plan;
pub mod state;
pub mod surroundings;
pub mod time;
pub mod view;

/// Name of a frontend, pool, backend or healthcheck.
pub type Name = alloc::sync::Arc<str>;
