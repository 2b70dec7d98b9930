//! Misbehaving probers, and misbehaving clients of a prober.

use maglev_ipc::{ToController, VERSION};
use maglev_lab::fake_peer::{FakePeer, FakeProber};
use maglev_lab::process::child_of;
use maglev_proto::v1::BackendState;
use nix::sys::signal::{Signal, kill};

use crate::{BACKENDS, VIP, WebFixture};

fn hello(version: u16) -> ToController {
    ToController::Hello { version, release: "9.9.9".to_owned(), instance: 1 }
}

#[test]
fn prober_version_mismatch_is_logged_once() {
    let mut fixture = WebFixture::new();
    fixture.prober.kill();
    let fake_prober = FakeProber::listen(&fixture.dir.path("prober.sock"));
    let maglevd = fixture.setup(fixture.config()).start();
    // Reconnects of the same prober add no log lines.
    let peers = [(); 3].map(|()| {
        let peer = fake_prober.accept();
        peer.send(&hello(VERSION + 1));
        peer
    });
    let line = maglevd.process.line(0, "9.9.9");
    assert!(line.contains(&format!("version {}", VERSION + 1)) && line.contains("WARN"), "{line}");
    _ = fake_prober.accept();
    let logged = maglevd.process.lines(0).iter().filter(|line| line.contains("9.9.9")).count();
    assert_eq!((logged, peers.len()), (1, 3));
    assert_eq!(maglevd.backend("a").state(), BackendState::Unknown);
}

#[test]
fn garbage_from_prober_freezes_health() {
    let mut fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.observer().writes();
    fixture.prober.kill();
    maglevd.until_prober(false);
    let fake_prober = FakeProber::listen(&fixture.dir.path("prober.sock"));
    for nonsense in [&b"\xff\xff\xff\xff"[..], &[0; 60_000], b"GET / HTTP/1.1\r\n\r\n"] {
        let peer = fake_prober.accept();
        peer.send(&hello(VERSION));
        maglevd.until_prober(true);
        peer.send_bytes(nonsense);
        maglevd.until_prober(false);
    }
    for name in BACKENDS {
        let backend = maglevd.backend(name);
        assert_eq!((backend.state(), backend.stale), (BackendState::Up, true), "{backend:#?}");
    }
    assert_eq!(fixture.observer().writes(), written);
}

#[test]
fn garbage_on_prober_socket_is_harmless() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    let position = fixture.prober.line_count();
    let peer = FakePeer::connect(&fixture.dir.path("prober.sock"));
    peer.send_bytes(&[0xff; 1000]);
    fixture.prober.line(position, "controller link closed");
    fixture.servers.http[0].answer(503);
    maglevd.until_backend("a", BackendState::Down);
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
}

#[test]
fn spawned_prober_is_restarted_when_killed() {
    let mut fixture = WebFixture::new();
    fixture.prober.kill();
    let mut maglevd = fixture.setup(fixture.config()).flag("--prober", "spawn").start();
    maglevd.until_up(&BACKENDS);
    // The prober is a child of the spawner.
    kill(child_of(maglevd.process.child()), Signal::SIGKILL).unwrap();
    maglevd.until_prober(false);
    fixture.servers.http[0].answer(503);
    maglevd.until_backend("a", BackendState::Down);
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
}

/// The refusal names the flag, and following its advice helps.
#[test]
fn loopback_is_probed_only_by_name() {
    let fixture = WebFixture::new();
    let setup = || fixture.setup(fixture.config()).flag("--prober", "spawn");
    let mut maglevd = setup().flag("--prober-args", "").start();
    let line = maglevd.process.line(0, "event=check_rejected backend=a ");
    let address = fixture.servers.address(0);
    assert!(
        line.contains(&format!("{address} is no target: a loopback address; to probe it, set ")),
        "{line}"
    );
    let (_, advice) = line.split_once("--targets ").unwrap();
    let (targets, _) = advice.split_once('\'').unwrap();
    maglevd.process.signal(Signal::SIGTERM);
    maglevd.process.end();
    let mut maglevd = setup().flag("--prober-args", format!("--targets {targets}")).start();
    maglevd.until_backend("a", BackendState::Up);
}

/// maglevd shows the prober's words for an argument that it does not know.
#[test]
fn invalid_prober_arguments_are_the_reason() {
    let fixture = WebFixture::new();
    let setup = fixture.setup(fixture.config()).flag("--prober", "spawn");
    let maglevd = setup.flag("--prober-args", "--targets 192.0.2.1/24").start();
    let line = maglevd.process.line(0, "cannot connect to the prober, retrying");
    assert!(line.contains("has bits beyond its length: write 192.0.2.0/24"), "{line}");
}
