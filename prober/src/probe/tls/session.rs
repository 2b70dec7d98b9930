//! The TLS session that a check's next handshake may resume.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use crate::clock::Nanos;

/// A session is resumed for so long after its certificate was seen: it is how long a certificate that has expired or
/// was replaced may go unnoticed, besides the time to the next fresh connection.
const RESUMED_FOR: Nanos = 60_000_000_000;

/// The newest ticket of TLS 1.3, which is used once (RFC 8446 appendix C.4), or the session of TLS 1.2.
#[derive(Debug, Default)]
pub struct SavedSession(Mutex<SessionState>);

#[derive(Debug, Default)]
struct SessionState {
    /// When the server last showed its certificate.
    seen: Nanos,
    ticket: Option<Tls13ClientSessionValue>,
    tls12: Option<Tls12ClientSessionValue>,
}

impl SavedSession {
    /// Forgets what is too old to be resumed.
    pub fn age(&self, now: Nanos) {
        let mut inner = self.lock();
        if now.saturating_sub(inner.seen) >= RESUMED_FOR {
            inner.ticket = None;
            inner.tls12 = None;
        }
    }

    /// The server has shown its certificate, and it was as it should be.
    pub fn seen(&self, now: Nanos) {
        self.lock().seen = now;
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
