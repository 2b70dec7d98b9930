//! Access to the sockets.

use maglev_lab::container;
use maglev_lab::container::machine::Machine;
use maglev_lab::process::Process;

use crate::fixtures::{FILE, PROBER, PackageFixture, SOCKET};

const PROBER_SOCKET: &str = "/run/vpp-maglev/prober.sock";

/// Starts a `maglevd` of another user, which connects to the prober.
fn start_as_other_user(machine: &Machine) -> Process {
    let script = format!(
        "exec runuser -u nobody -- maglevd --config {FILE} --grpc-addr= --grpc-socket= --metrics-addr= \
         --vpp-api-addr= --vpp-stats-addr= --prober {PROBER_SOCKET}"
    );
    Process::spawn("the other maglevd", machine.command("sh").args(["-euc", &script]))
}

#[test]
fn sockets_reject_unauthorized_users() {
    if container::skip("sockets_reject_unauthorized_users") {
        return;
    }
    let fixture = PackageFixture::running("bookworm");
    let machine = &fixture.machine;
    let mode = |socket: &str| machine.run(&format!("stat --format %a:%U:%G {socket}"));
    assert_eq!(mode(SOCKET), "660:root:maglev-operators");
    assert_eq!(mode(PROBER_SOCKET), "600:maglevd:maglevd");

    let ask = format!("maglevc --server unix:{SOCKET} show version");
    let refusal = machine.fail(&format!("runuser -u nobody -- {ask}"));
    assert!(refusal.to_lowercase().contains("permission denied"), "{refusal}");
    machine.run("useradd --system --groups maglev-operators alice");
    machine.run(&format!("runuser -u alice -- {ask}"));

    let line = start_as_other_user(machine).line(0, "cannot connect to the prober");
    assert!(line.to_lowercase().contains("permission denied"), "{line}");
    // The prober also checks `SO_PEERCRED`, independent of the file mode.
    let journal = machine.journal(PROBER);
    machine.run(&format!("chmod 0666 {PROBER_SOCKET}"));
    let peer = start_as_other_user(machine);
    let uid = machine.run("id -u nobody");
    let line = journal.line(0, &format!(" of user {uid}"));
    peer.line(0, "cannot connect to the prober");
    println!("{line}");
    // The legitimate controller is not affected.
    fixture.settled();
}
