//! TLS: the options, and errors in words for operators.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// TLS options: files in PEM. Any of them enables TLS, as `https://` does.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsOptions {
    /// Use TLS, and trust servers with a certificate of these authorities [default with https://: the system's]
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

    /// Reads the files.
    ///
    /// # Errors
    /// Returns the file and the reason.
    pub fn config(&self) -> anyhow::Result<ClientTlsConfig> {
        let mut config = match given(&self.ca) {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificates(ca)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match (given(&self.certificate), given(&self.key)) {
            (Some(certificate), Some(key)) => {
                config = config.identity(Identity::from_pem(certificates(certificate)?, private_key(key)?));
            }
            (None, None) => {}
            _ => bail!("--tls-cert and --tls-key want each other"),
        }
        Ok(config)
    }
}

fn given(path: &Option<PathBuf>) -> Option<&Path> {
    path.as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// Reads a file of certificates. tonic would ignore one without any.
fn certificates(path: &Path) -> anyhow::Result<Vec<u8>> {
    let pem = read(path)?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        Some(Err(_)) | None => bail!("{}: the file has no certificate in PEM", path.display()),
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
    Some(match cause(error)? {
        rustls::Error::InvalidCertificate(fault) => describe_certificate(fault),
        rustls::Error::InconsistentKeys(_) => "the key of --tls-key is not that of --tls-cert".into(),
        rustls::Error::InvalidMessage(_) => {
            "the answer is not TLS; for a daemon without it, leave out https:// and --tls-ca".into()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the daemon requires a client certificate; use --tls-cert and --tls-key".into()
        }
        rustls::Error::AlertReceived(alert) => {
            format!("the daemon refuses the handshake or the client certificate ({alert:?})")
        }
        other => format!("TLS: {other}"),
    })
}

fn describe_certificate(fault: &CertificateError) -> String {
    let text = match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet".into()
        }
        CertificateError::NotValidForName => "is not for this name".into(),
        CertificateError::NotValidForNameContext { expected, .. } => {
            format!("is not for the name {}", expected.to_str())
        }
        CertificateError::UnknownIssuer => "is from an unknown CA; name its CA with --tls-ca".into(),
        CertificateError::BadSignature => "has a bad signature".into(),
        CertificateError::BadEncoding => "is malformed".into(),
        CertificateError::Revoked => "is revoked".into(),
        // rustls has no variant for this error of webpki.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "is a CA's own (CA:TRUE); give the daemon one with basicConstraints=CA:FALSE".into()
        }
        other => format!("is refused: {other}"),
    };
    format!("the daemon's certificate {text}")
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
    use std::sync::Arc;

    use super::*;

    fn described(error: rustls::Error) -> String {
        // As tokio-rustls returns it.
        describe(&io::Error::new(io::ErrorKind::InvalidData, error)).unwrap()
    }

    #[test]
    fn tls_error_says_what_to_do() {
        let own = rustls::OtherError(Arc::new(io::Error::other("CaUsedAsEndEntity")));
        for (error, words) in [
            (CertificateError::UnknownIssuer.into(), "--tls-ca"),
            (CertificateError::Other(own).into(), "CA:FALSE"),
            (CertificateError::Expired.into(), "has expired"),
            (rustls::Error::AlertReceived(AlertDescription::CertificateRequired), "--tls-cert"),
            (rustls::Error::AlertReceived(AlertDescription::UnknownCA), "UnknownCA"),
            (rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "not TLS"),
            (rustls::Error::HandshakeNotComplete, "TLS: "),
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
            options.config().err().map(|error| error.to_string())
        };
        for wrong in [&key, &other] {
            assert!(said(Some(wrong), None, None).unwrap().ends_with("no certificate in PEM"));
            assert!(said(None, Some(wrong), Some(&key)).unwrap().ends_with("no certificate in PEM"));
        }
        assert!(said(None, Some(&cert), Some(&cert)).unwrap().contains("no private key"));
        assert!(said(None, Some(&cert), None).unwrap().contains("want each other"));
        assert_eq!(said(Some(&cert), Some(&cert), Some(&key)), None);
    }
}
