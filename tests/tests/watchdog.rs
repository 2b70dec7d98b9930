//! The prober notifies systemd's watchdog from its main loop. The daemon suite tests maglevd's notifications.

#![cfg(test)]

use std::process::Command;

use maglev_lab::process::Process;
use maglev_lab::programs::program;
use maglev_lab::service_manager::FakeServiceManager;
use maglev_lab::test_dir::TestDir;

#[test]
fn prober_notifies_watchdog() {
    let dir = TestDir::new();
    let mut prober = Command::new(program("maglevd-prober").unwrap());
    prober.arg("--socket").arg(dir.path("prober.sock"));
    expect_watchdog(&dir, prober);
}

/// Waits for readiness, and then for three watchdog notifications.
fn expect_watchdog(dir: &TestDir, mut program: Command) {
    let systemd = FakeServiceManager::new(dir);
    let _process = Process::spawn(
        "watched",
        program.env("NOTIFY_SOCKET", dir.path("notify")).env("WATCHDOG_USEC", "100000"),
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
