//! Verification of a server's certificate: by its issuers, or because the operator trusts that very certificate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use crate::certificate::{CertificateFault, has_common_name};

/// Maximum number of certificates beside the server's own. Real chains have up to four. Each may cost the verification of a
/// signature, and the server chooses them: a chain that fills its message costs 90.
pub const MAX_ISSUERS: usize = 16;

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
    ) -> Result<Option<u64>, webpki::Error> {
        let leaf = EndEntityCert::try_from(end_entity)?;
        let (all, usage) = (self.algorithms.all, KeyUsage::server_auth());
        if self.own.contains(end_entity) {
            return match leaf.verify_for_usage(all, &[], &[], now, usage, None, None) {
                // Its issuer does not matter.
                Ok(_) | Err(webpki::Error::CaUsedAsEndEntity | webpki::Error::UnknownIssuer) => {
                    Ok(not_after(end_entity))
                }
                Err(error) => Err(error),
            };
        }
        let path = leaf.verify_for_usage(all, &self.roots.roots, intermediates, now, usage, None, None)?;
        let issuers = path.intermediate_certificates().filter_map(|issuer| not_after(&issuer.der()));
        Ok(not_after(end_entity).into_iter().chain(issuers).min())
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
        if intermediates.len() > MAX_ISSUERS {
            return Err(CertificateFault::TooManyIssuers(intermediates.len()).into());
        }
        let expiry = self
            .verify_chain(end_entity, intermediates, now)
            .map_err(|error| chain_error(error, end_entity))?;
        verify_name(end_entity, server_name)?;
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
        return Some(chain_error(error, certificate));
    }
    // Any name: the error lists those that the certificate has.
    let name = ServerName::try_from("localhost").ok()?;
    match EndEntityCert::try_from(certificate).ok()?.verify_is_valid_for_subject_name(&name) {
        Err(webpki::Error::CertNotValidForName(names)) if names.presented.is_empty() => {
            Some(CertificateFault::Nameless.into())
        }
        _ => None,
    }
}

/// Converts an error, and tells an expired issuer from an expired certificate of the server.
fn chain_error(error: webpki::Error, end_entity: &CertificateDer<'_>) -> Error {
    match (&error, not_after(end_entity)) {
        (webpki::Error::CertExpired { not_after: issuer, .. }, Some(leaf)) if issuer.as_secs() != leaf => {
            CertificateFault::IssuerExpired { leaf, issuer: issuer.as_secs() }.into()
        }
        _ => certificate_error(error).into(),
    }
}

/// Verifies the name, and tells a certificate with the name in its common name only from one for another name.
fn verify_name(end_entity: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let leaf = EndEntityCert::try_from(end_entity).map_err(certificate_error)?;
    leaf.verify_is_valid_for_subject_name(name).map_err(|error| match error {
        webpki::Error::CertNotValidForName(names)
            if names.presented.is_empty() && has_common_name(leaf.subject(), &name.to_str()) =>
        {
            CertificateFault::OnlyCommonName(name.to_str().into_owned()).into()
        }
        error => certificate_error(error).into(),
    })
}

/// Converts an error as rustls does, which keeps its conversion for itself. The server receives the alert of the result.
fn certificate_error(error: webpki::Error) -> CertificateError {
    use webpki::Error as Fault;
    match error {
        Fault::BadDer | Fault::BadDerTime | Fault::TrailingData(_) => CertificateError::BadEncoding,
        Fault::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        Fault::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        Fault::InvalidCertValidity => CertificateError::Expired,
        Fault::UnknownIssuer => CertificateError::UnknownIssuer,
        Fault::CertNotValidForName(names) => {
            CertificateError::NotValidForNameContext { expected: names.expected, presented: names.presented }
        }
        Fault::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        Fault::UnsupportedSignatureAlgorithmContext(algorithms) => {
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: algorithms.signature_algorithm_id,
                supported_algorithms: algorithms.supported_algorithms,
            }
        }
        Fault::UnsupportedSignatureAlgorithmForPublicKeyContext(algorithms) => {
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: algorithms.signature_algorithm_id,
                public_key_algorithm_id: algorithms.public_key_algorithm_id,
            }
        }
        Fault::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
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

#[cfg(test)]
mod tests {
    use rustls::crypto::ring;

    use super::*;

    #[test]
    fn chain_beyond_limit_is_refused_unread() {
        let verifier =
            ServerVerifier::new(RootCertStore::empty().into(), [].into(), &ring::default_provider());
        let verify = |issuers: usize| {
            let (leaf, issuers) = (CertificateDer::from(vec![]), vec![CertificateDer::from(vec![]); issuers]);
            let name = ServerName::try_from("lab").unwrap();
            verifier.verify_server_cert(&leaf, &issuers, &name, &[], UnixTime::now()).unwrap_err()
        };
        assert_eq!(verify(MAX_ISSUERS), CertificateError::BadEncoding.into());
        let refused = verify(MAX_ISSUERS + 1);
        assert_eq!(CertificateFault::of(&refused), Some(&CertificateFault::TooManyIssuers(MAX_ISSUERS + 1)));
    }
}
