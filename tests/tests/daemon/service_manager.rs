//! Notifications to the service manager.

use std::os::unix::net::UnixStream;

use maglev_lab::service_manager::FakeServiceManager;
use nix::sys::signal::Signal;

use crate::{BACKENDS, WebFixture};

#[test]
fn sd_notify_reports_state_changes() {
    let mut fixture = WebFixture::new();
    fixture.prober.kill();
    let manager = FakeServiceManager::new(&fixture.dir);
    let notify = fixture.dir.path("notify");
    let setup = fixture.setup(fixture.config()).flag("--prober", "spawn");
    let mut maglevd = setup.env("NOTIFY_SOCKET", notify.display()).env("WATCHDOG_USEC", "200000").start();
    let mut reported = manager.until("READY=1");
    UnixStream::connect(maglevd.socket()).unwrap();

    maglevd.until_up(&BACKENDS);
    let up = "STATUS=3 backends: 3 up; 1 frontend: 1 up; prober connected; VPP connected";
    reported.extend(manager.until(up));
    // The spawned prober must not notify systemd itself.
    assert_eq!(reported.iter().filter(|state| state.starts_with("READY=1")).count(), 1, "{reported:?}");
    manager.until("WATCHDOG=1");
    manager.until("WATCHDOG=1");

    fixture.servers.http[0].answer(503);
    manager.until("STATUS=3 backends: 2 up, 1 down; 1 frontend: 1 up; prober connected; VPP connected");

    maglevd.process.signal(Signal::SIGHUP);
    let reported = manager.until("RELOADING=1");
    assert!(reported.last().unwrap().contains("\nMONOTONIC_USEC="), "{reported:?}");
    manager.until("READY=1");
    maglevd.process.signal(Signal::SIGTERM);
    manager.until("STOPPING=1");
    assert!(maglevd.process.end().success());
}
