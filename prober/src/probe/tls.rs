//! TLS of probes: configurations that checks share, session resumption, and short texts for certificate errors.

mod session;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use maglev_ipc::{HttpCheck, RejectReason, TlsHandshake, TlsVerify, bundle, check};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind,
    PeerIncompatible, RootCertStore, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};

use crate::clock::Nanos;
use session::SavedSession;

/// Everything prepared for the handshakes of one check.
#[derive(Clone, Debug)]
pub struct TlsPlan {
    /// Shared by all checks with the same verification and without session resumption.
    config: Arc<ClientConfig>,
    /// Sent as SNI unless it is an address, and expected in the certificate.
    name: ServerName<'static>,
    /// Session of the last handshake, if the check may resume it; shared with `config`.
    session: Option<Arc<SavedSession>>,
}

impl TlsPlan {
    /// Begins a handshake, which resumes a recent session.
    ///
    /// # Errors
    /// rustls has no randomness.
    pub fn begin(&self, now: Nanos) -> Result<Box<ClientConnection>, Error> {
        if let Some(session) = &self.session {
            session.expire(now);
        }
        Ok(Box::new(ClientConnection::new(self.config.clone(), self.name.clone())?))
    }

    /// Records a completed handshake. Returns the end of the certificate's validity in seconds since the Unix epoch, if the
    /// server presented one.
    pub fn complete(&self, connection: &ClientConnection, now: Nanos) -> Option<u64> {
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            return None;
        }
        if let Some(session) = &self.session {
            session.mark_verified(now);
        }
        not_after(connection.peer_certificates()?.first()?)
    }
}

/// The TLS configurations in use, built on demand.
pub struct TlsConfigs {
    provider: Arc<CryptoProvider>,
    system: Arc<RootCertStore>,
    /// Number of each CA bundle, by content. Numbers are never reused.
    numbers: HashMap<Box<[u8]>, u32>,
    /// The certificates of each bundle, or the reason why it has none.
    bundles: HashMap<u32, Result<Arc<RootCertStore>, String>>,
    last_number: u32,
    built: HashMap<(TlsVerify, bool), Arc<ClientConfig>>,
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
            roots.add_parsable_certificates(found);
            Arc::new(roots)
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
        let config = self.shared_config(tls.verify, http.is_some())?;
        if http.is_none_or(|http| http.keep_alive.is_none()) {
            return Ok(TlsPlan { config, name, session: None });
        }
        // rustls stores sessions by name, but each server of a name has its own tickets.
        let session = Arc::new(SavedSession::default());
        let mut config = ClientConfig::clone(&config);
        config.resumption = Resumption::store(session.clone());
        Ok(TlsPlan { config: Arc::new(config), name, session: Some(session) })
    }

    fn shared_config(&mut self, verify: TlsVerify, http: bool) -> Result<Arc<ClientConfig>, RejectReason> {
        if let Some(config) = self.built.get(&(verify, http)) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.build(verify, http)?);
        self.built.insert((verify, http), config.clone());
        Ok(config)
    }

    /// Returns the certificates to trust; `None` if any certificate passes.
    fn roots(&self, verify: TlsVerify) -> Result<Option<Arc<RootCertStore>>, String> {
        match verify {
            TlsVerify::Nothing => Ok(None),
            TlsVerify::System if self.system.is_empty() => {
                Err("this host has no root certificates".to_owned())
            }
            TlsVerify::System => Ok(Some(self.system.clone())),
            TlsVerify::Bundle(number) => match self.bundles.get(&number) {
                Some(Ok(roots)) => Ok(Some(roots.clone())),
                Some(Err(why)) => Err(format!("ca-file: {why}")),
                None => Err("ca-file: was not sent".to_owned()),
            },
        }
    }

    fn build(&self, verify: TlsVerify, http: bool) -> Result<ClientConfig, RejectReason> {
        let builder =
            ClientConfig::builder_with_provider(self.provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| RejectReason::Invalid(error.to_string()))?;
        let roots = self.roots(verify).map_err(RejectReason::Invalid)?;
        let mut config = match roots {
            Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
            None => {
                let verifier = Arc::new(NoVerification(self.provider.clone()));
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
        };
        // A resumed session presents no certificate, so its expiry would be unknown.
        config.resumption = Resumption::disabled();
        if http {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(config)
    }
}

/// Returns the end of a certificate's validity, in seconds since the Unix epoch.
fn not_after(certificate: &CertificateDer<'_>) -> Option<u64> {
    // webpki returns this time only in the error for an expired certificate, which it checks first.
    let never = UnixTime::since_unix_epoch(Duration::MAX);
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    match certificate.verify_for_usage(&[], &[], &[], never, KeyUsage::server_auth(), None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => Some(not_after.as_secs()),
        _ => None,
    }
}

/// Returns the end of validity of an expired certificate, if that made the handshake fail.
pub fn expiry_of(error: &Error) -> Option<u64> {
    match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            Some(not_after.as_secs())
        }
        _ => None,
    }
}

/// Describes an error for operators.
pub fn describe(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(fault) => describe_certificate(fault),
        Error::AlertReceived(alert) => format!("the server sent the alert {alert:?}"),
        Error::InvalidMessage(_) => "the answer is not TLS".to_owned(),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            "the server speaks neither TLS 1.2 nor 1.3".to_owned()
        }
        Error::NoCertificatesPresented => "the server sent no certificate".to_owned(),
        other => other.to_string(),
    }
}

fn describe_certificate(fault: &CertificateError) -> String {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate not valid yet".to_owned()
        }
        CertificateError::NotValidForName => "certificate not valid for this name".to_owned(),
        CertificateError::NotValidForNameContext { expected, .. } => {
            format!("certificate not valid for name {}", expected.to_str())
        }
        CertificateError::UnknownIssuer => "certificate from an unknown issuer".to_owned(),
        CertificateError::BadSignature => "certificate with a bad signature".to_owned(),
        CertificateError::BadEncoding => "certificate is malformed".to_owned(),
        CertificateError::Revoked => "certificate revoked".to_owned(),
        // rustls has no variant for this error of webpki.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "certificate is a CA's own".to_owned()
        }
        other => format!("certificate: {other}"),
    }
}

/// Accepts any certificate, but still verifies that the server has its key.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
