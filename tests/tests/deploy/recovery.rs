//! What becomes of daemons that crash or hang, and of VPP meanwhile: nothing.

use maglev_lab::container;
use maglev_lab::container::machine::Machine;

use crate::fixtures::{CONTROLLER, PROBER, Stage};

/// How often each is killed.
const TIMES: usize = 3;

fn signal(machine: &Machine, service: &str, signal: &str) -> u32 {
    let pid = machine.main_pid(service);
    machine.run(&format!("kill -{signal} {pid}"));
    pid
}

#[test]
fn a_daemon_that_is_killed_is_back_and_writes_nothing_to_vpp() {
    if container::skip("a_daemon_that_is_killed_is_back_and_writes_nothing_to_vpp") {
        return;
    }
    let mut stage = Stage::running("bookworm");
    stage.forget_writes();
    for services in [&[PROBER][..], &[CONTROLLER], &[PROBER, CONTROLLER]] {
        for _ in 0..TIMES {
            let before = services.iter().map(|service| signal(&stage.machine, service, "KILL"));
            let before: Vec<_> = before.collect();
            for (service, pid) in services.iter().zip(before) {
                stage.until_restarted(service, pid);
            }
            stage.settled();
        }
    }
    assert_eq!(stage.observer().writes(), [""; 0]);
    // A write that is due proves that others would have been seen.
    stage.sites[0].close();
    stage.until_weights([0, 1]);
    if stage.vpp.sim().is_some() {
        assert_ne!(stage.observer().writes(), [""; 0]);
    }
}

#[test]
fn a_daemon_that_hangs_is_killed_and_is_back_and_writes_nothing_to_vpp() {
    if container::skip("a_daemon_that_hangs_is_killed_and_is_back_and_writes_nothing_to_vpp") {
        return;
    }
    let stage = Stage::running("bookworm");
    stage.forget_writes();
    for service in [PROBER, CONTROLLER] {
        let journal = stage.machine.journal(service);
        let before = signal(&stage.machine, service, "STOP");
        journal.line(0, "Watchdog timeout");
        stage.until_restarted(service, before);
        stage.settled();
    }
    assert_eq!(stage.observer().writes(), [""; 0]);
}
