//! The words for every error of rustls: short, of ours, and complete.

#![cfg(test)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use maglev_tls::{CertificateFault, describe, describe_certificate};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, Error, ExtendedKeyPurpose, InvalidMessage, OtherError,
    PeerIncompatible, PeerMisbehaved,
};

/// Fails if the words are rustls' own, longer than a screen's line or two, or contain what only a program prints.
fn assert_words(words: &str) {
    assert!(words.len() <= 200, "{words}");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " -_.,:;()'=".contains(c);
    assert!(words.chars().all(is_plain) && !words.is_empty(), "{words}");
    assert!(words.split(' ').all(|word| !is_variant(word)), "{words}");
}

/// Reports whether a word looks like `UnknownIssuer`.
fn is_variant(word: &str) -> bool {
    let upper = word.chars().skip(1).filter(char::is_ascii_uppercase).count();
    let lower = word.chars().filter(char::is_ascii_lowercase).count();
    upper > 0
        && lower > upper
        && !["subjectAltName", "extendedKeyUsage"].contains(&word.trim_matches(&['(', ')', ','][..]))
}

/// Returns the names of an enum's variants in the source of rustls.
fn variants(file: &syn::File, name: &str) -> Vec<String> {
    let item = file.items.iter().find_map(|item| match item {
        syn::Item::Enum(item) if item.ident == name => Some(item),
        _ => None,
    });
    item.unwrap_or_else(|| panic!("rustls has no enum {name}"))
        .variants
        .iter()
        .map(|v| v.ident.to_string())
        .collect()
}

/// Returns the source of rustls' errors, of the version that Cargo.lock names.
fn source() -> syn::File {
    let metadata = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--offline",
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let rustls = packages.iter().find(|package| package["name"] == "rustls").unwrap();
    let manifest = PathBuf::from(rustls["manifest_path"].as_str().unwrap());
    syn::parse_file(&std::fs::read_to_string(manifest.with_file_name("src/error.rs")).unwrap()).unwrap()
}

/// Lists values with the names of their variants.
macro_rules! values {
    ($type:ident: $($variant:ident $(($($argument:expr),*))? $({$($field:ident: $value:expr),* $(,)?})?),* $(,)?) => {
        vec![$((stringify!($variant), $type::$variant $(($($argument),*))? $({$($field: $value),*})?)),*]
    };
}

fn assert_complete<T>(file: &syn::File, name: &str, values: &[(&str, T)]) {
    let listed: Vec<_> = values.iter().map(|(variant, _)| (*variant).to_owned()).collect();
    assert_eq!(
        variants(file, name),
        listed,
        "rustls changed {name}: give its variants words, then list them here"
    );
}

fn certificate_faults() -> Vec<(&'static str, CertificateError)> {
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
    #[expect(deprecated, reason = "rustls may still return it")]
    let faults = values![CertificateError:
        BadEncoding, Expired, ExpiredContext { time: now, not_after: now }, NotValidYet,
        NotValidYetContext { time: now, not_before: now }, Revoked, UnhandledCriticalExtension, UnknownIssuer,
        UnknownRevocationStatus, ExpiredRevocationList, ExpiredRevocationListContext { time: now, next_update: now },
        BadSignature, UnsupportedSignatureAlgorithm,
        UnsupportedSignatureAlgorithmContext { signature_algorithm_id: vec![1; 999], supported_algorithms: Vec::new() },
        UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: vec![1; 999],
            public_key_algorithm_id: vec![2; 999],
        },
        NotValidForName,
        NotValidForNameContext {
            expected: ServerName::try_from("www.example.org").unwrap(),
            presented: vec!["DnsName(\"x\")".to_owned(); 99],
        },
        InvalidPurpose,
        InvalidPurposeContext {
            required: ExtendedKeyPurpose::ServerAuth,
            presented: vec![ExtendedKeyPurpose::Other(vec![1; 99]); 99],
        },
        InvalidOcspResponse, ApplicationVerificationFailure, Other(OtherError(Arc::new(std::io::Error::other("{x}")))),
    ];
    faults
}

#[test]
fn certificate_faults_have_words() {
    let faults = certificate_faults();
    assert_complete(&source(), "CertificateError", &faults);
    for (name, fault) in faults {
        let words = describe_certificate(&fault);
        assert_words(&words);
        let is_general = ["ApplicationVerificationFailure", "Other"].contains(&name);
        assert_eq!(words == "is refused", is_general, "{name}: {words}");
    }
    let named = CertificateFault::OnlyCommonName("www.example.org".to_owned());
    let expired = CertificateFault::IssuerExpired { leaf: 1, issuer: 2 };
    for fault in [expired, CertificateFault::Nameless, CertificateFault::TooManyIssuers(90), named] {
        assert_words(&describe(&fault.into(), "server"));
    }
}

/// Errors of webpki that rustls passes on.
#[test]
fn webpki_faults_have_words() {
    use webpki::Error as Fault;
    for fault in [
        Fault::CaUsedAsEndEntity,
        Fault::CertDistrusted,
        Fault::EmptyEkuExtension,
        Fault::EndEntityUsedAsCa,
        Fault::ExtensionValueInvalid,
        Fault::InvalidNetworkMaskConstraint,
        Fault::InvalidSerialNumber,
        Fault::MalformedDnsIdentifier,
        Fault::MalformedExtensions,
        Fault::MalformedNameConstraint,
        Fault::MaximumNameConstraintComparisonsExceeded,
        Fault::MaximumPathBuildCallsExceeded,
        Fault::MaximumPathDepthExceeded,
        Fault::MaximumSignatureChecksExceeded,
        Fault::NameConstraintViolation,
        Fault::PathLenConstraintViolated,
        Fault::SignatureAlgorithmMismatch,
        Fault::UnsupportedCertVersion,
        Fault::UnsupportedCriticalExtension,
        Fault::UnsupportedNameType,
    ] {
        let words = describe_certificate(&CertificateError::Other(OtherError(Arc::new(fault.clone()))));
        assert_words(&words);
        assert_ne!(words, "is refused", "{fault:?}");
    }
}

#[test]
fn unsupported_algorithms_are_named() {
    for (id, words) in [
        (
            &b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00"[..],
            "uses RSA with SHA-1, which is not supported",
        ),
        (b"\x06\x03\x2b\x65\x71", "uses an Ed448 key, which is not supported"),
        (b"\x06\x01\x2a", "uses an algorithm that is not supported"),
    ] {
        let fault = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: id.to_vec(),
            supported_algorithms: Vec::new(),
        };
        assert_eq!(describe_certificate(&fault), words);
    }
}

#[test]
fn alerts_have_words() {
    for number in 0..=u8::MAX {
        let alert = AlertDescription::from(number);
        let words = describe(&Error::AlertReceived(alert), "server");
        assert_words(&words);
        let is_unknown = matches!(alert, AlertDescription::Unknown(_));
        assert_eq!(words == format!("the server sent alert {number}"), is_unknown, "{alert:?}: {words}");
    }
}

#[test]
fn incompatibilities_have_words() {
    let faults = values![PeerIncompatible:
        EcPointsExtensionRequired, ExtendedMasterSecretExtensionRequired, IncorrectCertificateTypeExtension,
        KeyShareExtensionRequired, NamedGroupsExtensionRequired, NoCertificateRequestSignatureSchemesInCommon,
        NoCipherSuitesInCommon, NoEcPointFormatsInCommon, NoKxGroupsInCommon, NoSignatureSchemesInCommon,
        NullCompressionRequired, ServerDoesNotSupportTls12Or13, ServerSentHelloRetryRequestWithUnknownExtension,
        ServerTlsVersionIsDisabledByOurConfig, SignatureAlgorithmsExtensionRequired,
        SupportedVersionsExtensionRequired, Tls12NotOffered, Tls12NotOfferedOrEnabled, Tls13RequiredForQuic,
        UncompressedEcPointsRequired, UnsolicitedCertificateTypeExtension, ServerRejectedEncryptedClientHello(None),
    ];
    assert_complete(&source(), "PeerIncompatible", &faults);
    for (name, fault) in faults {
        let words = describe(&fault.into(), "server");
        assert_words(&words);
        assert_ne!(words, "the server is incompatible", "{name}");
    }
}

/// New variants of these have words by their kind.
#[test]
fn violations_and_malformed_messages_have_words() {
    let said = |error: Error| describe(&error, "server");
    assert_eq!(
        said(PeerMisbehaved::SelectedUnofferedCipherSuite.into()),
        "the server violates TLS: selected unoffered cipher suite"
    );
    assert_eq!(said(InvalidMessage::InvalidContentType.into()), "the answer is not TLS");
    for error in [
        PeerMisbehaved::RejectedEarlyDataInterleavedWithHandshakeMessage.into(),
        InvalidMessage::CertificatePayloadTooLarge.into(),
        InvalidMessage::HandshakePayloadTooLarge.into(),
        InvalidMessage::MissingData("ServerHello").into(),
        InvalidMessage::DuplicateExtension(1).into(),
        InvalidMessage::UnsupportedCompression.into(),
        InvalidMessage::UnsupportedCurveType.into(),
        Error::NoCertificatesPresented,
        Error::DecryptError,
        Error::PeerSentOversizedRecord,
        Error::NoApplicationProtocol,
        Error::HandshakeNotComplete,
        Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch),
        Error::General("{x}".to_owned()),
        Error::InappropriateMessage { expect_types: Vec::new(), got_type: rustls::ContentType::Alert },
    ] {
        assert_words(&said(error));
    }
}
