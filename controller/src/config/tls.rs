//! Loads and verifies the files of `api.tls`.

use std::path::Path;
use std::sync::Arc;

use maglev_core::config::{Problem, file};
use maglev_ipc::check::MAX_BUNDLE;
use maglev_tls::describe;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

mod key_file;

/// ALPN protocol of gRPC.
const ALPN: &[u8] = b"h2";

/// TLS configuration of the TCP listeners.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Server configuration for handshakes.
    pub server: Arc<ServerConfig>,
    /// Verifier of client certificates; `None` requests no certificate.
    pub client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Conditions in which clients are refused, or refuse the certificate, each with its key.
    pub warnings: Vec<(&'static str, String)>,
}

/// Contents of the files.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsPem<'a> {
    /// The server's certificates.
    pub certificate: &'a [u8],
    /// Their key.
    pub key: &'a [u8],
    /// Authorities of client certificates.
    pub client_ca: Option<&'a [u8]>,
    /// Revocation lists of these authorities.
    pub client_crl: Option<&'a [u8]>,
}

/// Loads the files. The configuration rules check the paths themselves.
///
/// # Errors
/// All problems of the files.
pub fn load(files: &file::ApiTls) -> Result<Option<TlsConfig>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut read = |key: &str, path: &Option<String>, is_private: bool| {
        let path = path.as_deref().filter(|path| path.starts_with('/'))?;
        let bytes = if is_private {
            key_file::read(Path::new(path))
        } else {
            super::read(Path::new(path), MAX_BUNDLE).map_err(|error| error.to_string())
        };
        bytes.map_err(|why| problems.push(problem(key, path, &why))).ok()
    };
    let certificate = read("certificate", &files.certificate, false);
    let key = read("key", &files.key, true);
    let client_ca = read("client-ca", &files.client_ca, false);
    let client_crl = read("client-crl", &files.client_crl, false);
    if !problems.is_empty() {
        return Err(problems);
    }
    let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };

    let pem = TlsPem {
        certificate: &certificate,
        key: &key,
        client_ca: client_ca.as_deref(),
        client_crl: client_crl.as_deref(),
    };
    from_pem(pem).map(Some).map_err(|faults| {
        let named = |(key, why): &(&str, String)| {
            let path = match *key {
                "certificate" => &files.certificate,
                "key" => &files.key,
                "client-crl" => &files.client_crl,
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
pub fn from_pem(pem: TlsPem<'_>) -> Result<TlsConfig, Vec<(&'static str, String)>> {
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    let mut fault = |key, why| faults.push((key, why));
    let chain = certificates(pem.certificate).map_err(|why| fault("certificate", why));
    let key = private_key(pem.key).map_err(|why| fault("key", why));
    let roots = pem.client_ca.map(authorities).transpose().map_err(|why| fault("client-ca", why));
    let lists =
        pem.client_crl.map_or(Ok(Vec::new()), revocation_lists).map_err(|why| fault("client-crl", why));
    let (Ok(chain), Ok(key), Ok(roots), Ok(lists)) = (chain, key, roots, lists) else { return Err(faults) };
    warnings.extend(client_refusal(&chain).map(|why| ("certificate", why)));
    warnings.extend(lists.iter().filter_map(|list| expired(list)).map(|why| ("client-crl", why)));
    let client_verifier =
        roots.map(|roots| verifier(roots, lists)).transpose().map_err(|fault| vec![fault])?;
    let server = server(chain, key, client_verifier.clone()).map_err(|error| {
        let key = if matches!(error, rustls::Error::InconsistentKeys(_)) { "key" } else { "certificate" };
        vec![(key, format!("cannot be used: {}", describe(&error, "client")))]
    })?;
    Ok(TlsConfig { server: Arc::new(server), client_verifier, warnings })
}

/// Returns the reason for which maglevc refuses this chain, whatever it trusts.
fn client_refusal(chain: &[CertificateDer<'static>]) -> Option<String> {
    let error = maglev_tls::refusal(chain.first()?, &provider())?;
    Some(format!("maglevc refuses it: {}", describe(&error, "server")))
}

/// Returns a warning if a revocation list is out of date, and so refuses the certificates of its authority.
fn expired(list: &CertificateRevocationListDer<'_>) -> Option<String> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    let next = list.next_update().filter(|next| *next <= x509_parser::time::ASN1Time::now())?;
    let issuer = list.issuer().to_string().escape_debug().to_string();
    Some(format!(
        "the list of {issuer} is out of date since {next}, so its certificates are refused: renew it"
    ))
}

fn problem(key: &str, path: &str, why: &str) -> Problem {
    Problem { path: format!("maglev.api.tls.{key}"), message: format!("{path:?}: {why}") }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    items(pem, "certificate")
}

fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    items(pem, "revocation list (X509 CRL)")
}

fn items<T: PemObject>(pem: &[u8], what: &str) -> Result<Vec<T>, String> {
    let found: Result<Vec<_>, _> = T::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("holds no PEM {what}")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("holds a truncated or invalid {what}: {error}")),
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => "holds no PEM private key without a passphrase".into(),
        error => format!("holds a truncated or invalid key: {error}"),
    })?;
    provider().key_provider.load_private_key(key.clone_key()).map_err(|_| {
        "holds a key that is not supported: use ECDSA with P-256 or P-384, Ed25519, or RSA from 2048 bits"
            .to_owned()
    })?;
    Ok(key)
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        let added = roots.add(certificate);
        added.map_err(|error| {
            format!("holds a certificate that is not a CA: {}", describe(&error, "client"))
        })?;
    }
    Ok(roots)
}

/// Returns a verifier that makes client certificates optional but verifies each one. With revocation lists, each authority of
/// a chain needs one that is up to date: a list that an attacker can keep from being renewed must not accept what it revoked.
fn verifier(
    roots: RootCertStore,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, (&'static str, String)> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
    let builder = match lists.is_empty() {
        true => builder,
        false => builder.with_crls(lists).enforce_revocation_expiration(),
    };
    builder.allow_unauthenticated().build().map_err(|error| match error {
        rustls::client::VerifierBuilderError::InvalidCrl(_) => (
            "client-crl",
            "holds a list that is malformed, or of a kind that is not supported (delta, indirect)".to_owned(),
        ),
        error => ("client-ca", error.to_string()),
    })
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would present a certificate that has expired or was revoked since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
