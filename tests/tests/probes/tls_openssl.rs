//! Handshakes with openssl, and with certificates as it makes them.

use maglev_ipc::TlsVerify;
use maglev_lab::controller::{GIVEN_ROOTS, check, https, tcp_tls};
use maglev_lab::nginx::NAME;
use maglev_lab::openssl::{OpensslArgs, OpensslServer, PORT};
use maglev_lab::skip;
use maglev_lab::topology::FAMILIES;

use crate::ProberFixture;

/// Kind of probe.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Https,
    TcpTls,
}
use Kind::{Https, TcpTls};

/// Returns the verdict on a new server with `args`; trusts its certificate if `trusts`, and else any.
fn openssl_verdict(fixture: &mut ProberFixture, args: OpensslArgs, kind: Kind, trusts: bool) -> String {
    let server = OpensslServer::start(&fixture.lab.server, &fixture.dir, args);
    let verify = if trusts { GIVEN_ROOTS } else { TlsVerify::Nothing };
    let probe = match kind {
        Https => https(PORT, NAME, verify),
        TcpTls => tcp_tls(PORT, NAME, verify),
    };
    let roots = if trusts { server.certificate.as_str() } else { "" };
    // openssl listens on IPv4 only.
    fixture.controller.verdict_with_roots(check(FAMILIES[0].server, probe), roots)
}

#[test]
fn unverified_check_accepts_any_kind_of_certificate() {
    if skip("unverified_check_accepts_any_kind_of_certificate", &["openssl"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let weak = "-cipher DEFAULT:@SECLEVEL=0";
    for args in [
        OpensslArgs { key: "RSA -pkeyopt rsa_keygen_bits:1024", server: weak, ..OpensslArgs::default() },
        OpensslArgs { key: "EC -pkeyopt ec_paramgen_curve:P-521", ..OpensslArgs::default() },
        OpensslArgs { key: "ED448", ..OpensslArgs::default() },
        OpensslArgs { key: "RSA-PSS -pkeyopt rsa_keygen_bits:2048", ..OpensslArgs::default() },
        OpensslArgs { certificate: "-subj /CN=a -sha1", server: weak, ..OpensslArgs::default() },
        OpensslArgs {
            certificate: "-subj /CN=a -addext 1.2.3.4=critical,ASN1:UTF8String:x",
            ..OpensslArgs::default()
        },
    ] {
        assert_eq!(openssl_verdict(&mut fixture, args, Https, false), "L7OK HTTP 200", "{args:?}");
    }
}

/// `openssl req -x509` makes a certificate with CA:TRUE.
#[test]
fn own_certificate_in_bundle_is_trusted() {
    if skip("own_certificate_in_bundle_is_trusted", &["openssl"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    for (certificate, verdict) in [
        ("", "L7OK HTTP 200"),
        (
            "-subj /CN=a -addext subjectAltName=DNS:other.example.org",
            "L6RSP certificate is not for the name www.example.org",
        ),
        (
            "-subj /CN=www.example.org",
            "L6RSP certificate has the name www.example.org in its common name only, and not in a subjectAltName",
        ),
    ] {
        let args = OpensslArgs { certificate, ..OpensslArgs::default() };
        assert_eq!(openssl_verdict(&mut fixture, args, Https, true), verdict, "{certificate}");
    }
}

#[test]
fn server_without_common_algorithm_is_described() {
    if skip("server_without_common_algorithm_is_described", &["openssl"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let nothing_in_common = "L6RSP the server has no cipher suite, group or signature in common, or requires a \
                             client certificate (alert handshake_failure)";
    for (server, verdict) in [
        ("-tls1_2 -cipher ECDHE-ECDSA-AES256-SHA384", nothing_in_common),
        ("-tls1_2 -cipher AES128-GCM-SHA256", nothing_in_common),
        ("-groups P-521", nothing_in_common),
        (
            "-tls1_1 -cipher DEFAULT:@SECLEVEL=0",
            "L6RSP the server supports neither TLS 1.2 nor 1.3 (alert protocol_version)",
        ),
    ] {
        let args = OpensslArgs { server, ..OpensslArgs::default() };
        assert_eq!(openssl_verdict(&mut fixture, args, Https, false), verdict, "{server}");
    }
}

/// With TLS 1.3 the client's handshake is complete before the server misses the certificate.
#[test]
fn required_client_certificate_fails_any_version() {
    if skip("required_client_certificate_fails_any_version", &["openssl"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    for kind in [Https, TcpTls] {
        for (server, verdict) in [
            (
                "-tls1_3 -Verify 1",
                "L6RSP the server requires a client certificate (alert certificate_required)",
            ),
            (
                "-tls1_2 -Verify 1",
                "L6RSP the server has no cipher suite, group or signature in common, or requires a client \
                 certificate (alert handshake_failure)",
            ),
        ] {
            let args = OpensslArgs { server, ..OpensslArgs::default() };
            assert_eq!(openssl_verdict(&mut fixture, args, kind, false), verdict, "{kind:?} {server}");
        }
    }
}

#[test]
fn optional_client_certificate_passes() {
    if skip("optional_client_certificate_passes", &["openssl"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    for server in ["-tls1_3 -verify 1", "-tls1_3 -verify 1 -num_tickets 0", "-tls1_2 -verify 1"] {
        let args = OpensslArgs { server, ..OpensslArgs::default() };
        assert_eq!(openssl_verdict(&mut fixture, args, TcpTls, false), "L6OK", "{server}");
    }
}
