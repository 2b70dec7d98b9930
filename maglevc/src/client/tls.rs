//! TLS: the options, and errors in words for operators.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use maglev_tls::ServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, InvalidMessage, RootCertStore};
use tonic::transport::{ClientTlsConfig, Endpoint, Identity};

/// TLS options: files in PEM. Any of them enables TLS, as `https://` does.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsOptions {
    /// Use TLS, and trust servers with one of these certificates or by these authorities [default with https://: the system's]
    #[arg(long = "tls-ca", env = "MAGLEV_TLS_CA", value_name = "FILE", value_parser = path_or_none())]
    pub(super) ca: Option<PathBuf>,

    /// Use TLS, and present this certificate
    #[arg(long = "tls-cert", env = "MAGLEV_TLS_CERT", value_name = "FILE", value_parser = path_or_none())]
    pub(super) certificate: Option<PathBuf>,

    /// The certificate's private key
    #[arg(long = "tls-key", env = "MAGLEV_TLS_KEY", value_name = "FILE", value_parser = path_or_none())]
    pub(super) key: Option<PathBuf>,
}

/// Returns a parser of paths that accepts an empty one, unlike clap's own.
fn path_or_none() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl TlsOptions {
    /// Reports whether the option is set and not empty.
    pub fn is_given(&self) -> bool {
        [&self.ca, &self.certificate, &self.key].into_iter().any(|path| given(path).is_some())
    }

    /// Reads the files, and makes the endpoint use TLS with them.
    ///
    /// # Errors
    /// Returns the file and the reason.
    pub fn configure(&self, endpoint: Endpoint) -> anyhow::Result<Endpoint> {
        let mut config = ClientTlsConfig::new();
        match (given(&self.certificate), given(&self.key)) {
            (Some(certificate), Some(key)) => {
                let (certificate, _) = certificates(certificate)?;
                config = config.identity(Identity::from_pem(certificate, private_key(key)?));
            }
            (None, None) => {}
            _ => bail!("--tls-cert and --tls-key want each other"),
        }
        let endpoint = match given(&self.ca) {
            Some(ca) => endpoint.tls_config_with_verifier(config, verifier(certificates(ca)?.1)),
            None => endpoint.tls_config(config.with_native_roots()),
        };
        endpoint.map_err(|error| anyhow!("{}", super::reason(&error)))
    }
}

/// Returns a verifier that trusts servers with a certificate by these authorities, or with one of these.
fn verifier(trusted: Vec<CertificateDer<'static>>) -> Arc<ServerVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    Arc::new(ServerVerifier::new(roots.into(), trusted.into(), &ring::default_provider()))
}

fn given(path: &Option<PathBuf>) -> Option<&Path> {
    path.as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// Reads a file of certificates: its content, and the certificates in it.
fn certificates(path: &Path) -> anyhow::Result<(Vec<u8>, Vec<CertificateDer<'static>>)> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok((pem, found)),
        Ok(_) => bail!("{}: the file has no certificate in PEM", path.display()),
        Err(_) => bail!("{}: the file has a truncated or invalid certificate", path.display()),
    }
}

fn private_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        anyhow!("{}: the file has no private key in PEM, or an encrypted one", path.display())
    })?;
    Ok(pem)
}

/// Describes the TLS error that caused this one, if one did.
pub fn describe(error: &(dyn Error + 'static)) -> Option<String> {
    let fault = cause(error)?;
    let remedy = match fault {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "; name its CA, or a file of the certificate itself, with --tls-ca"
        }
        rustls::Error::InconsistentKeys(_) => {
            return Some("the key of --tls-key is not that of --tls-cert".into());
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "; for a daemon without it, leave out https:// and --tls-ca"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "; use --tls-cert and --tls-key"
        }
        _ => "",
    };
    let whose = if matches!(fault, rustls::Error::InvalidCertificate(_)) { "the daemon's " } else { "" };
    Some(format!("{whose}{}{remedy}", maglev_tls::describe(fault, "daemon")))
}

/// Finds the TLS error in a chain. `io::Error` leaves its content out of the chain.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let within = || {
        let content = error.downcast_ref::<io::Error>()?.get_ref()?;
        cause(content)
    };
    error.downcast_ref().or_else(within).or_else(|| cause(error.source()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(error: rustls::Error) -> String {
        // As tokio-rustls returns it.
        describe(&io::Error::new(io::ErrorKind::InvalidData, error)).unwrap()
    }

    #[test]
    fn tls_error_says_what_to_do() {
        for (error, words) in [
            (CertificateError::UnknownIssuer.into(), "--tls-ca"),
            (CertificateError::Expired.into(), "the daemon's certificate has expired"),
            (rustls::Error::AlertReceived(AlertDescription::CertificateRequired), "--tls-cert"),
            (rustls::Error::AlertReceived(AlertDescription::UnknownCA), "(alert unknown_ca)"),
            (rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "not TLS"),
            (rustls::Error::HandshakeNotComplete, "the handshake is not complete"),
        ] {
            let said = described(error);
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(describe(&io::Error::other("no route")), None);
    }

    #[test]
    fn file_without_its_content_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let [key, other, cert] = ["key.pem", "other.pem", "cert.pem"].map(|name| folder.path().join(name));
        fs::write(&key, "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n").unwrap();
        fs::write(&cert, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").unwrap();
        fs::write(&other, "nothing").unwrap();
        let said = |ca: Option<&PathBuf>, certificate: Option<&PathBuf>, key: Option<&PathBuf>| {
            let options =
                TlsOptions { ca: ca.cloned(), certificate: certificate.cloned(), key: key.cloned() };
            let endpoint = Endpoint::from_static("https://lb1:9090");
            options.configure(endpoint).err().map(|error| error.to_string())
        };
        for wrong in [&key, &other] {
            assert!(said(Some(wrong), None, None).unwrap().ends_with("no certificate in PEM"));
            assert!(said(None, Some(wrong), Some(&key)).unwrap().ends_with("no certificate in PEM"));
        }
        assert!(said(None, Some(&cert), Some(&cert)).unwrap().contains("no private key"));
        assert!(said(None, Some(&cert), None).unwrap().contains("want each other"));
        assert_eq!(said(Some(&cert), None, None), None);
    }
}
