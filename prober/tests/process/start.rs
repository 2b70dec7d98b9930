//! How the prober starts and ends.

use maglev_ipc_link::ControllerSocket;
use std::process::{Command, Stdio};

use super::harness::{Controller, Place};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;

#[test]
fn a_signal_ends_it_in_good_order() {
    let place = Place::new();
    let mut prober = place.start(&[], &[]);
    kill(Pid::from_raw(prober.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(prober.child.wait().unwrap().success());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let place = Place::new();
    let mut first = place.start(&[], &[]);
    let path = place.path("sock");
    let path = path.to_str().unwrap();
    let said = place.refusal(&["--socket", path]);
    assert_eq!(said, format!("maglevd-prober: {path}: another process listens there"));
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    std::fs::remove_file(place.path("notify")).unwrap();
    // The file is still there, and nobody behind it.
    assert!(place.path("sock").exists());
    place.start(&[], &[]).connect();
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let place = Place::new();
    let binary = place.binary();
    let said = place.refusal(&["--socket", binary.to_str().unwrap()]);
    assert!(said.ends_with("there is a file that is no socket"), "{said}");
    assert!(binary.exists());
}

#[test]
fn it_says_where_it_could_not_listen() {
    let said = Place::new().refusal(&[]);
    assert_eq!(said, "maglevd-prober: nowhere to listen: give --socket, or start by a systemd socket");
}

#[test]
fn a_namespace_that_is_not_there_is_named() {
    let said = Place::new().refusal(&["--netns", "no-such-namespace", "--socket", "/x"]);
    assert!(said.contains("no-such-namespace"), "{said}");
}

#[test]
fn it_serves_the_controller_that_started_it_and_ends_with_it() {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let place = Place::new();
    let mut child = Command::new(place.binary()).arg("--stdin").stdin(Stdio::from(theirs)).spawn().unwrap();
    drop(Controller::greet(ControllerSocket::new(ours).unwrap()));
    assert!(child.wait().unwrap().success());
}
