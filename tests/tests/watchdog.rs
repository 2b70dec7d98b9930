//! The prober notifies systemd's watchdog from its main loop. The daemon suite tests maglevd's notifications.

#![cfg(test)]

use std::process::Command;

use maglev_lab::service_manager::Manager;
use maglev_lab::test_dir::Place;
use maglev_lab::process::Process;
use maglev_lab::programs::program;

#[test]
fn prober_notifies_watchdog() {
    let place = Place::new();
    let mut prober = Command::new(program("maglevd-prober").unwrap());
    prober.arg("--socket").arg(place.path("prober.sock"));
    expect_watchdog(&place, prober);
}

/// Waits for readiness, and then for three watchdog notifications.
fn expect_watchdog(place: &Place, mut program: Command) {
    let systemd = Manager::new(place);
    let _process = Process::spawn(
        "watched",
        program.env("NOTIFY_SOCKET", place.path("notify")).env("WATCHDOG_USEC", "100000"),
    );
    let mut beats = 0;
    let mut is_ready = false;
    while beats < 3 {
        match systemd.next().as_str() {
            "READY=1" => is_ready = true,
            "WATCHDOG=1" => beats += 1,
            other => panic!("{other}"),
        }
    }
    assert!(is_ready);
}
