//! Too little memory: whoever dies of it is started again, and finds everything as it was.

use std::os::unix::process::ExitStatusExt;

use maglev_lab::process::{Process, child_of};
use maglev_lab::skip;
use maglev_proto::v1::BackendState;
use nix::libc::SIGABRT;
use nix::sys::signal::Signal;

use crate::cpu_starvation::Group;
use crate::fixtures::{BACKENDS, Recovery, Stage, limit, nothing_went_down, until};

#[test]
fn a_prober_that_the_kernel_kills_for_its_memory_is_started_again_and_nothing_goes_down() {
    let name = "a_prober_that_the_kernel_kills_for_its_memory_is_started_again_and_nothing_goes_down";
    let Some(group) = Group::new(name, "memory.limit_in_bytes") else { return };
    let mut stage = Stage::new();
    stage.prober.kill();
    let mut maglevd = stage.setup(&stage.config()).flag("--prober", "spawn").start();
    maglevd.until_up(&BACKENDS);
    stage.until_weights(10, 5, 0);
    let written = stage.writes();
    let mut recovery = Recovery::new();
    for _ in 0..3 {
        group.set("memory.limit_in_bytes", 4096);
        // A child of the process that starts probers.
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
    nothing_went_down(&maglevd.process);
    stage.nothing_was_written_since(&written, &mut maglevd);
    recovery.tell("prober killed for its memory (from the limit on)");
}

/// Allows a process what it has, and so many kB more.
fn confine(process: &Process, more: u64) {
    let has: u64 = process.status("VmData").trim_end_matches(" kB").parse().unwrap();
    limit(process, &format!("--data={}:", (has + more) * 1024));
}

/// A configuration with ten thousand more servers, all of which answer.
fn huge(config: &str) -> String {
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
fn a_maglevd_that_is_refused_memory_ends_and_the_next_one_finds_everything_as_it_was() {
    let name = "a_maglevd_that_is_refused_memory_ends_and_the_next_one_finds_everything_as_it_was";
    if skip(name, &["prlimit", "setpriv"]) {
        return;
    }
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.writes();
    stage.place.write("maglev.yaml", huge(&stage.config()));
    // Not enough to read it.
    confine(&maglevd.process, 256);
    maglevd.process.signal(Signal::SIGHUP);
    maglevd.process.line(0, "not reloaded");
    assert_eq!(maglevd.backend("a").state(), BackendState::Up);
    // Enough for that, and not to make something of it: it ends rather than to go on with half of that.
    confine(&maglevd.process, 2048);
    maglevd.process.signal(Signal::SIGHUP);
    assert_eq!(maglevd.process.end().signal(), Some(SIGABRT));
    nothing_went_down(&maglevd.process);
    let mut recovery = Recovery::new();
    let mut maglevd = recovery.time(|| {
        let mut maglevd = stage.start();
        maglevd.until_up(&BACKENDS);
        maglevd
    });
    stage.nothing_was_written_since(&written, &mut maglevd);
    recovery.tell("maglevd refused memory");
}

#[test]
fn a_prober_that_is_refused_memory_ends_and_health_is_frozen_until_the_next() {
    let name = "a_prober_that_is_refused_memory_ends_and_health_is_frozen_until_the_next";
    if skip(name, &["prlimit", "setpriv"]) {
        return;
    }
    let mut stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.writes();
    confine(&stage.prober, 256);
    maglevd.reload(&stage.place, &huge(&stage.config()));
    assert_eq!(stage.prober.end().signal(), Some(SIGABRT));
    maglevd.until_prober(false);
    assert!(maglevd.backend("a").stale);
    nothing_went_down(&maglevd.process);
    let mut recovery = Recovery::new();
    recovery.time(|| {
        maglevd.reload(&stage.place, &stage.config());
        stage.prober = stage.place.prober(None, &[]);
        maglevd.until_prober(true);
        until(
            "fresh outcomes",
            || BACKENDS.map(|name| maglevd.backend(name).stale),
            |stale| *stale == [false; 3],
        );
    });
    stage.nothing_was_written_since(&written, &mut maglevd);
    recovery.tell("prober refused memory");
}
