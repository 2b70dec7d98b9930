//! Keep-alive connections to nginx.

use std::fs;
use std::num::NonZeroU32;

use maglev_ipc::{Check, HttpCheck, ProbeKind, TlsHandshake, TlsVerify};
use maglev_lab::controller::{check, get};
use maglev_lab::host::Host;
use maglev_lab::nginx::{self, NAME, Nginx};
use maglev_lab::skip;
use maglev_lab::topology::{AddressFamily, FAMILIES};

use crate::ProberFixture;

fn keeping(family: &AddressFamily, path: &str, every: u32, over_tls: bool) -> Check {
    let http = HttpCheck { keep_alive: NonZeroU32::new(every), ..get(path) };
    let tls = TlsHandshake { server_name: NAME.to_owned(), verify: TlsVerify::Nothing };
    let (port, tls) = if over_tls { (nginx::GOOD, Some(tls)) } else { (nginx::HTTP, None) };
    check(family.server, ProbeKind::Http { port, http, tls })
}

/// Returns the number of connections that a host has accepted.
fn accepted(host: &Host) -> u64 {
    let snmp = host.inside(|| fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut tcp = snmp.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (mut names, mut values) = (tcp.next().unwrap(), tcp.next().unwrap());
    let index = names.position(|name| name == "PassiveOpens").unwrap();
    values.nth(index).unwrap().parse().unwrap()
}

#[test]
fn keep_alive_reuses_connection() {
    if skip("keep_alive_reuses_connection", &["nginx"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let _nginx = Nginx::start(&fixture.lab.server, &fixture.dir);
    for family in FAMILIES {
        for over_tls in [false, true] {
            let before = accepted(&fixture.lab.server);
            // Probes of a failing backend never overlap, even on a slow host.
            let verdicts = fixture.controller.outcomes(keeping(&family, "/503", 1000, over_tls), 30);
            assert_eq!(verdicts, ["L7STS HTTP 503"; 30]);
            assert_eq!(accepted(&fixture.lab.server) - before, 1);
            let verdicts = fixture.controller.outcomes(keeping(&family, "/", 5, over_tls), 21);
            assert_eq!(verdicts, ["L7OK HTTP 200"; 21]);
            assert!(accepted(&fixture.lab.server) - before > 5);
        }
    }
}

#[test]
fn server_reload_fails_no_probe() {
    if skip("server_reload_fails_no_probe", &["nginx"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let nginx = Nginx::start(&fixture.lab.server, &fixture.dir);
    for over_tls in [false, true] {
        let check = keeping(&FAMILIES[0], "/", 1000, over_tls);
        let before = accepted(&fixture.lab.server);
        for _ in 0..3 {
            // The check is unchanged, so its connection survives from round to round.
            assert_eq!(fixture.controller.outcomes(check.clone(), 10), ["L7OK HTTP 200"; 10]);
            nginx.reload();
        }
        // The last reload takes some time.
        while accepted(&fixture.lab.server) - before < 4 {
            assert_eq!(fixture.controller.outcomes(check.clone(), 10), ["L7OK HTTP 200"; 10]);
        }
    }
}

#[test]
fn fresh_connection_resumes_tls_session() {
    if skip("fresh_connection_resumes_tls_session", &["nginx"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let _nginx = Nginx::start(&fixture.lab.server, &fixture.dir);
    for family in FAMILIES {
        let mut check = keeping(&family, "/resumed", 2, true);
        let ProbeKind::Http { http, .. } = &mut check.probe else { panic!("no HTTP") };
        http.body = Some("^r$".to_owned());
        let verdicts = fixture.controller.outcomes(check.clone(), 8);
        assert!(verdicts[..2].iter().all(|verdict| verdict.starts_with("L7RSP")), "{verdicts:?}");
        assert_eq!(verdicts[2..], ["L7OK HTTP 200"; 6]);
        // Without keep-alive, each handshake is a full one.
        let ProbeKind::Http { http, .. } = &mut check.probe else { panic!("no HTTP") };
        http.keep_alive = None;
        let verdicts = fixture.controller.outcomes(check, 8);
        assert!(verdicts.iter().all(|verdict| verdict.starts_with("L7RSP")), "{verdicts:?}");
    }
}
