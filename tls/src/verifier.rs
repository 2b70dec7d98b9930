//! Verification of a server's certificate: by its issuers, or because the operator trusts that very certificate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use crate::certificate::{CertificateFault, has_common_name};

/// Verifies servers against root certificates. It also trusts the `own` certificates of servers: a server may present one of
/// them even if it is a CA's, as `openssl req -x509` makes it. Name and validity are verified in either case.
#[derive(Debug)]
pub struct ServerVerifier {
    roots: Arc<RootCertStore>,
    own: Arc<[CertificateDer<'static>]>,
    algorithms: WebPkiSupportedAlgorithms,
    /// Earliest expiry in the chain that was verified last.
    chain_expiry: Mutex<Option<u64>>,
}

impl ServerVerifier {
    /// Returns a verifier that trusts what `roots` sign, and the `own` certificates of servers.
    #[must_use]
    pub fn new(
        roots: Arc<RootCertStore>,
        own: Arc<[CertificateDer<'static>]>,
        provider: &CryptoProvider,
    ) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Self { roots, own, algorithms, chain_expiry: Mutex::default() }
    }

    /// Takes the earliest expiry of the certificates that the last verified server sent and that its verification used, in
    /// seconds since the Unix epoch. A caller of several handshakes asks after each step, as a step verifies at most one chain.
    pub fn take_chain_expiry(&self) -> Option<u64> {
        self.chain_expiry.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Verifies the chain, and returns its earliest expiry.
    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Option<u64>, Error> {
        // rustls' own error, for a certificate that it cannot parse.
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let leaf = EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let (all, usage) = (self.algorithms.all, KeyUsage::server_auth());
        if self.own.contains(end_entity) {
            return match leaf.verify_for_usage(all, &[], &[], now, usage, None, None) {
                // Its issuer does not matter.
                Ok(_) | Err(webpki::Error::CaUsedAsEndEntity | webpki::Error::UnknownIssuer) => {
                    Ok(not_after(end_entity))
                }
                Err(_) => self.fault(&parsed, &[], now).map(|()| None),
            };
        }
        let path = leaf.verify_for_usage(all, &self.roots.roots, intermediates, now, usage, None, None);
        let Ok(path) = path else { return self.fault(&parsed, intermediates, now).map(|()| None) };
        let issuers = path.intermediate_certificates().filter_map(|issuer| not_after(&issuer.der()));
        Ok(not_after(end_entity).into_iter().chain(issuers).min())
    }

    /// Returns rustls' error for a chain that webpki refuses, as rustls keeps its conversion for itself.
    fn fault(
        &self,
        leaf: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let all = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(leaf, &self.roots, intermediates, now, all)?;
        // Not reached: the same verification has just failed.
        Err(CertificateError::ApplicationVerificationFailure.into())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let expiry = self
            .verify_chain(end_entity, intermediates, now)
            .map_err(|error| name_expired_issuer(error, end_entity))?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)
            .map_err(|error| name_common_name(error, end_entity, server_name))?;
        *self.chain_expiry.lock().unwrap_or_else(PoisonError::into_inner) = expiry;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Returns the error for which no client accepts a server's certificate now, whatever the client trusts and expects.
#[must_use]
pub fn refusal(certificate: &CertificateDer<'_>, provider: &CryptoProvider) -> Option<Error> {
    let own = [certificate.clone().into_owned()];
    let verifier = ServerVerifier::new(RootCertStore::empty().into(), own.into(), provider);
    if let Err(error) = verifier.verify_chain(certificate, &[], UnixTime::now()) {
        return Some(error);
    }
    // Any name: the error lists those that the certificate has.
    let name = ServerName::try_from("localhost").ok()?;
    match verify_server_name(&ParsedCertificate::try_from(certificate).ok()?, &name) {
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }))
            if presented.is_empty() =>
        {
            Some(CertificateFault::Nameless.into())
        }
        _ => None,
    }
}

/// Tells an expired issuer from an expired certificate of the server.
fn name_expired_issuer(error: Error, end_entity: &CertificateDer<'_>) -> Error {
    let Error::InvalidCertificate(CertificateError::ExpiredContext { not_after: issuer, .. }) = &error else {
        return error;
    };
    match not_after(end_entity) {
        Some(leaf) if leaf != issuer.as_secs() => {
            CertificateFault::IssuerExpired { leaf, issuer: issuer.as_secs() }.into()
        }
        _ => error,
    }
}

/// Tells a certificate with the name in its common name only from one for another name.
fn name_common_name(error: Error, end_entity: &CertificateDer<'_>, name: &ServerName<'_>) -> Error {
    let is_nameless = matches!(
        &error,
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })
            if presented.is_empty()
    );
    if !is_nameless {
        return error;
    }
    match has_common_name(end_entity, &name.to_str()) {
        true => CertificateFault::OnlyCommonName(name.to_str().into_owned()).into(),
        false => error,
    }
}

/// Returns the end of a certificate's validity, in seconds since the Unix epoch; `None` for one that webpki does not parse.
#[must_use]
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<u64> {
    // webpki returns this time only in the error for an expired certificate, which it checks first.
    let never = UnixTime::since_unix_epoch(Duration::MAX);
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    match certificate.verify_for_usage(&[], &[], &[], never, KeyUsage::server_auth(), None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => Some(not_after.as_secs()),
        _ => None,
    }
}
