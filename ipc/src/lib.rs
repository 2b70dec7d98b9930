//! Messages between `maglevd` (the controller) and `maglevd-prober`, with their bounds.
//!
//! There is one enum per direction: [`ToProber`] and [`ToController`]. `Hello` carries [`VERSION`]; a peer of another
//! version is disconnected. Both ends treat the other as hostile. The receiver checks every bound, and closes the link on
//! a message that is malformed, out of bounds or out of order.
//!
//! ```text
//!  maglevd                                        maglevd-prober
//!     │  Hello {version, release} ───────────────────►  │
//!     │  ◄──────────── Hello {version, release, instance}
//!     │                                                 │   a set, as one transaction:
//!     │  Begin {generation} ─────────────────────────►  │
//!     │  Bundle {id, pem} … ─────────────────────────►  │
//!     │  Checks [(id, schedule, check)] … ───────────►  │
//!     │  Commit {generation} ────────────────────────►  │   replaces the set in force
//!     │  ◄─────────────────────── Rejected {id, reason} …   checks that the prober will not run
//!     │  ◄───────────────────── Histories [history] …   │   first set only: checks it already ran
//!     │  ◄────────────────────── Committed {generation} │
//!     │  ◄────────────────────────── Outcomes [outcome] …   from now on
//!     │                                                 │   an amendment, as one transaction:
//!     │  Amend, Drop [id] …, Checks …, Commit ───────►  │
//!     │  ◄───────────────── Rejected …, Committed       │
//!     │                                                 │   at any time after Hello:
//!     │  SetIntervals [(id, interval)] ──────────────►  │
//!     │  Heartbeat ◄─────────────────► Heartbeat(stats) │   every second
//! ```
//!
//! Either end closes the link after [`PEER_TIMEOUT`](message::PEER_TIMEOUT) without a message.
//!
//! The crate is `no_std`, so the controller's pure core can use the types without a way to do IO. The codec and the socket
//! are in `maglev-ipc-link`.
//!
//! ```
//! use std::time::Duration;
//! use maglev_ipc::{Check, ConnectMode, ProbeKind, ProbeTimeout, RejectReason};
//!
//! let check = Check {
//!     target: [192, 0, 2, 1].into(),
//!     source: None,
//!     timeout: ProbeTimeout::Fixed(Duration::from_secs(1)),
//!     fast_interval: Duration::from_millis(200),
//!     probe: ProbeKind::Tcp { port: 443, mode: ConnectMode::HalfOpen, tls: None },
//! };
//! assert_eq!(check.validate(), Ok(()));
//! let multicast = Check { target: [224, 0, 0, 1].into(), ..check };
//! assert!(matches!(multicast.validate(), Err(RejectReason::Target(..))));
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bundle;
pub mod check;
pub mod message;
pub mod outcome;
pub mod regexp;
pub mod text;

pub use check::{
    Check, CheckId, ConnectMode, HttpCheck, ProbeKind, ProbeTimeout, RejectReason, Schedule, TlsHandshake,
    TlsVerify,
};
pub use message::{ToController, ToProber, VERSION};
pub use outcome::{
    CertificateExpiry, LatenessHistogram, Outcome, OutcomeCode, OutcomeDetail, ProberStats, VerdictHistory,
};
