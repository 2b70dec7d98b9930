//! The TLS session of a check, which its next handshake may resume.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use crate::clock::Nanos;

/// Time after a full handshake during which the session is resumed. A certificate that expires or is replaced stays
/// unnoticed for at most this time, plus the time to the next new connection.
const MAX_AGE: Nanos = 60_000_000_000;

/// The newest TLS 1.3 ticket, which is used once (RFC 8446 appendix C.4), or the TLS 1.2 session.
#[derive(Debug, Default)]
pub struct SavedSession(Mutex<SessionState>);

#[derive(Debug, Default)]
struct SessionState {
    /// Time of the last full handshake, in which the server presented its certificate.
    verified_at: Nanos,
    ticket: Option<Tls13ClientSessionValue>,
    tls12: Option<Tls12ClientSessionValue>,
}

impl SavedSession {
    /// Drops a session that is too old to resume.
    pub fn expire(&self, now: Nanos) {
        let mut inner = self.lock();
        if now.saturating_sub(inner.verified_at) >= MAX_AGE {
            inner.ticket = None;
            inner.tls12 = None;
        }
    }

    /// Records that the server presented a valid certificate.
    pub fn mark_verified(&self, now: Nanos) {
        self.lock().verified_at = now;
    }

    fn lock(&self) -> MutexGuard<'_, SessionState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for SavedSession {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.lock().tls12 = Some(session);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.lock().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.lock().ticket = Some(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock().ticket.take()
    }
}

#[cfg(test)]
mod tests;
