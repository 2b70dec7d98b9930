//! HTTP from nginx and from misbehaving servers.

use std::net::SocketAddr;

use maglev_ipc::{Check, HttpCheck, ProbeKind};
use maglev_lab::controller::{SHORT, check, get, http};
use maglev_lab::http_server::HttpServer;
use maglev_lab::nginx::{self, Nginx};
use maglev_lab::skip;
use maglev_lab::topology::{FAMILIES, V4};

use crate::ProberFixture;

fn matching(regexp: &str) -> ProbeKind {
    let http = HttpCheck { body: Some(regexp.to_owned()), ..get("/body") };
    ProbeKind::Http { port: nginx::HTTP, http, tls: None }
}

#[test]
fn status_decides_and_redirects_are_not_followed() {
    if skip("status_decides_and_redirects_are_not_followed", &["nginx"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let _nginx = Nginx::start(&fixture.lab.server, &fixture.dir);
    for family in FAMILIES {
        for (path, verdict) in [
            ("/", "L7OK HTTP 200"),
            ("/503", "L7STS HTTP 503"),
            ("/301", "L7STS HTTP 301"),
            ("/missing", "L7STS HTTP 404"),
        ] {
            let check = check(family.server, http(nginx::HTTP, path));
            assert_eq!(fixture.controller.verdict(check), verdict, "{path}");
        }
        let redirect = HttpCheck { codes: vec![(200, 204), (300, 399)], ..get("/301") };
        let check = check(family.server, ProbeKind::Http { port: nginx::HTTP, http: redirect, tls: None });
        assert_eq!(fixture.controller.verdict(check), "L7OK HTTP 301");
    }
}

#[test]
fn body_must_match_regexp() {
    if skip("body_must_match_regexp", &["nginx"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let _nginx = Nginx::start(&fixture.lab.server, &fixture.dir);
    for family in FAMILIES {
        let well = fixture.controller.verdict(check(family.server, matching("^all is [a-z]+ here$")));
        assert_eq!(well, "L7OK HTTP 200");
        let ill = fixture.controller.verdict(check(family.server, matching("out of order")));
        assert!(ill.starts_with("L7RSP "), "{ill}");
    }
}

#[test]
fn hung_http_server_times_out() {
    if skip("hung_http_server_times_out", &["nginx"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let nginx = Nginx::start(&fixture.lab.server, &fixture.dir);
    nginx.hang();
    for family in FAMILIES {
        let check = Check { timeout: SHORT, ..check(family.server, http(nginx::HTTP, "/")) };
        let verdict = fixture.controller.verdict(check);
        assert!(verdict.starts_with("L7TOUT"), "{verdict}");
    }
    nginx.resume();
    for family in FAMILIES {
        assert_eq!(fixture.controller.verdict(check(family.server, http(nginx::HTTP, "/"))), "L7OK HTTP 200");
    }
}

#[test]
fn malformed_http_answers_fail() {
    if skip("malformed_http_answers_fail", &[]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let site = fixture.lab.server.inside(|| HttpServer::start(SocketAddr::new(V4.server, 80)));
    let endless_header = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(1 << 18)].concat();
    for (what, answer) in [
        ("nothing", &b""[..]),
        ("not HTTP", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("zeros", &[0; 4096]),
        ("an invalid status", b"HTTP/1.1 99999 Well\r\n\r\n"),
        ("another protocol's version", b"HTTP/3.0 200 OK\r\n\r\n"),
        ("half a header", b"HTTP/1.1 200 OK\r\nContent-Le"),
        ("a megabyte of header", &endless_header),
    ] {
        site.answer_with(answer);
        let verdict = fixture.controller.verdict(check(V4.server, http(80, "/")));
        assert!(verdict.starts_with("L7RSP"), "{what}: {verdict}");
    }
    site.answer(200);
    assert_eq!(fixture.controller.verdict(check(V4.server, http(80, "/"))), "L7OK HTTP 200");
}
