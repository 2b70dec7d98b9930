//! HTTPS: whom a certificate convinces.

use maglev_ipc::Verify;
use maglev_lab::controller::{GIVEN_ROOTS, check, https};
use maglev_lab::nginx::{self, NAME, Nginx};
use maglev_lab::skip;
use maglev_lab::topology::FAMILIES;

use crate::Bench;

#[test]
fn a_certificate_is_held_against_the_given_roots_and_the_name() {
    if skip("a_certificate_is_held_against_the_given_roots_and_the_name", &["nginx"]) {
        return;
    }
    let mut bench = Bench::new();
    let nginx = Nginx::start(&bench.lab.server, &bench.place);
    for family in FAMILIES {
        for (port, verdict) in [
            (nginx::GOOD, "L7OK HTTP 200"),
            (nginx::EXPIRED, "L6RSP certificate expired"),
            (nginx::OTHER_NAME, "L6RSP certificate not valid for name www.example.org"),
            (nginx::SELF_SIGNED, "L6RSP certificate from an unknown issuer"),
        ] {
            let check = check(family.server, https(port, NAME, GIVEN_ROOTS));
            assert_eq!(bench.controller.verdict_with_roots(check, &nginx.roots), verdict);
        }
    }
}

#[test]
fn a_check_that_verifies_nothing_takes_any_certificate() {
    if skip("a_check_that_verifies_nothing_takes_any_certificate", &["nginx"]) {
        return;
    }
    let mut bench = Bench::new();
    let _nginx = Nginx::start(&bench.lab.server, &bench.place);
    for family in FAMILIES {
        for port in [nginx::GOOD, nginx::EXPIRED, nginx::OTHER_NAME, nginx::SELF_SIGNED] {
            let check = check(family.server, https(port, NAME, Verify::Nothing));
            assert_eq!(bench.controller.verdict(check), "L7OK HTTP 200");
        }
    }
}

#[test]
fn a_port_without_tls_fails_the_handshake() {
    if skip("a_port_without_tls_fails_the_handshake", &["nginx"]) {
        return;
    }
    let mut bench = Bench::new();
    let _nginx = Nginx::start(&bench.lab.server, &bench.place);
    for family in FAMILIES {
        let verdict =
            bench.controller.verdict(check(family.server, https(nginx::HTTP, NAME, Verify::Nothing)));
        assert_eq!(verdict, "L6RSP the answer is not TLS");
    }
}
