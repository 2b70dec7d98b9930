//! Certificate verification of HTTPS.

use maglev_ipc::TlsVerify;
use maglev_lab::controller::{GIVEN_ROOTS, check, https};
use maglev_lab::nginx::{self, NAME, Nginx};
use maglev_lab::skip;
use maglev_lab::topology::FAMILIES;

use crate::ProberFixture;

#[test]
fn certificate_is_verified_against_roots_and_name() {
    if skip("certificate_is_verified_against_roots_and_name", &["nginx"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let nginx = Nginx::start(&fixture.lab.server, &fixture.dir);
    for family in FAMILIES {
        for (port, verdict) in [
            (nginx::GOOD, "L7OK HTTP 200"),
            (nginx::EXPIRED, "L6RSP certificate has expired"),
            (nginx::OTHER_NAME, "L6RSP certificate is not for the name www.example.org"),
            (nginx::SELF_SIGNED, "L6RSP certificate is from an unknown issuer"),
        ] {
            let check = check(family.server, https(port, NAME, GIVEN_ROOTS));
            assert_eq!(fixture.controller.verdict_with_roots(check, &nginx.roots), verdict);
        }
    }
}

#[test]
fn unverified_check_accepts_any_certificate() {
    if skip("unverified_check_accepts_any_certificate", &["nginx"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let _nginx = Nginx::start(&fixture.lab.server, &fixture.dir);
    for family in FAMILIES {
        for port in [nginx::GOOD, nginx::EXPIRED, nginx::OTHER_NAME, nginx::SELF_SIGNED] {
            let check = check(family.server, https(port, NAME, TlsVerify::Nothing));
            assert_eq!(fixture.controller.verdict(check), "L7OK HTTP 200");
        }
    }
}

#[test]
fn plaintext_port_fails_tls_handshake() {
    if skip("plaintext_port_fails_tls_handshake", &["nginx"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let _nginx = Nginx::start(&fixture.lab.server, &fixture.dir);
    for family in FAMILIES {
        let verdict =
            fixture.controller.verdict(check(family.server, https(nginx::HTTP, NAME, TlsVerify::Nothing)));
        assert_eq!(verdict, "L6RSP the answer is not TLS");
    }
}
