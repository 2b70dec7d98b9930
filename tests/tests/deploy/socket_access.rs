//! Who may use the sockets.

use maglev_lab::container;
use maglev_lab::container::machine::Machine;
use maglev_lab::process::Process;

use crate::fixtures::{FILE, PROBER, SOCKET, Stage};

const PROBER_SOCKET: &str = "/run/vpp-maglev/prober.sock";

/// A `maglevd` of a stranger's, for the prober.
fn strange_maglevd(machine: &Machine) -> Process {
    let script = format!(
        "exec runuser -u nobody -- maglevd --config {FILE} --grpc-addr= --grpc-socket= --metrics-addr= \
         --vpp-api-addr= --vpp-stats-addr= --prober {PROBER_SOCKET}"
    );
    Process::spawn("the stranger", machine.command("sh").args(["-euc", &script]))
}

#[test]
fn strangers_are_kept_out_of_every_socket() {
    if container::skip("strangers_are_kept_out_of_every_socket") {
        return;
    }
    let stage = Stage::running("bookworm");
    let machine = &stage.machine;
    let mode = |socket: &str| machine.run(&format!("stat --format %a:%U:%G {socket}"));
    assert_eq!(mode(SOCKET), "660:root:maglevd");
    assert_eq!(mode(PROBER_SOCKET), "600:maglevd:maglevd");

    let ask = format!("maglevc --server unix:{SOCKET} show version");
    let refusal = machine.fail(&format!("runuser -u nobody -- {ask}"));
    assert!(refusal.to_lowercase().contains("permission denied"), "{refusal}");
    machine.run("useradd --system --groups maglevd alice");
    machine.run(&format!("runuser -u alice -- {ask}"));

    let line = strange_maglevd(machine).line(0, "no prober");
    assert!(line.to_lowercase().contains("permission denied"), "{line}");
    // Who gets past the file's mode is still looked at.
    let journal = machine.journal(PROBER);
    machine.run(&format!("chmod 0666 {PROBER_SOCKET}"));
    let stranger = strange_maglevd(machine);
    let uid = machine.run("id -u nobody");
    let line = journal.line(0, &format!("is of user {uid}, who is not allowed"));
    stranger.line(0, "no prober");
    println!("{line}");
    // The one that belongs there has noticed nothing.
    stage.settled();
}
