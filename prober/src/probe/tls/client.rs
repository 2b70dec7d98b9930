//! The client's part of handshakes that many checks share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use maglev_tls::ServerVerifier;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// A configuration, and what rustls shows of a handshake in the callbacks of that configuration only.
#[derive(Clone, Debug)]
pub struct SharedClient {
    pub config: Arc<ClientConfig>,
    /// `None` without verification.
    pub verifier: Option<Arc<ServerVerifier>>,
    pub requests: Arc<CertificateRequests>,
}

impl SharedClient {
    /// Takes what the callbacks noted since the last call: the earliest expiry of a verified chain, and true if a server
    /// requested a client certificate.
    pub fn take_notes(&self) -> (Option<u64>, bool) {
        (self.verifier.as_ref().and_then(|verifier| verifier.take_chain_expiry()), self.requests.take())
    }
}

/// Notes that a server requests a client certificate, and presents none.
#[derive(Debug, Default)]
pub struct CertificateRequests(AtomicBool);

impl CertificateRequests {
    /// Returns true if a server has requested a certificate since the last call.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl ResolvesClientCert for CertificateRequests {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Schemes that a server may sign its handshake with if nobody verifies the signature: all of TLS 1.2 and 1.3.
const ANY_SCHEME: [SignatureScheme; 16] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED448,
    // RSASSA-PSS with a key for it alone (rsa_pss_pss_*, RFC 8446 section 4.2.3), which rustls does not name.
    SignatureScheme::Unknown(0x0809),
    SignatureScheme::Unknown(0x080a),
    SignatureScheme::Unknown(0x080b),
    SignatureScheme::ECDSA_SHA1_Legacy,
    SignatureScheme::RSA_PKCS1_SHA1,
];

/// Accepts any certificate. It does not verify that the server has the key either: ring does not know all types of keys, and
/// a check that trusts any certificate gains nothing from the key of one.
#[derive(Debug)]
pub struct NoVerification;

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
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ANY_SCHEME.to_vec()
    }
}
