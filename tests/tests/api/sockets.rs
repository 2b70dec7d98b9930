//! Listeners passed by systemd.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::metrics::Scrape;
use maglev_lab::process::Process;
use maglev_lab::programs::program;
use maglev_lab::servers;
use maglev_lab::skip;
use maglev_lab::test_dir::TestDir;

use crate::config;

const ACTIVATE: &str = "systemd-socket-activate";

/// Returns a command that passes sockets with these addresses and names to `maglevd` at the first connection.
fn activate(addresses: &[&str], names: &str) -> Command {
    let mut command = Command::new(ACTIVATE);
    for address in addresses {
        command.arg("--listen").arg(address);
    }
    command.arg(format!("--fdname={names}")).arg(program("maglevd").unwrap());
    command
}

fn is_listening(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

#[test]
fn systemd_sockets_override_flags() {
    if skip("systemd_sockets_override_flags", &[ACTIVATE]) {
        return;
    }
    let dir = TestDir::new();
    let ip = servers::loopback_address();
    let (grpc, metrics, flag) =
        (SocketAddr::new(ip, 9090), SocketAddr::new(ip, 9091), SocketAddr::new(ip, 9092));
    let unix = dir.path("maglevd.sock");
    let unused = dir.path("flag.sock");
    let setup = MaglevdSetup::new(&dir, &config("{}"))
        .flag("--grpc-addr", flag)
        .flag("--grpc-socket", unused.display())
        .flag("--metrics-addr", flag);
    let addresses = [unix.to_str().unwrap(), &grpc.to_string(), &metrics.to_string()];
    let process = setup.spawn_as(&mut activate(&addresses, "grpc:grpc:metrics"));
    process.line(0, &format!("Listening on {metrics}"));
    let maglevd = Maglevd::attach(process, unix);
    maglevd.process.line(0, "maglevd starts");
    let output = Command::new(program("maglevc").unwrap())
        .args(["--server", &grpc.to_string(), "show", "version"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(Scrape::fetch(metrics).families.contains("maglev_build_info"));
    assert!(std::net::TcpStream::connect(flag).is_err() && !unused.exists());
}

#[test]
fn daemon_serves_without_network_access() {
    if skip("daemon_serves_without_network_access", &[ACTIVATE, "unshare"]) {
        return;
    }
    let dir = TestDir::new();
    let grpc = SocketAddr::new(servers::loopback_address(), 9090);
    let mut command = Command::new(ACTIVATE);
    command.args(["--listen", &grpc.to_string(), "--fdname=grpc", "unshare", "--net"]);
    command.arg(program("maglevd").unwrap());
    let setup = MaglevdSetup::new(&dir, &config("{}")).flag("--grpc-socket", "");
    let process = setup.spawn_as(&mut command);
    process.line(0, "Listening on");
    let maglevc = program("maglevc").unwrap();
    let call = |words: [&str; 2]| {
        Command::new(&maglevc).args(["--server", &grpc.to_string()]).args(words).output().unwrap()
    };
    let output = call(["show", "version"]);
    assert!(output.status.success(), "{output:?}");
    assert!(crate::error_text(&call(["config", "reload"])).contains("127.0.0.1 has view"));
    let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_ne!(network(&process.pid().to_string()), network("self"));
}

#[test]
fn metrics_socket_alone_keeps_grpc_flags() {
    if skip("metrics_socket_alone_keeps_grpc_flags", &[ACTIVATE]) {
        return;
    }
    let dir = TestDir::new();
    let metrics = dir.path("metrics.sock");
    let setup = MaglevdSetup::new(&dir, &config("{}"));
    let process = setup.spawn_as(&mut activate(&[metrics.to_str().unwrap()], "metrics"));
    process.line(0, "Listening on");
    assert!(is_listening(&metrics));
    process.line(0, "maglevd starts");
    assert!(is_listening(&dir.path("maglevd.sock")));
}

#[test]
fn unexpected_systemd_socket_is_refused() {
    if skip("unexpected_systemd_socket_is_refused", &[ACTIVATE]) {
        return;
    }
    for (name, kind, complaint) in [
        (
            "web",
            "stream",
            "cannot listen on the socket `web` of systemd: FileDescriptorName= must be `grpc` or `metrics`",
        ),
        ("grpc", "seqpacket", "cannot listen on the socket `grpc` of systemd: not a ListenStream= socket"),
    ] {
        let dir = TestDir::new();
        let path = dir.path("socket");
        let mut command = activate(&[path.to_str().unwrap()], name);
        if kind == "seqpacket" {
            command = Command::new(ACTIVATE);
            command.arg("--seqpacket").arg("--listen").arg(&path).arg("--fdname=grpc");
            command.arg(program("maglevd").unwrap());
        }
        let mut process: Process = MaglevdSetup::new(&dir, &config("{}")).spawn_as(&mut command);
        process.line(0, "Listening on");
        connect(&path, kind);
        assert_eq!(process.end().code(), Some(1));
        process.line(0, complaint);
    }
}

/// Connects, which makes the socket activator start the daemon.
fn connect(path: &Path, kind: &str) {
    use socket2::{Domain, SockAddr, Socket, Type};
    let kind = if kind == "seqpacket" { Type::SEQPACKET } else { Type::STREAM };
    let socket = Socket::new(Domain::UNIX, kind, None).unwrap();
    socket.connect(&SockAddr::unix(path).unwrap()).unwrap();
}
