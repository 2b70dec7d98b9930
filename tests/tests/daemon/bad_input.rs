//! Invalid input: one clear log line, the right exit code, or no effect.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};

use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::metrics::Scrape;
use maglev_lab::programs::program;
use maglev_lab::servers::Servers;
use maglev_lab::test_dir::TestDir;
use maglev_proto::v1::BackendState;

use crate::{BACKENDS, WebFixture};

/// Returns exit code and error lines, and checks that `--check` and a start report the same.
fn refusal(config: &str) -> (Option<i32>, Vec<String>) {
    let dir = TestDir::new();
    let path = dir.path("maglev.yaml").display().to_string();
    let (status, lines) = MaglevdSetup::new(&dir, config).start_failing();
    let Output { status: checked, stdout, stderr } =
        Command::new(program("maglevd").unwrap()).args(["--check", "--config", &path]).output().unwrap();
    assert_eq!((checked.code(), stdout), (status.code(), Vec::new()));
    assert_eq!(String::from_utf8(stderr).unwrap().lines().collect::<Vec<_>>(), lines);
    (status.code(), lines.iter().map(|line| line.replace(&path, "FILE")).collect())
}

#[test]
fn unknown_log_level_is_refused() {
    for check in [false, true] {
        let mut maglevd = std::process::Command::new(maglev_lab::programs::program("maglevd").unwrap());
        let output = maglevd.args(["--log-level=warning"]).args(check.then_some("--check")).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains("`warning` is no level: use error, warn, info"), "{words}");
    }
}

#[test]
fn malformed_config_is_refused_with_position() {
    for (config, complaint) in [
        ("maglev:\n  backends: {\n", "FILE:3:1: "),
        ("maglev:\n  backend: {}\n", "FILE:2:3: maglev: unknown field `backend`"),
        ("maglev:\n  backends: { a: {}, a: {} }\n", "FILE:2:22: maglev.backends: duplicate key `a`"),
        ("maglev:\n  backends:\n    a: { address: 7 }\n", "FILE:3:19: maglev.backends.a.address: "),
        ("\u{0}", "FILE:1:1: "),
    ] {
        let (code, lines) = refusal(config);
        assert_eq!((code, lines.len()), (Some(1), 1), "{lines:#?}");
        assert!(lines[0].starts_with(complaint), "{lines:#?}");
    }
}

#[test]
fn all_config_errors_are_reported_together() {
    let (code, lines) = refusal(
        "maglev:
  healthchecks:
    site: { type: http, rise: 0 }
  backends:
    a: { healthcheck: nosuch }
  frontends:
    web: { address: 192.0.2.1, protocol: tcp, pools: [ { name: only, backends: { nginx9: { weight: 101 } } } ] }
",
    );
    assert_eq!(code, Some(2));
    for mistake in [
        "maglev.healthchecks.site.port: required",
        "maglev.healthchecks.site.rise: ",
        "maglev.backends.a.address: required",
        "maglev.backends.a.healthcheck: no such healthcheck: nosuch",
        "maglev.frontends.web.port: required",
        "maglev.frontends.web.pools[0].backends.nginx9: no such backend",
        "maglev.frontends.web.pools[0].backends.nginx9.weight: ",
    ] {
        assert!(lines.iter().any(|line| line.contains(mistake)), "{mistake} in {lines:#?}");
    }
    assert_eq!(lines.len(), 7, "{lines:#?}");
}

#[test]
fn missing_config_file_is_named() {
    let dir = TestDir::new();
    let missing = dir.path("missing.yaml").display().to_string();
    let (status, lines) = MaglevdSetup::new(&dir, "").flag("--config", &missing).start_failing();
    assert_eq!(status.code(), Some(1));
    assert_eq!(lines, [format!("{missing}: No such file or directory (os error 2)")]);
}

#[test]
fn address_in_use_is_named() {
    let (dir, servers) = (TestDir::new(), Servers::new(1));
    let taken = servers.http[0].address();
    for flag in ["--metrics-addr", "--grpc-addr"] {
        let (status, lines) = MaglevdSetup::new(&dir, "maglev: {}").flag(flag, taken).start_failing();
        assert_eq!(status.code(), Some(1));
        assert_eq!(lines, [format!("maglevd: cannot listen on {taken}: address already in use")]);
    }
}

#[test]
fn socket_in_use_is_not_taken_over() {
    let dir = TestDir::new();
    let setup = || MaglevdSetup::new(&dir, "maglev: {}");
    let mut first = setup().start();
    let (status, lines) = setup().start_failing();
    assert_eq!(status.code(), Some(1));
    let socket = first.socket().display();
    assert_eq!(lines, [format!("maglevd: cannot listen on {socket}: another process listens there")]);
    assert!(first.maglevc(&["show", "version"]).status.success());
    // The socket of a dead process is replaced.
    first.process.kill();
    assert!(setup().start().maglevc(&["show", "version"]).status.success());
}

#[test]
fn missing_prober_is_retried_until_present() {
    let mut fixture = WebFixture::new();
    fixture.prober.kill();
    std::fs::remove_file(fixture.dir.path("prober.sock")).unwrap();
    let metrics = SocketAddr::new(fixture.servers.address(199), fixture.servers.port());
    let mut maglevd = fixture.setup(fixture.config()).flag("--metrics-addr", metrics).start();
    maglevd.process.line(0, "prober.sock");
    assert_eq!(Scrape::fetch(metrics).value("maglev_prober_connected", &[]), 0.0);
    fixture.prober = fixture.dir.prober(None, &[]);
    maglevd.until_up(&BACKENDS);
    let scrape = Scrape::fetch(metrics);
    assert_eq!(scrape.value("maglev_prober_connected", &[]), 1.0);
    let complaints = maglevd
        .process
        .lines(0)
        .iter()
        .filter(|line| line.contains("WARN") && line.contains("prober.sock"))
        .count();
    assert_eq!(complaints, 1);
}

#[test]
fn garbage_on_listeners_is_harmless() {
    let fixture = WebFixture::new();
    let [metrics, grpc] =
        [198, 199].map(|server| SocketAddr::new(fixture.servers.address(server), fixture.servers.port()));
    let setup = fixture.setup(fixture.config()).flag("--metrics-addr", metrics).flag("--grpc-addr", grpc);
    let mut maglevd = setup.start();
    let nonsense = [
        &b"\x00\xff"[..],
        &[b'A'; 1 << 20],
        b"GET / HTTP/0.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff",
    ];
    for bytes in nonsense {
        // The server may close the connection before it reads everything.
        for address in [metrics, grpc] {
            _ = TcpStream::connect(address).unwrap().write_all(bytes);
        }
        _ = UnixStream::connect(maglevd.socket()).unwrap().write_all(bytes);
    }
    maglevd.until_up(&BACKENDS);
    fixture.servers.http[0].answer(503);
    maglevd.until_backend("a", BackendState::Down);
    assert!(maglevd.maglevc(&["show", "backends"]).status.success());
    assert_eq!(Scrape::fetch(metrics).value("maglev_prober_connected", &[]), 1.0);
}
