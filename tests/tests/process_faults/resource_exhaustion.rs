//! A host out of descriptors, ports or buffers. That is no evidence about servers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use maglev_ipc::{ConnectMode, ProbeKind};
use maglev_lab::controller::{TestController, check, http, tcp};
use maglev_lab::host::Host;
use maglev_lab::http_server::HttpServer;
use maglev_lab::process::Process;
use maglev_lab::skip;
use maglev_lab::test_dir::TestDir;
use maglev_proto::v1::{BackendState, DisableBackendRequest};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::fixtures::{BACKENDS, ProcessFixture, Recovery, assert_nothing_went_down, limit, until};

/// More than any of these tests needs.
const PLENTY: &str = "--nofile=1000:";
/// Prevents any new descriptor.
const NONE: &str = "--nofile=1:";

#[test]
fn fd_exhaustion_reports_local_and_keeps_health() {
    if skip("fd_exhaustion_reports_local_and_keeps_health", &["prlimit", "setpriv"]) {
        return;
    }
    let fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.writes();
    let mut recovery = Recovery::new();
    limit(&fixture.prober, NONE);
    let reported = fixture.local_outcomes();
    until("local faults to be reported", || fixture.local_outcomes(), |&now| now >= reported + 20.0);
    // The real state is detected once open_descriptors are available.
    fixture.servers.http[0].answer(503);
    let reported = fixture.local_outcomes();
    until("more local faults", || fixture.local_outcomes(), |&now| now >= reported + 20.0);
    assert_eq!(maglevd.backend("a").state(), BackendState::Up);
    assert_nothing_went_down(&maglevd.process);
    assert_eq!(fixture.writes(), written);
    recovery.time(|| {
        limit(&fixture.prober, PLENTY);
        maglevd.until_backend("a", BackendState::Down);
        fixture.until_weights(0, 10, 0);
    });
    assert_eq!(fixture.writes().len(), written.len() + 1);
    recovery.print("prober out of descriptors");
}

#[test]
fn fd_exhausted_prober_accepts_controller_later() {
    if skip("fd_exhausted_prober_accepts_controller_later", &["prlimit", "setpriv"]) {
        return;
    }
    let fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.writes();
    let mut recovery = Recovery::new();
    let position = fixture.prober.line_count();
    limit(&fixture.prober, NONE);
    maglevd.process.kill();
    let mut maglevd = fixture.start();
    maglevd.until_vpp(true);
    fixture.prober.line(position, "cannot accept a controller");
    assert_eq!(maglevd.backend("a").state(), BackendState::Unknown);
    recovery.time(|| {
        limit(&fixture.prober, PLENTY);
        maglevd.until_up(&BACKENDS);
    });
    fixture.assert_no_writes_since(&written, &mut maglevd);
    recovery.print("prober out of descriptors as maglevd restarts");
}

#[test]
fn fd_exhausted_maglevd_keeps_links_and_recovers() {
    if skip("fd_exhausted_maglevd_keeps_links_and_recovers", &["prlimit", "setpriv"]) {
        return;
    }
    let mut fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let position = maglevd.process.line_count();
    limit(&maglevd.process, NONE);
    // An existing client is served, but its override cannot be persisted.
    assert_eq!(maglevd.backend("a").state(), BackendState::Up);
    let (mut client, request) =
        (maglevd.client.clone(), DisableBackendRequest { name: "c".to_owned(), metadata: None });
    let answer = maglevd.wait(client.disable_backend(request)).unwrap().into_inner();
    assert!(answer.persist_error.contains("Too many open files"), "{}", answer.persist_error);
    // The file cannot be read, so the current configuration stays.
    maglevd.process.signal(Signal::SIGHUP);
    maglevd.process.line(position, "reload failed");
    // A new client waits.
    let server = format!("unix:{}", maglevd.socket().display());
    let mut command = Command::new(maglev_lab::programs::program("maglevc").unwrap());
    let mut waiting = Process::spawn("maglevc", command.args(["--server", &server, "show", "version"]));
    maglevd.process.line(position, "cannot accept a connection");
    // Both links are lost and cannot be reopened.
    fixture.vpp.kill();
    maglevd.until_vpp(false);
    fixture.vpp.boot().unwrap();
    fixture.prober.kill();
    maglevd.until_prober(false);
    fixture.prober = fixture.dir.prober(None, &[]);
    let complaint = |what: &str| {
        let is_it = |line: &&String| line.contains("WARN") && line.contains(what);
        maglevd.process.lines(position).iter().filter(is_it).count()
    };
    until(
        "both links to be retried",
        || (complaint("cannot connect to the prober"), complaint("cannot connect to VPP")),
        |&seen| seen == (1, 1),
    );
    assert_nothing_went_down(&maglevd.process);
    // Logged once for all retries.
    assert_eq!(complaint("cannot accept a connection"), 1);

    let mut recovery = Recovery::new();
    recovery.time(|| {
        limit(&maglevd.process, PLENTY);
        maglevd.until_vpp(true);
        maglevd.until_prober(true);
        fixture.until_weights(20, 10, 0);
        maglevd.process.line(position, "overrides persisted again");
        assert!(waiting.end().success());
    });
    assert_nothing_went_down(&maglevd.process);
    assert!(maglevd.maglevc(&["config", "reload"]).status.success());
    recovery.print("maglevd out of descriptors");
}

/// Ephemeral ports of the host.
const PORTS: std::ops::RangeInclusive<u16> = 40_000..=40_031;
const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HALF_OPEN: ProbeKind = ProbeKind::Tcp { port: 80, mode: ConnectMode::HalfOpen, tls: None };
const NO_PORT: &str = "LOCAL out of ports, or no such source address here";

/// Returns a host with few ports, and a server on it.
fn few_ports() -> (Host, HttpServer) {
    let host = Host::new("few-ports");
    host.set("ipv4/ip_local_port_range", &format!("{} {}", PORTS.start(), PORTS.end()));
    let site = host.inside(|| HttpServer::start(SocketAddr::new(TARGET, 80)));
    (host, site)
}

/// Binds every free port.
fn take_ports(host: &Host) -> Vec<Socket> {
    host.inside(|| {
        let take = |port| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).map(|()| socket).ok()
        };
        PORTS.filter_map(take).collect()
    })
}

/// Waits until the next outcomes are `wanted`.
fn until_outcome_is(controller: &mut TestController, wanted: &str) {
    while !controller.more(1).iter().all(|verdict| verdict == wanted) {}
}

#[test]
fn port_exhaustion_spares_half_open_probes() {
    if skip("port_exhaustion_spares_half_open_probes", &["ip"]) {
        return;
    }
    let ((host, _site), dir) = (few_ports(), TestDir::new());
    let _prober = dir.prober(Some(&host), &[]);
    let mut controller = TestController::connect(&dir.path("prober.sock"));
    assert_eq!(controller.verdict(check(TARGET, HALF_OPEN)), "L4OK");
    assert_eq!(controller.verdict(check(TARGET, http(80, "/"))), "L7OK HTTP 200");
    let taken = take_ports(&host);
    assert!(!taken.is_empty());
    assert_eq!(controller.verdict(check(TARGET, tcp(80))), NO_PORT);
    assert_eq!(controller.verdict(check(TARGET, http(80, "/"))), NO_PORT);
    assert_eq!(controller.outcomes(check(TARGET, HALF_OPEN), 40), vec!["L4OK"; 40]);
    assert_eq!(controller.verdict(check(TARGET, tcp(80))), NO_PORT);
    let mut recovery = Recovery::new();
    recovery.time(|| {
        drop(taken);
        until_outcome_is(&mut controller, "L4OK");
    });
    recovery.print("ports exhausted");
}

#[test]
fn half_open_without_reserved_ports_falls_back() {
    const NAME: &str = "half_open_without_reserved_ports_falls_back";
    if skip(NAME, &["ip"]) {
        return;
    }
    let ((host, _site), dir) = (few_ports(), TestDir::new());
    let taken = take_ports(&host);
    let prober = dir.prober(Some(&host), &[]);
    let mut controller = TestController::connect(&dir.path("prober.sock"));
    assert_eq!(controller.verdict(check(TARGET, HALF_OPEN)), NO_PORT);
    prober.line(0, "no block of free ports");
    drop(taken);
    until_outcome_is(&mut controller, "L4OK");
}

/// Makes system calls of a process fail, in strace(1) syntax, until dropped.
fn inject(pid: Pid, faults: &str) -> Process {
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", &format!("inject={faults}"), "-p", &pid.to_string()]);
    let strace = Process::spawn("strace", &mut command);
    strace.line(0, "attached");
    strace
}

#[test]
fn failed_syscalls_are_local_faults() {
    if skip("failed_syscalls_are_local_faults", &["ip", "strace"]) {
        return;
    }
    const BUFFERS: &str = "LOCAL out of buffers";
    const DESCRIPTORS: &str = "LOCAL out of descriptors";
    const PERMISSION: &str = "LOCAL not permitted on this host";
    let (host, dir) = (Host::new("poor"), TestDir::new());
    let _site = host.inside(|| HttpServer::start(SocketAddr::new(TARGET, 80)));
    // strace replaces the number of an injected call, for which the seccomp filter would kill the prober.
    let prober = dir.prober(Some(&host), &["--sandbox=off"]);
    let mut controller = TestController::connect(&dir.path("prober.sock"));
    let mut recovery = Recovery::new();
    for (call, error, probe, verdict) in [
        ("sendmmsg", "ENOBUFS", ProbeKind::Icmp, BUFFERS),
        ("sendmmsg", "EAGAIN", ProbeKind::Icmp, BUFFERS),
        ("sendmmsg", "EPERM", ProbeKind::Icmp, PERMISSION),
        ("sendmmsg", "ENOBUFS", HALF_OPEN, BUFFERS),
        ("sendmmsg", "EAGAIN", HALF_OPEN, BUFFERS),
        ("sendmmsg", "EPERM", HALF_OPEN, PERMISSION),
        ("connect", "ENOBUFS", tcp(80), BUFFERS),
        ("connect", "EAGAIN", tcp(80), BUFFERS),
        ("connect", "EPERM", tcp(80), PERMISSION),
        ("connect", "EADDRNOTAVAIL", http(80, "/"), NO_PORT),
        ("socket", "ENFILE", tcp(80), DESCRIPTORS),
        ("socket", "EMFILE", http(80, "/"), DESCRIPTORS),
        ("socket", "ENOBUFS", http(80, "/"), BUFFERS),
        ("epoll_ctl", "ENOMEM", tcp(80), BUFFERS),
        ("sendto", "ENOBUFS", http(80, "/"), BUFFERS),
    ] {
        let well = controller.verdict(check(TARGET, probe.clone()));
        assert!(well.starts_with("L4OK") || well.starts_with("L7OK"), "{probe:?}: {well}");
        let strace = inject(prober.pid(), &format!("{call}:error={error}"));
        until_outcome_is(&mut controller, verdict);
        // Every other call fails; the rest must be reported as usual.
        drop(strace);
        let strace = inject(prober.pid(), &format!("{call}:error={error}:when=1+2"));
        let mixed = controller.more(20);
        assert!(mixed.iter().all(|seen| *seen == well || seen == verdict), "{call} {error}: {mixed:#?}");
        recovery.time(|| {
            drop(strace);
            until_outcome_is(&mut controller, &well);
        });
    }
    recovery.print("failing system calls of the prober");
}
