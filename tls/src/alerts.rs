//! Alerts of TLS, in words.

use rustls::AlertDescription;

/// Returns the name in the registry of TLS alerts, and the meaning as a predicate: "the server …". `None` for a number without
/// a name.
pub const fn words(alert: AlertDescription) -> Option<(&'static str, &'static str)> {
    use AlertDescription as Alert;
    Some(match alert {
        Alert::CloseNotify => ("close_notify", "closed the connection"),
        Alert::UnexpectedMessage => ("unexpected_message", "did not expect a message of the handshake"),
        Alert::BadRecordMac => ("bad_record_mac", "cannot decrypt a record"),
        Alert::DecryptionFailed => ("decryption_failed", "cannot decrypt a record"),
        Alert::RecordOverflow => ("record_overflow", "received too long a record"),
        Alert::DecompressionFailure => ("decompression_failure", "cannot decompress a record"),
        Alert::HandshakeFailure => (
            "handshake_failure",
            "has no cipher suite, group or signature in common, or requires a client certificate",
        ),
        Alert::NoCertificate => ("no_certificate", "requires a client certificate"),
        Alert::BadCertificate => ("bad_certificate", "refuses the certificate, or the lack of one"),
        Alert::UnsupportedCertificate => ("unsupported_certificate", "does not support the certificate"),
        Alert::CertificateRevoked => ("certificate_revoked", "calls the certificate revoked"),
        Alert::CertificateExpired => ("certificate_expired", "calls the certificate expired"),
        Alert::CertificateUnknown => ("certificate_unknown", "refuses the certificate, or the lack of one"),
        Alert::IllegalParameter => ("illegal_parameter", "refuses a parameter of the handshake"),
        Alert::UnknownCA => ("unknown_ca", "does not trust the certificate's issuer"),
        Alert::AccessDenied => ("access_denied", "denies access"),
        Alert::DecodeError => ("decode_error", "cannot decode a message of the handshake"),
        Alert::DecryptError => ("decrypt_error", "cannot verify a message of the handshake"),
        Alert::ExportRestriction => ("export_restriction", "wants weaker ciphers"),
        Alert::ProtocolVersion => ("protocol_version", "supports neither TLS 1.2 nor 1.3"),
        Alert::InsufficientSecurity => ("insufficient_security", "wants stronger algorithms"),
        Alert::InternalError => ("internal_error", "reports an internal error"),
        Alert::InappropriateFallback => ("inappropriate_fallback", "refuses an older version"),
        Alert::UserCanceled => ("user_canceled", "cancelled the handshake"),
        Alert::NoRenegotiation => ("no_renegotiation", "refuses to renegotiate"),
        Alert::MissingExtension => ("missing_extension", "misses an extension"),
        Alert::UnsupportedExtension => ("unsupported_extension", "refuses an extension"),
        Alert::CertificateUnobtainable => ("certificate_unobtainable", "cannot fetch the certificate"),
        Alert::UnrecognisedName => ("unrecognized_name", "does not serve this server name"),
        Alert::BadCertificateStatusResponse => {
            ("bad_certificate_status_response", "refuses the certificate's OCSP response")
        }
        Alert::BadCertificateHashValue => ("bad_certificate_hash_value", "refuses the certificate's hash"),
        Alert::UnknownPSKIdentity => ("unknown_psk_identity", "requires a pre-shared key"),
        Alert::CertificateRequired => ("certificate_required", "requires a client certificate"),
        Alert::NoApplicationProtocol => ("no_application_protocol", "supports none of the protocols (ALPN)"),
        Alert::EncryptedClientHelloRequired => ("ech_required", "requires an encrypted Client Hello"),
        _ => return None,
    })
}
