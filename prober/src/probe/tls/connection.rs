//! The TLS session of one connection.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::ops::{Deref, DerefMut};

use maglev_ipc::CertificateExpiry;
use maglev_tls::not_after;
use rustls::{ClientConnection, HandshakeKind, ProtocolVersion};

use super::TlsPlan;
use crate::clock::Nanos;

/// A TLS session, from the first message of its handshake.
#[derive(Debug)]
pub struct TlsConnection {
    inner: ClientConnection,
    /// Earliest expiry of the verified chain.
    chain_expiry: Option<u64>,
    /// True if the server requested a client certificate. None is presented.
    requests_certificate: bool,
    /// True while the probe waits for the server's answer to the lack of a certificate.
    awaits_answer: bool,
}

impl TlsConnection {
    pub(super) const fn new(inner: ClientConnection) -> Self {
        Self { inner, chain_expiry: None, requests_certificate: false, awaits_answer: false }
    }

    /// Continues the handshake to its end. Returns the expiry of the server's certificates, if it presented any.
    ///
    /// # Errors
    /// The handshake failed, or the socket would block.
    pub fn handshake(
        &mut self,
        plan: &TlsPlan,
        socket: &mut (impl Read + Write),
        now: Nanos,
    ) -> io::Result<Option<CertificateExpiry>> {
        while self.inner.is_handshaking() {
            let result = self.inner.complete_io(socket);
            // Checks share the callbacks that note this, so it is taken after each step.
            let (chain_expiry, requests_certificate) = plan.client.take_notes();
            self.chain_expiry = chain_expiry.or(self.chain_expiry);
            self.requests_certificate |= requests_certificate;
            result?;
        }
        if self.has_resumed() {
            return Ok(None);
        }
        if let Some(session) = &plan.session {
            session.mark_verified(now);
        }
        let leaf = self.inner.peer_certificates().and_then(|chain| not_after(chain.first()?));
        Ok(leaf.map(|leaf| CertificateExpiry { leaf, chain: self.chain_expiry.unwrap_or(leaf) }))
    }

    /// Waits until the server has accepted a handshake that is complete for the client. With TLS 1.3 that is before the server
    /// misses a client certificate. So a server that requested one has to send a first record, a ticket or an answer to
    /// `close_notify`, unless it sends the alert.
    ///
    /// # Errors
    /// The server refused the handshake, or the socket would block.
    pub fn await_acceptance(&mut self, socket: &mut (impl Read + Write)) -> io::Result<()> {
        if !self.requests_certificate || self.inner.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return Ok(());
        }
        if !std::mem::replace(&mut self.awaits_answer, true) {
            self.inner.send_close_notify();
        }
        while self.inner.tls13_tickets_received() == 0 {
            match self.inner.complete_io(socket) {
                // Closed.
                Ok((0, 0)) => return Ok(()),
                // Data, or its end by a close_notify.
                Ok(_) if self.inner.reader().fill_buf().is_ok() => return Ok(()),
                Ok(_) => {}
                // Closed without a word of TLS.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns true while the server may still refuse a handshake that is complete for the client.
    pub const fn awaits_answer(&self) -> bool {
        self.awaits_answer
    }

    /// Returns true if the handshake resumed a session.
    pub fn has_resumed(&self) -> bool {
        self.inner.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

impl Deref for TlsConnection {
    type Target = ClientConnection;

    fn deref(&self) -> &ClientConnection {
        &self.inner
    }
}

impl DerefMut for TlsConnection {
    fn deref_mut(&mut self) -> &mut ClientConnection {
        &mut self.inner
    }
}
