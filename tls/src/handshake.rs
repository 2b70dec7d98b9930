//! Handshakes that failed, in words.

use std::borrow::Cow;

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use crate::{alerts, describe_certificate};

/// Describes an error of TLS. `peer` is the other end, such as `server`. At most 200 bytes, unless a DNS name is longer.
#[must_use]
pub fn describe(error: &Error, peer: &str) -> Cow<'static, str> {
    let words = match error {
        Error::InvalidCertificate(fault) => {
            return format!("certificate {}", describe_certificate(fault)).into();
        }
        Error::AlertReceived(alert) => return describe_alert(*alert, peer).into(),
        Error::InvalidMessage(fault) => return describe_message(fault, peer),
        Error::PeerIncompatible(fault) => {
            return format!("the {peer} {}", describe_incompatible(fault)).into();
        }
        Error::PeerMisbehaved(fault) => {
            return format!("the {peer} violates TLS: {}", describe_misbehaviour(fault)).into();
        }
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            return format!("the {peer} violates TLS: a message out of order").into();
        }
        Error::NoCertificatesPresented => return format!("the {peer} sent no certificate").into(),
        Error::DecryptError => "a record could not be decrypted",
        Error::EncryptError => "a record could not be encrypted",
        Error::PeerSentOversizedRecord => return format!("the {peer} sent too long a record").into(),
        Error::NoApplicationProtocol => {
            return format!("the {peer} supports none of our protocols (ALPN)").into();
        }
        Error::FailedToGetCurrentTime => "this host has no time",
        Error::FailedToGetRandomBytes => "this host has no randomness",
        Error::HandshakeNotComplete => "the handshake is not complete",
        Error::InconsistentKeys(_) => "the key is not that of the certificate",
        Error::InvalidCertRevocationList(_) => "the revocation list is malformed or not supported",
        Error::UnsupportedNameType => "the server name is of an unsupported type",
        Error::BadMaxFragmentSize | Error::InvalidEncryptedClientHello(_) => "TLS is misconfigured",
        _ => "TLS failed",
    };
    words.into()
}

fn describe_alert(alert: AlertDescription, peer: &str) -> String {
    match alerts::words(alert) {
        Some((name, meaning)) => format!("the {peer} {meaning} (alert {name})"),
        None => format!("the {peer} sent alert {}", u8::from(alert)),
    }
}

fn describe_message(fault: &InvalidMessage, peer: &str) -> Cow<'static, str> {
    let words = match fault {
        // The first bytes are no header of a record.
        InvalidMessage::InvalidContentType
        | InvalidMessage::UnknownProtocolVersion
        | InvalidMessage::InvalidEmptyPayload
        | InvalidMessage::MessageTooLarge => return "the answer is not TLS".into(),
        InvalidMessage::CertificatePayloadTooLarge => "sent too long a chain of certificates",
        InvalidMessage::HandshakePayloadTooLarge => "sent too long a message",
        InvalidMessage::UnsupportedCompression => "compresses TLS, which is not supported",
        InvalidMessage::UnsupportedCurveType | InvalidMessage::UnsupportedKeyExchangeAlgorithm(_) => {
            "selected a key exchange that is not supported"
        }
        InvalidMessage::NoSignatureSchemes => "offers no signature scheme",
        InvalidMessage::InvalidServerName => "sent an invalid server name",
        _ => "sent a malformed message of TLS",
    };
    format!("the {peer} {words}").into()
}

fn describe_incompatible(fault: &PeerIncompatible) -> &'static str {
    match fault {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic => "supports neither TLS 1.2 nor 1.3",
        PeerIncompatible::NoCipherSuitesInCommon => "has no cipher suite in common",
        PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NamedGroupsExtensionRequired
        | PeerIncompatible::KeyShareExtensionRequired => "has no group of the key exchange in common",
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::SignatureAlgorithmsExtensionRequired => "has no signature scheme in common",
        PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            "requires a client certificate with a signature scheme that is not supported"
        }
        PeerIncompatible::EcPointsExtensionRequired
        | PeerIncompatible::NoEcPointFormatsInCommon
        | PeerIncompatible::UncompressedEcPointsRequired => "requires compressed points of elliptic curves",
        PeerIncompatible::ExtendedMasterSecretExtensionRequired => "lacks the extended master secret",
        PeerIncompatible::NullCompressionRequired => "requires compression",
        PeerIncompatible::IncorrectCertificateTypeExtension
        | PeerIncompatible::UnsolicitedCertificateTypeExtension => "requires another type of certificate",
        PeerIncompatible::ServerSentHelloRetryRequestWithUnknownExtension => "requires an unknown extension",
        PeerIncompatible::ServerRejectedEncryptedClientHello(_) => "rejects the encrypted Client Hello",
        _ => "is incompatible",
    }
}

/// Returns rustls' name of the violation as words, such as `selected unoffered cipher suite`. The 80 violations are defects of
/// the other end's software, and the name is what its maintainers can search for.
fn describe_misbehaviour(fault: &PeerMisbehaved) -> String {
    let mut words = String::new();
    for letter in format!("{fault:?}").chars().take_while(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}
