//! Daemons that crash or hang are restarted, and VPP does not change.

use maglev_lab::container;
use maglev_lab::container::machine::Machine;

use crate::fixtures::{CONTROLLER, PROBER, Stage};

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
    // This write proves that others would have been recorded.
    stage.sites[0].close();
    stage.until_weights([0, 1]);
    if stage.vpp.sim().is_some() {
        assert_ne!(stage.observer().writes(), [""; 0]);
    }
}

#[test]
fn watchdog_restarts_hung_daemons_without_writes() {
    if container::skip("watchdog_restarts_hung_daemons_without_writes") {
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
