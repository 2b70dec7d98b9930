//! Out of memory: a process that dies of it is restarted and finds the previous state.

use std::os::unix::process::ExitStatusExt;

use maglev_lab::process::{Process, child_of};
use maglev_lab::skip;
use maglev_proto::v1::BackendState;
use nix::libc::SIGABRT;
use nix::sys::signal::Signal;

use crate::cpu_starvation::ControlGroup;
use crate::fixtures::{BACKENDS, ProcessFixture, Recovery, assert_nothing_went_down, limit, until};

#[test]
fn oom_killed_prober_is_restarted() {
    let name = "oom_killed_prober_is_restarted";
    let Some(group) = ControlGroup::new(name, "memory.limit_in_bytes") else { return };
    let mut fixture = ProcessFixture::new();
    fixture.prober.kill();
    let mut maglevd = fixture.setup(&fixture.config()).flag("--prober", "spawn").start();
    maglevd.until_up(&BACKENDS);
    fixture.until_weights(20, 10, 0);
    let written = fixture.writes();
    let mut recovery = Recovery::new();
    for _ in 0..3 {
        group.set("memory.limit_in_bytes", 4096);
        // The prober is a child of the spawner.
        group.take(child_of(maglevd.process.child()));
        recovery.time(|| {
            maglevd.until_prober(false);
            maglevd.until_prober(true);
            until(
                "fresh outcomes",
                || BACKENDS.map(|name| maglevd.backend(name).stale),
                |stale| *stale == [false; 3],
            );
        });
    }
    assert_nothing_went_down(&maglevd.process);
    fixture.assert_no_writes_since(&written, &mut maglevd);
    recovery.print("prober killed for its memory (from the limit on)");
}

/// Limits a process to its current data size plus `more` kB.
fn limit_memory(process: &Process, more: u64) {
    let has: u64 = process.status("VmData").trim_end_matches(" kB").parse().unwrap();
    limit(process, &format!("--data={}:", (has + more) * 1024));
}

/// Returns a configuration with ten thousand more servers, all of which reply.
fn large_config(config: &str) -> String {
    let more: String = (0..10_000_u32)
        .map(|n| {
            let [_, x, y, z] = (n + 1).to_be_bytes();
            format!("    more{n}: {{ address: 127.{}.{y}.{z}, healthcheck: ping }}\n", 200 + x)
        })
        .collect();
    let ping = "    ping: { type: icmp, interval: 10s, timeout: 20s }";
    let config = config.replace("  healthchecks:\n", &format!("  healthchecks:\n{ping}\n"));
    config.replace("  backends:\n    a:", &format!("  backends:\n{more}    a:"))
}

#[test]
fn maglevd_aborts_when_out_of_memory() {
    let name = "maglevd_aborts_when_out_of_memory";
    if skip(name, &["prlimit", "setpriv"]) {
        return;
    }
    let fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.writes();
    fixture.dir.write("maglev.yaml", large_config(&fixture.config()));
    // Too little to read the file.
    limit_memory(&maglevd.process, 256);
    maglevd.process.signal(Signal::SIGHUP);
    maglevd.process.line(0, "reload failed");
    assert_eq!(maglevd.backend("a").state(), BackendState::Up);
    // Enough to read the file, but not to apply it. `maglevd` aborts rather than run half-configured.
    limit_memory(&maglevd.process, 2048);
    maglevd.process.signal(Signal::SIGHUP);
    assert_eq!(maglevd.process.end().signal(), Some(SIGABRT));
    assert_nothing_went_down(&maglevd.process);
    let mut recovery = Recovery::new();
    let mut maglevd = recovery.time(|| {
        let mut maglevd = fixture.start();
        maglevd.until_up(&BACKENDS);
        maglevd
    });
    fixture.assert_no_writes_since(&written, &mut maglevd);
    recovery.print("maglevd refused memory");
}

#[test]
fn prober_aborts_when_out_of_memory() {
    let name = "prober_aborts_when_out_of_memory";
    if skip(name, &["prlimit", "setpriv"]) {
        return;
    }
    let mut fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.writes();
    limit_memory(&fixture.prober, 256);
    maglevd.reload(&fixture.dir, &large_config(&fixture.config()));
    assert_eq!(fixture.prober.end().signal(), Some(SIGABRT));
    maglevd.until_prober(false);
    assert!(maglevd.backend("a").stale);
    assert_nothing_went_down(&maglevd.process);
    let mut recovery = Recovery::new();
    recovery.time(|| {
        maglevd.reload(&fixture.dir, &fixture.config());
        fixture.prober = fixture.dir.prober(None, &[]);
        maglevd.until_prober(true);
        until(
            "fresh outcomes",
            || BACKENDS.map(|name| maglevd.backend(name).stale),
            |stale| *stale == [false; 3],
        );
    });
    fixture.assert_no_writes_since(&written, &mut maglevd);
    recovery.print("prober refused memory");
}
