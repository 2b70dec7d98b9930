//! What `maglevd` and `maglevd-prober` say to each other over a unix socket of type `SOCK_SEQPACKET`.
//!
//! One enum per direction ([`ToProber`], [`ToController`]), one version number ([`VERSION`]), one codec with a bound
//! on every message ([`codec::MAX`]). Both ends treat the other as hostile: a message that does not decode,
//! exceeds a bound or comes out of turn closes the link.

pub mod check;
pub mod codec;
pub mod link;
pub mod message;
pub mod outcome;

pub use check::{
    Check, CheckId, ConnectMode, HttpCheck, ProbeKind, ProbeTimeout, RejectReason, Schedule, TlsHandshake,
    TlsVerify,
};
pub use link::{ControllerLink, Link, ProberLink};
pub use message::{ToController, ToProber, VERSION};
pub use outcome::{LatenessHistogram, Outcome, OutcomeCode, OutcomeDetail, ProberStats, VerdictHistory};
