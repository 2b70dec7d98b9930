//! Daemons and VPP that are killed or stopped repeatedly.

use maglev_lab::PATIENCE;
use maglev_proto::v1::BackendState;
use nix::sys::signal::Signal;

use crate::fixtures::{
    BACKENDS, ProcessFixture, Recovery, assert_nothing_went_down, names, open_descriptors, repetitions,
    until, until_at_most_open,
};

/// Returns the number of kills of each process, by default 20.
fn rounds() -> u32 {
    repetitions("KILL_ROUNDS", 20)
}

/// From its third short session on, `maglevd` waits 5 s before it connects to VPP again.
fn vpp_rounds() -> u32 {
    repetitions("VPP_KILL_ROUNDS", 4)
}

/// Each probe in flight has one descriptor.
const IN_FLIGHT: usize = BACKENDS.len();

#[test]
fn repeated_maglevd_kills_change_nothing() {
    let fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let (written, files) = (fixture.writes(), names(&fixture.dir.path("")));
    let open = open_descriptors(fixture.prober.pid()).len();
    let mut recovery = Recovery::new();
    for _ in 0..rounds() {
        maglevd.process.kill();
        assert_nothing_went_down(&maglevd.process);
        maglevd = recovery.time(|| {
            let mut maglevd = fixture.start();
            maglevd.until_vpp(true);
            maglevd.until_up(&BACKENDS);
            maglevd
        });
    }
    assert_nothing_went_down(&maglevd.process);
    until_at_most_open(&fixture.prober, open + IN_FLIGHT);
    assert_eq!(names(&fixture.dir.path("")), files);
    fixture.assert_no_writes_since(&written, &mut maglevd);
    recovery.print("maglevd killed");
}

#[test]
fn repeated_prober_kills_take_nothing_down() {
    let mut fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let (written, files) = (fixture.writes(), names(&fixture.dir.path("")));
    let open = open_descriptors(maglevd.process.pid()).len();
    let mut recovery = Recovery::new();
    for _ in 0..rounds() {
        fixture.prober.kill();
        maglevd.until_prober(false);
        recovery.time(|| {
            fixture.prober = fixture.dir.prober(None, &[]);
            maglevd.until_prober(true);
            until(
                "fresh outcomes",
                || BACKENDS.map(|name| maglevd.backend(name).stale),
                |stale| *stale == [false; 3],
            );
        });
    }
    assert_nothing_went_down(&maglevd.process);
    until_at_most_open(&maglevd.process, open);
    assert_eq!(names(&fixture.dir.path("")), files);
    fixture.assert_no_writes_since(&written, &mut maglevd);
    recovery.print("prober killed");
}

#[test]
fn repeated_kills_of_both_change_nothing() {
    let mut fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.writes();
    let mut recovery = Recovery::new();
    for round in 0..rounds() {
        // Both orders of exit and of start are tested.
        if round % 2 == 0 {
            maglevd.process.kill();
            fixture.prober.kill();
        } else {
            fixture.prober.kill();
            maglevd.process.kill();
        }
        assert_nothing_went_down(&maglevd.process);
        maglevd = recovery.time(|| {
            let early = (round % 4 < 2).then(|| fixture.start());
            fixture.prober = fixture.dir.prober(None, &[]);
            let mut maglevd = early.unwrap_or_else(|| fixture.start());
            maglevd.until_vpp(true);
            maglevd.until_up(&BACKENDS);
            maglevd
        });
    }
    assert_nothing_went_down(&maglevd.process);
    fixture.assert_no_writes_since(&written, &mut maglevd);
    recovery.print("both daemons killed");
}

#[test]
fn repeatedly_killed_vpp_is_refilled() {
    let mut fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let open = open_descriptors(maglevd.process.pid()).len();
    let mut recovery = Recovery::new();
    for _ in 0..vpp_rounds() {
        fixture.vpp.kill();
        maglevd.until_vpp(false);
        fixture.sim().clear_calls();
        recovery.time(|| {
            fixture.vpp.boot().unwrap();
            fixture.until_weights(20, 10, 0);
        });
        maglevd.until_vpp(true);
        // Settings, the VIP, and each server with its weight.
        let writes = fixture.writes();
        assert_eq!(writes.len(), 5, "{writes:#?}");
    }
    assert_nothing_went_down(&maglevd.process);
    until_at_most_open(&maglevd.process, open);
    assert!(fixture.sim().wait_for(PATIENCE, |vpp| vpp.clients() == 1));
    recovery.print("VPP killed");
}

#[test]
fn vpp_killed_while_filling_is_refilled() {
    let mut fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let mut recovery = Recovery::new();
    // Filling takes fewer messages; the rest are keepalive pings.
    for messages in (1..=14).step_by(4).cycle().take(vpp_rounds() as usize) {
        fixture.vpp.kill();
        maglevd.until_vpp(false);
        fixture.sim().clear_calls();
        fixture.sim().set_faults(|faults| faults.drop_after = Some(messages));
        fixture.vpp.boot().unwrap();
        // The simulator disconnects, then dies, and the next instance is empty.
        assert!(
            fixture.sim().wait_for(PATIENCE, |vpp| vpp.calls().len() >= messages),
            "{:#?}",
            fixture.sim().calls()
        );
        fixture.vpp.kill();
        fixture.sim().set_faults(|faults| faults.drop_after = None);
        recovery.time(|| {
            fixture.vpp.boot().unwrap();
            fixture.until_weights(20, 10, 0);
        });
        until(
            "VPP to be known",
            || maglevd.maglevc(&["show", "vpp", "info"]).status.success(),
            |&known| known,
        );
    }
    assert_nothing_went_down(&maglevd.process);
    recovery.print("VPP killed twice while it is filled");
}

#[test]
fn brief_stops_lose_nothing() {
    let fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.writes();
    for round in 0..5 * rounds() {
        let process = if round % 2 == 0 { &fixture.prober } else { &maglevd.process };
        process.signal(Signal::SIGSTOP);
        until("a stop", || process.status("State"), |state| state.starts_with('T'));
        process.signal(Signal::SIGCONT);
        // One probe may complete during the stop, but not three.
        let requests = fixture.servers.http[1].requests().len();
        fixture.servers.http[1].wait_for_requests(requests + 1);
    }
    assert_nothing_went_down(&maglevd.process);
    assert!(!maglevd.process.lines(0).iter().any(|line| line.contains("prober lost")));
    fixture.assert_no_writes_since(&written, &mut maglevd);
}

#[test]
fn hung_maglevd_resumes_unchanged() {
    let fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.writes();
    let mut recovery = Recovery::new();
    for _ in 0..2 {
        let (prober_position, maglevd_position) = (fixture.prober.line_count(), maglevd.process.line_count());
        maglevd.process.signal(Signal::SIGSTOP);
        // The prober drops the link and continues to probe.
        fixture.prober.line(prober_position, "no message from controller for 5 s");
        recovery.time(|| {
            maglevd.process.signal(Signal::SIGCONT);
            maglevd.process.line(maglevd_position, "prober connected");
            until(
                "fresh outcomes",
                || BACKENDS.map(|name| maglevd.backend(name).stale),
                |stale| *stale == [false; 3],
            );
        });
    }
    assert_nothing_went_down(&maglevd.process);
    fixture.assert_no_writes_since(&written, &mut maglevd);
    recovery.print("maglevd stopped until the prober gave it up");
}

#[test]
fn failure_while_stopped_is_found_afterwards() {
    let fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let all = [fixture.prober.pid(), maglevd.process.pid()];
    for pid in all {
        nix::sys::signal::kill(pid, Signal::SIGSTOP).unwrap();
    }
    fixture.vpp.hang(true);
    fixture.servers.http[0].answer(503);
    let mut recovery = Recovery::new();
    recovery.time(|| {
        for pid in all {
            nix::sys::signal::kill(pid, Signal::SIGCONT).unwrap();
        }
        fixture.vpp.hang(false);
        maglevd.until_backend("a", BackendState::Down);
        fixture.until_weights(0, 10, 0);
    });
    recovery.print("everything stopped");
}
