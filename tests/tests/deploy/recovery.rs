//! Daemons that crash or hang are restarted, and VPP does not change.

use maglev_lab::container;
use maglev_lab::container::machine::Machine;

use crate::fixtures::{CONTROLLER, PROBER, PackageFixture};

/// Number of kills of each.
const TIMES: usize = 3;

fn signal(machine: &Machine, service: &str, signal: &str) -> u32 {
    let pid = machine.main_pid(service);
    machine.run(&format!("kill -{signal} {pid}"));
    pid
}

#[test]
fn killed_daemons_restart_without_vpp_writes() {
    if container::skip("killed_daemons_restart_without_vpp_writes") {
        return;
    }
    let mut fixture = PackageFixture::running("bookworm");
    fixture.forget_writes();
    for services in [&[PROBER][..], &[CONTROLLER], &[PROBER, CONTROLLER]] {
        for _ in 0..TIMES {
            let before = services.iter().map(|service| signal(&fixture.machine, service, "KILL"));
            let before: Vec<_> = before.collect();
            for (service, pid) in services.iter().zip(before) {
                fixture.until_restarted(service, pid);
            }
            fixture.settled();
        }
    }
    assert_eq!(fixture.observer().writes(), [""; 0]);
    // This write proves that others would have been recorded.
    fixture.http[0].close();
    fixture.until_weights([0, 20]);
    if fixture.vpp.sim().is_some() {
        assert_ne!(fixture.observer().writes(), [""; 0]);
    }
}

#[test]
fn watchdog_restarts_hung_daemons_without_writes() {
    if container::skip("watchdog_restarts_hung_daemons_without_writes") {
        return;
    }
    let fixture = PackageFixture::running("bookworm");
    fixture.forget_writes();
    for service in [PROBER, CONTROLLER] {
        let journal = fixture.machine.journal(service);
        let before = signal(&fixture.machine, service, "STOP");
        journal.line(0, "Watchdog timeout");
        fixture.until_restarted(service, before);
        fixture.settled();
    }
    assert_eq!(fixture.observer().writes(), [""; 0]);
}
