//! The prober tells systemd's watchdog that its main loop goes round. What maglevd tells is tested with the daemon.

#![cfg(test)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use maglev_tests::lab::PATIENCE;
use maglev_tests::lab::place::Place;
use maglev_tests::lab::process::Process;
use maglev_tests::programs::program;

#[test]
fn the_prober_is_watched() {
    let place = Place::new();
    let mut prober = Command::new(program("maglevd-prober").unwrap());
    prober.arg("--socket").arg(place.path("prober.sock"));
    hear_beats(&place, prober);
}

/// Waits until the program is ready, and then until it has told systemd three times that it is alive.
fn hear_beats(place: &Place, mut program: Command) {
    let systemd = UnixDatagram::bind(place.path("notify")).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    // The prober is nobody by then, if root runs the test.
    fs::set_permissions(place.path("notify"), Permissions::from_mode(0o777)).unwrap();
    let _process = Process::spawn(
        "watched",
        program.env("NOTIFY_SOCKET", place.path("notify")).env("WATCHDOG_USEC", "100000"),
    );
    let mut beats = 0;
    let mut is_ready = false;
    while beats < 3 {
        let mut message = [0; 100];
        let length = systemd.recv(&mut message).expect("it tells systemd in time");
        match &message[..length] {
            b"READY=1\n" => is_ready = true,
            b"WATCHDOG=1\n" => beats += 1,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    assert!(is_ready);
}
