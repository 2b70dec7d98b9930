//! Start and exit of the prober.

use std::process::{Command, Stdio};

use super::harness::{TestController, TestDir};
use maglev_ipc_link::ControllerSocket;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;

#[test]
fn sigterm_exits_cleanly() {
    let dir = TestDir::new();
    let mut prober = dir.start(&[], &[]);
    kill(Pid::from_raw(prober.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(prober.child.wait().unwrap().success());
}

#[test]
fn only_stale_socket_is_replaced() {
    let dir = TestDir::new();
    let mut first = dir.start(&[], &[]);
    let path = dir.path("sock");
    let path = path.to_str().unwrap();
    let error = dir.start_error(&["--socket", path]);
    assert_eq!(error, format!("maglevd-prober: {path}: another process listens on this socket"));
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    std::fs::remove_file(dir.path("notify")).unwrap();
    // The file still exists, without a listener.
    assert!(dir.path("sock").exists());
    dir.start(&[], &[]).connect();
}

#[test]
fn other_file_at_socket_path_is_kept() {
    let dir = TestDir::new();
    let binary = dir.binary();
    let error = dir.start_error(&["--socket", binary.to_str().unwrap()]);
    assert!(error.ends_with("file exists and is not a socket"), "{error}");
    assert!(binary.exists());
}

#[test]
fn missing_socket_is_reported() {
    let error = TestDir::new().start_error(&[]);
    assert_eq!(error, "maglevd-prober: no socket: use --socket, or start by a systemd socket unit");
}

#[test]
fn missing_namespace_is_reported() {
    let error = TestDir::new().start_error(&["--netns", "no-such-namespace", "--socket", "/x"]);
    assert!(error.contains("no-such-namespace"), "{error}");
}

#[test]
fn stdin_mode_exits_with_its_parent() {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let dir = TestDir::new();
    let mut child = Command::new(dir.binary()).arg("--stdin").stdin(Stdio::from(theirs)).spawn().unwrap();
    drop(TestController::greet(ControllerSocket::new(ours).unwrap()));
    assert!(child.wait().unwrap().success());
}
