//! Certificates that were refused, in words: predicates such as `has expired`.

use std::borrow::Cow;
use std::sync::Arc;

use rustls::{CertificateError, Error, OtherError};

/// Reasons to refuse a certificate that rustls does not distinguish.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateFault {
    /// A certificate between the server's and a trusted one has expired. In seconds since the Unix epoch.
    #[error("is valid, but an intermediate certificate that the server sent has expired")]
    IssuerExpired {
        /// Expiry of the server's certificate.
        leaf: u64,
        /// Expiry of the issuer's certificate.
        issuer: u64,
    },
    /// The certificate has no subjectAltName, and the expected name is its common name.
    #[error("has the name {0} in its common name only, and not in a subjectAltName")]
    OnlyCommonName(String),
    /// The server sent this many further certificates, more than [`MAX_ISSUERS`](crate::MAX_ISSUERS).
    #[error("comes with {0} further certificates; at most {max} are accepted", max = crate::MAX_ISSUERS)]
    TooManyIssuers(usize),
    /// The certificate has no subjectAltName.
    #[error("has no subjectAltName")]
    Nameless,
}

impl CertificateFault {
    /// Returns the fault in an error of rustls.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner.downcast_ref(),
            _ => None,
        }
    }
}

impl From<CertificateFault> for Error {
    fn from(fault: CertificateFault) -> Self {
        CertificateError::Other(OtherError(Arc::new(fault))).into()
    }
}

/// Parts of encoded algorithm identifiers, and the algorithms in words. A curve precedes the signatures that name it.
const ALGORITHMS: &[(&[u8], &str)] = &[
    (b"\x2b\x81\x04\x00\x23", "a P-521 key"),
    (b"\x2b\x65\x71", "an Ed448 key"),
    (b"\x2a\x86\x48\xce\x38\x04", "a DSA key"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a", "RSA-PSS"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", "RSA with SHA-1"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", "RSA with MD5"),
    (b"\x2a\x86\x48\xce\x3d\x04\x01", "ECDSA with SHA-1"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", "ECDSA with SHA-512"),
];

/// Describes a refused certificate, as a predicate: "the certificate …". The length is bounded by that of a DNS name.
#[must_use]
pub fn describe_certificate(fault: &CertificateError) -> Cow<'static, str> {
    let words = match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "is not valid yet",
        CertificateError::NotValidForName => "is not for this name",
        CertificateError::NotValidForNameContext { expected, .. } => {
            return format!("is not for the name {}", expected.to_str()).into();
        }
        CertificateError::UnknownIssuer => "is from an unknown issuer",
        CertificateError::BadSignature => {
            "has a signature that does not verify, or an RSA key below 2048 bits"
        }
        CertificateError::BadEncoding => "is malformed",
        CertificateError::Revoked => "is revoked",
        CertificateError::UnhandledCriticalExtension => "has a critical extension that is not supported",
        CertificateError::UnknownRevocationStatus => "is in the scope of no revocation list",
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "has a revocation list that is out of date"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id: id, .. } => {
            return unsupported([id, &[]]);
        }
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: signature,
            public_key_algorithm_id: key,
        } => return unsupported([key, signature]),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is for another purpose (extendedKeyUsage)"
        }
        CertificateError::InvalidOcspResponse => "has an invalid OCSP response",
        CertificateError::ApplicationVerificationFailure => "is refused",
        CertificateError::Other(OtherError(inner)) => {
            if let Some(fault) = inner.downcast_ref::<CertificateFault>() {
                return fault.to_string().into();
            }
            inner.downcast_ref().map_or("is refused", describe_webpki)
        }
        // Among them the deprecated variant without an algorithm.
        _ => "uses an algorithm that is not supported",
    };
    words.into()
}

fn unsupported(ids: [&[u8]; 2]) -> Cow<'static, str> {
    let contains = |id: &[u8], part: &[u8]| id.windows(part.len()).any(|window| window == part);
    let found = ALGORITHMS.iter().find(|(part, _)| ids.iter().any(|id| contains(id, part)));
    match found {
        Some((_, name)) => format!("uses {name}, which is not supported").into(),
        None => "uses an algorithm that is not supported".into(),
    }
}

/// Describes errors of webpki for which rustls has no variant.
fn describe_webpki(fault: &webpki::Error) -> &'static str {
    use webpki::Error;
    match fault {
        Error::CaUsedAsEndEntity => "is a CA's own (CA:TRUE), and not itself among the trusted certificates",
        Error::EndEntityUsedAsCa => "has an issuer that is no CA",
        Error::CertDistrusted => "has a distrusted key",
        Error::EmptyEkuExtension => "is for no purpose (empty extendedKeyUsage)",
        Error::NameConstraintViolation => "violates the name constraints of an issuer",
        Error::PathLenConstraintViolated => "has more issuers than one of them allows (pathlen)",
        Error::UnsupportedCertVersion => "is X.509 version 1 or 2, or has an issuer that is",
        Error::UnsupportedCriticalExtension => "has a critical extension that is not supported",
        Error::SignatureAlgorithmMismatch => "names two signature algorithms",
        Error::MalformedDnsIdentifier => "has a malformed name in its subjectAltName",
        Error::MalformedExtensions | Error::ExtensionValueInvalid => "has a malformed extension",
        Error::MalformedNameConstraint | Error::InvalidNetworkMaskConstraint => {
            "has malformed name constraints"
        }
        Error::InvalidSerialNumber => "has an invalid serial number",
        Error::UnsupportedNameType => "is expected for a name of an unsupported type",
        Error::MaximumNameConstraintComparisonsExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded => "has a chain that is too complex",
        _ => "is refused",
    }
}

/// Reports whether a common name of an encoded subject is `name`, for a hint only. It searches for the attribute instead of
/// parsing the subject, as this is a server's data.
pub fn has_common_name(subject: &[u8], name: &str) -> bool {
    /// Encoded attribute type `id-at-commonName`, 2.5.4.3.
    const COMMON_NAME: &[u8] = b"\x06\x03\x55\x04\x03";
    subject.windows(COMMON_NAME.len()).enumerate().filter(|(_, part)| *part == COMMON_NAME).any(|(at, _)| {
        // A tag of any string type, a length below 128, and the text.
        let value = subject.get(at + COMMON_NAME.len()..).unwrap_or_default();
        let [_, length @ ..=127, text @ ..] = value else { return false };
        text.get(..usize::from(*length)).is_some_and(|text| text.eq_ignore_ascii_case(name.as_bytes()))
    })
}
