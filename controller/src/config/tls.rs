//! Loads and verifies the files of `api.tls`.

use std::path::Path;
use std::sync::Arc;

use maglev_core::config::{Problem, file};
use maglev_ipc::check::MAX_BUNDLE;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore, ServerConfig};

/// ALPN protocol of gRPC.
const ALPN: &[u8] = b"h2";

/// TLS configuration of the TCP listeners.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Server configuration for handshakes.
    pub server: Arc<ServerConfig>,
    /// CA bundle for client certificates, in PEM; `None` requests no certificate.
    pub client_ca: Option<Arc<[u8]>>,
    /// Reason for which clients refuse the certificate now; empty if there is none.
    pub refusal: String,
}

/// Loads the files. The configuration rules check the paths themselves.
///
/// # Errors
/// All problems of the files.
pub fn load(files: &file::ApiTls) -> Result<Option<TlsConfig>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut read = |key: &str, path: &Option<String>| {
        let path = path.as_deref().filter(|path| path.starts_with('/'))?;
        let bytes = super::read(Path::new(path), MAX_BUNDLE).map_err(|error| error.to_string());
        bytes.map_err(|why| problems.push(problem(key, path, &why))).ok()
    };
    let certificate = read("certificate", &files.certificate);
    let key = read("key", &files.key);
    let client_ca = read("client-ca", &files.client_ca);
    if !problems.is_empty() {
        return Err(problems);
    }
    let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };

    let tls = from_pem(&certificate, &key, client_ca.as_deref());
    tls.map(Some).map_err(|faults| {
        let named = |(key, why): &(&str, String)| {
            let path = match *key {
                "certificate" => &files.certificate,
                "key" => &files.key,
                _ => &files.client_ca,
            };
            problem(key, path.as_deref().unwrap_or_default(), why)
        };
        faults.iter().map(named).collect()
    })
}

/// Builds the TLS configuration from file contents.
///
/// # Errors
/// All problems, each with the key that names the file.
pub fn from_pem(
    certificate: &[u8],
    key: &[u8],
    client_ca: Option<&[u8]>,
) -> Result<TlsConfig, Vec<(&'static str, String)>> {
    let mut faults = Vec::new();
    let mut fault = |key, why| faults.push((key, why));
    let chain = certificates(certificate).map_err(|why| fault("certificate", why));
    let key = private_key(key).map_err(|why| fault("key", why));
    let verifier = match client_ca {
        Some(pem) => verifier(pem).map_err(|why| fault("client-ca", why)),
        None => Ok(WebPkiClientVerifier::no_client_auth()),
    };
    let (Ok(chain), Ok(key), Ok(verifier)) = (chain, key, verifier) else { return Err(faults) };
    let refusal = client_refusal(&chain).unwrap_or_default();
    match server(chain, key, verifier) {
        Ok(server) => {
            Ok(TlsConfig { server: Arc::new(server), client_ca: client_ca.map(Into::into), refusal })
        }
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(vec![("key", "is not the key of the certificate".into())])
        }
        Err(error) => Err(vec![("certificate", format!("cannot be used: {error}"))]),
    }
}

/// Returns the reason for which maglevc refuses this chain, whatever authorities it trusts.
fn client_refusal(chain: &[CertificateDer<'static>]) -> Option<String> {
    let (leaf, issuers) = chain.split_first()?;
    let leaf = match ParsedCertificate::try_from(leaf) {
        Ok(leaf) => leaf,
        Err(error) => return Some(format!("clients cannot parse the certificate: {error}")),
    };
    let algorithms = provider().signature_verification_algorithms.all;
    let (nobody, now) = (RootCertStore::empty(), UnixTime::now());
    match verify_server_cert_signed_by_trust_anchor(&leaf, &nobody, issuers, now, algorithms) {
        Err(rustls::Error::InvalidCertificate(fault)) => refusal_of(&fault),
        _ => None,
    }
}

fn refusal_of(fault: &CertificateError) -> Option<String> {
    Some(match fault {
        // No authority is trusted here.
        CertificateError::UnknownIssuer => return None,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the certificate has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet".into()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not for servers (extendedKeyUsage without serverAuth)".into()
        }
        fault if format!("{fault:?}").contains("CaUsedAsEndEntity") => {
            "the certificate is a CA's own (CA:TRUE), which maglevc refuses: issue one for the server, or add \
             `-addext basicConstraints=critical,CA:FALSE` to `openssl req -x509`"
                .into()
        }
        fault => format!("clients refuse the certificate: {fault}"),
    })
}

fn problem(key: &str, path: &str, why: &str) -> Problem {
    Problem { path: format!("maglev.api.tls.{key}"), message: format!("{path:?}: {why}") }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(chain) if chain.is_empty() => Err("holds no PEM certificate".into()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("holds a truncated or invalid certificate: {error}")),
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => "holds no PEM private key without a passphrase".into(),
        error => format!("holds a truncated or invalid key: {error}"),
    })
}

/// Returns a verifier that makes client certificates optional but verifies each one.
fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| format!("holds a certificate that is not a CA: {error}"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
    builder.allow_unauthenticated().build().map_err(|error| error.to_string())
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
