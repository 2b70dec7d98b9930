//! TLS of probes: configurations that checks share, and session resumption.

mod client;
mod connection;
mod session;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use maglev_ipc::{CertificateExpiry, HttpCheck, RejectReason, TlsHandshake, TlsVerify, bundle, check};
use maglev_tls::{CertificateFault, ServerVerifier};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, RootCertStore};

use crate::clock::Nanos;
use client::{CertificateRequests, NoVerification, SharedClient};
pub use connection::TlsConnection;
use session::SavedSession;

/// Everything prepared for the handshakes of one check.
#[derive(Clone, Debug)]
pub struct TlsPlan {
    /// Shared by all checks with the same verification and without session resumption.
    client: SharedClient,
    /// Sent as SNI unless it is an address, and expected in the certificate.
    name: ServerName<'static>,
    /// Session of the last handshake, if the check may resume it; shared with `client`.
    session: Option<Arc<SavedSession>>,
}

impl TlsPlan {
    /// Begins a handshake, which resumes a recent session.
    ///
    /// # Errors
    /// rustls has no randomness.
    pub fn begin(&self, now: Nanos) -> Result<Box<TlsConnection>, Error> {
        if let Some(session) = &self.session {
            session.expire(now);
        }
        let connection = ClientConnection::new(self.client.config.clone(), self.name.clone())?;
        Ok(Box::new(TlsConnection::new(connection)))
    }
}

/// The TLS configurations in use, built on demand.
pub struct TlsConfigs {
    provider: Arc<CryptoProvider>,
    system: Arc<RootCertStore>,
    /// Number of each CA bundle, by content. Numbers are never reused.
    numbers: HashMap<Box<[u8]>, u32>,
    /// The certificates of each bundle, or the reason why it has none.
    bundles: HashMap<u32, Result<TrustedCertificates, String>>,
    last_number: u32,
    built: HashMap<(TlsVerify, bool), SharedClient>,
}

/// Certificates to trust.
#[derive(Clone)]
struct TrustedCertificates {
    /// As issuers.
    roots: Arc<RootCertStore>,
    /// As a server's own.
    own: Arc<[CertificateDer<'static>]>,
}

impl fmt::Debug for TlsConfigs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfigs").field("system", &self.system.len()).finish_non_exhaustive()
    }
}

impl TlsConfigs {
    /// Returns an empty set with these system roots; invalid certificates are ignored.
    pub fn new(system: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(system);
        Self {
            provider: Arc::new(ring::default_provider()),
            system: Arc::new(roots),
            numbers: HashMap::new(),
            bundles: HashMap::new(),
            last_number: 0,
            built: HashMap::new(),
        }
    }

    /// Adds a CA bundle in PEM and returns its number. Equal content has one number.
    pub fn add_bundle(&mut self, pem: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(pem) {
            return *number;
        }
        let mut roots = RootCertStore::empty();
        // The reason is the same for each check that uses the bundle.
        let bundle = bundle::certificates(pem).map(|found| {
            roots.add_parsable_certificates(found.iter().cloned());
            TrustedCertificates { roots: Arc::new(roots), own: found.into() }
        });
        self.last_number += 1;
        self.numbers.insert(pem.into(), self.last_number);
        self.bundles.insert(self.last_number, bundle);
        self.last_number
    }

    /// Removes all bundles but the `used` ones.
    pub fn retain(&mut self, used: &HashSet<u32>) {
        self.numbers.retain(|_, number| used.contains(number));
        self.bundles.retain(|number, _| used.contains(number));
        self.built.retain(|(verify, _), _| match verify {
            TlsVerify::Bundle(number) => used.contains(number),
            TlsVerify::Nothing | TlsVerify::System => true,
        });
    }

    /// Returns the plan of a check. A check that keeps its connections also resumes sessions.
    ///
    /// # Errors
    /// The server name is invalid, or there are no root certificates to verify with.
    pub fn plan(&mut self, tls: &TlsHandshake, http: Option<&HttpCheck>) -> Result<TlsPlan, RejectReason> {
        let name = check::server_name(&tls.server_name);
        let name =
            name.ok_or_else(|| RejectReason::Invalid(format!("invalid server name {}", tls.server_name)))?;
        let mut client = self.shared_client(tls.verify, http.is_some())?;
        if http.is_none_or(|http| http.keep_alive.is_none()) {
            return Ok(TlsPlan { client, name, session: None });
        }
        // rustls stores sessions by name, but each server of a name has its own tickets.
        let session = Arc::new(SavedSession::default());
        let mut config = ClientConfig::clone(&client.config);
        config.resumption = Resumption::store(session.clone());
        client.config = Arc::new(config);
        Ok(TlsPlan { client, name, session: Some(session) })
    }

    fn shared_client(&mut self, verify: TlsVerify, http: bool) -> Result<SharedClient, RejectReason> {
        if let Some(client) = self.built.get(&(verify, http)) {
            return Ok(client.clone());
        }
        let client = self.build(verify, http)?;
        self.built.insert((verify, http), client.clone());
        Ok(client)
    }

    /// Returns the certificates to trust; `None` if any certificate passes.
    fn trusted(&self, verify: TlsVerify) -> Result<Option<TrustedCertificates>, String> {
        match verify {
            TlsVerify::Nothing => Ok(None),
            TlsVerify::System if self.system.is_empty() => {
                Err("this host has no root certificates".to_owned())
            }
            TlsVerify::System => {
                Ok(Some(TrustedCertificates { roots: self.system.clone(), own: Arc::new([]) }))
            }
            TlsVerify::Bundle(number) => match self.bundles.get(&number) {
                Some(Ok(trusted)) => Ok(Some(trusted.clone())),
                Some(Err(why)) => Err(format!("ca-file: {why}")),
                None => Err("ca-file: was not sent".to_owned()),
            },
        }
    }

    fn build(&self, verify: TlsVerify, http: bool) -> Result<SharedClient, RejectReason> {
        let builder =
            ClientConfig::builder_with_provider(self.provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| RejectReason::Invalid(error.to_string()))?.dangerous();
        let trusted = self.trusted(verify).map_err(RejectReason::Invalid)?;
        let verifier =
            trusted.map(|trusted| Arc::new(ServerVerifier::new(trusted.roots, trusted.own, &self.provider)));
        let builder = match &verifier {
            Some(verifier) => builder.with_custom_certificate_verifier(verifier.clone()),
            None => builder.with_custom_certificate_verifier(Arc::new(NoVerification)),
        };
        let requests = Arc::new(CertificateRequests::default());
        let mut config = builder.with_client_cert_resolver(requests.clone());
        // A resumed session presents no certificate, so its expiry would be unknown.
        config.resumption = Resumption::disabled();
        if http {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(SharedClient { config: Arc::new(config), verifier, requests })
    }
}

/// Returns the expiry of an expired certificate, if that made the handshake fail.
pub fn expiry_of(error: &Error) -> Option<CertificateExpiry> {
    if let Some(CertificateFault::IssuerExpired { leaf, issuer }) = CertificateFault::of(error) {
        return Some(CertificateExpiry { leaf: *leaf, chain: *issuer });
    }
    match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            let leaf = not_after.as_secs();
            Some(CertificateExpiry { leaf, chain: leaf })
        }
        _ => None,
    }
}

/// Describes an error for operators.
pub fn describe(error: &Error) -> Cow<'static, str> {
    maglev_tls::describe(error, "server")
}
