//! Verification of servers' certificates, and TLS errors in words for operators. The prober, maglevd and maglevc share both, so
//! they accept the same certificates and describe the same errors in the same words.

#![forbid(unsafe_code)]

mod alerts;
mod certificate;
mod handshake;
mod verifier;

pub use certificate::{CertificateFault, describe_certificate};
pub use handshake::describe;
pub use verifier::{MAX_ISSUERS, ServerVerifier, not_after, refusal};
