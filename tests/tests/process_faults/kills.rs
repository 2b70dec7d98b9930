//! Daemons and VPP that are killed or stopped, again and again.

use maglev_lab::PATIENCE;
use maglev_proto::v1::BackendState;
use nix::sys::signal::Signal;

use crate::fixtures::{
    BACKENDS, Recovery, Stage, descriptors, names, nothing_went_down, times, until, until_no_more_is_open,
};

/// How often each is killed: `KILL_ROUNDS`, or so often.
fn rounds() -> u32 {
    times("KILL_ROUNDS", 20)
}

/// Probes under way have a descriptor each.
const UNDER_WAY: usize = BACKENDS.len();

#[test]
fn a_maglevd_that_is_killed_again_and_again_changes_nothing() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let (written, files) = (stage.writes(), names(&stage.place.path("")));
    let open = descriptors(stage.prober.pid()).len();
    let mut recovery = Recovery::new();
    for _ in 0..rounds() {
        maglevd.process.kill();
        nothing_went_down(&maglevd.process);
        maglevd = recovery.time(|| {
            let mut maglevd = stage.start();
            maglevd.until_vpp(true);
            maglevd.until_up(&BACKENDS);
            maglevd
        });
    }
    nothing_went_down(&maglevd.process);
    until_no_more_is_open(&stage.prober, open + UNDER_WAY);
    assert_eq!(names(&stage.place.path("")), files);
    stage.nothing_was_written_since(&written, &mut maglevd);
    recovery.tell("maglevd killed");
}

#[test]
fn a_prober_that_is_killed_again_and_again_takes_nothing_down() {
    let mut stage = Stage::new();
    let mut maglevd = stage.settled();
    let (written, files) = (stage.writes(), names(&stage.place.path("")));
    let open = descriptors(maglevd.process.pid()).len();
    let mut recovery = Recovery::new();
    for _ in 0..rounds() {
        stage.prober.kill();
        maglevd.until_prober(false);
        recovery.time(|| {
            stage.prober = stage.place.prober(None, &[]);
            maglevd.until_prober(true);
            until(
                "fresh outcomes",
                || BACKENDS.map(|name| maglevd.backend(name).stale),
                |stale| *stale == [false; 3],
            );
        });
    }
    nothing_went_down(&maglevd.process);
    until_no_more_is_open(&maglevd.process, open);
    assert_eq!(names(&stage.place.path("")), files);
    stage.nothing_was_written_since(&written, &mut maglevd);
    recovery.tell("prober killed");
}

#[test]
fn both_daemons_killed_again_and_again_change_nothing() {
    let mut stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.writes();
    let mut recovery = Recovery::new();
    for round in 0..rounds() {
        // Each has a turn to be the first to go, and the first to be back.
        if round % 2 == 0 {
            maglevd.process.kill();
            stage.prober.kill();
        } else {
            stage.prober.kill();
            maglevd.process.kill();
        }
        nothing_went_down(&maglevd.process);
        maglevd = recovery.time(|| {
            let early = (round % 4 < 2).then(|| stage.start());
            stage.prober = stage.place.prober(None, &[]);
            let mut maglevd = early.unwrap_or_else(|| stage.start());
            maglevd.until_vpp(true);
            maglevd.until_up(&BACKENDS);
            maglevd
        });
    }
    nothing_went_down(&maglevd.process);
    stage.nothing_was_written_since(&written, &mut maglevd);
    recovery.tell("both daemons killed");
}

#[test]
fn a_vpp_that_is_killed_again_and_again_is_filled_with_what_is_known() {
    let mut stage = Stage::new();
    let mut maglevd = stage.settled();
    let open = descriptors(maglevd.process.pid()).len();
    let mut recovery = Recovery::new();
    for _ in 0..rounds() {
        stage.vpp.kill();
        maglevd.until_vpp(false);
        stage.sim().forget_calls();
        recovery.time(|| {
            stage.vpp.boot().unwrap();
            stage.until_weights(10, 5, 0);
        });
        maglevd.until_vpp(true);
        // Settings, the VIP, and each server with the weight that it is to have.
        let writes = stage.writes();
        assert_eq!(writes.len(), 5, "{writes:#?}");
    }
    nothing_went_down(&maglevd.process);
    until_no_more_is_open(&maglevd.process, open);
    assert!(stage.sim().wait_for(PATIENCE, |vpp| vpp.clients() == 1));
    recovery.tell("VPP killed");
}

#[test]
fn a_vpp_that_dies_after_any_message_of_its_filling_is_filled_in_the_end() {
    let mut stage = Stage::new();
    let mut maglevd = stage.settled();
    let mut recovery = Recovery::new();
    // So many there are, and then some that only ask whether it is alive.
    for messages in (1..=14).cycle().take(rounds() as usize) {
        stage.vpp.kill();
        maglevd.until_vpp(false);
        stage.sim().forget_calls();
        stage.sim().faults(|faults| faults.drop_after = Some(messages));
        stage.vpp.boot().unwrap();
        // It hangs up then; it dies as well, and the next one is empty again.
        assert!(
            stage.sim().wait_for(PATIENCE, |vpp| vpp.calls().len() >= messages),
            "{:#?}",
            stage.sim().calls()
        );
        stage.vpp.kill();
        stage.sim().faults(|faults| faults.drop_after = None);
        recovery.time(|| {
            stage.vpp.boot().unwrap();
            stage.until_weights(10, 5, 0);
        });
        until(
            "VPP to be known",
            || maglevd.maglevc(&["show", "vpp", "info"]).status.success(),
            |&known| known,
        );
    }
    nothing_went_down(&maglevd.process);
    recovery.tell("VPP killed twice while it is filled");
}

#[test]
fn daemons_that_are_stopped_for_a_moment_again_and_again_lose_nothing() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.writes();
    for round in 0..5 * rounds() {
        let process = if round % 2 == 0 { &stage.prober } else { &maglevd.process };
        process.signal(Signal::SIGSTOP);
        until("a stop", || process.status("State"), |state| state.starts_with('T'));
        process.signal(Signal::SIGCONT);
        // One of them may have been overtaken by a probe, but not by three.
        let visits = stage.farm.sites[1].visits().len();
        stage.farm.sites[1].wait_for_visits(visits + 1);
    }
    nothing_went_down(&maglevd.process);
    assert!(!maglevd.process.lines(0).iter().any(|line| line.contains("prober lost")));
    stage.nothing_was_written_since(&written, &mut maglevd);
}

#[test]
fn a_maglevd_that_hangs_finds_everything_as_it_was() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.writes();
    let mut recovery = Recovery::new();
    for _ in 0..2 {
        let (said, heard) = (stage.prober.said(), maglevd.process.said());
        maglevd.process.signal(Signal::SIGSTOP);
        // The prober gives it up, and probes on.
        stage.prober.line(said, "the controller has said nothing for 5 s");
        recovery.time(|| {
            maglevd.process.signal(Signal::SIGCONT);
            maglevd.process.line(heard, "prober connected");
            until(
                "fresh outcomes",
                || BACKENDS.map(|name| maglevd.backend(name).stale),
                |stale| *stale == [false; 3],
            );
        });
    }
    nothing_went_down(&maglevd.process);
    stage.nothing_was_written_since(&written, &mut maglevd);
    recovery.tell("maglevd stopped until the prober gave it up");
}

#[test]
fn what_fails_while_everything_is_stopped_is_found_afterwards() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let all = [stage.prober.pid(), maglevd.process.pid()];
    for pid in all {
        nix::sys::signal::kill(pid, Signal::SIGSTOP).unwrap();
    }
    stage.vpp.hang(true);
    stage.farm.sites[0].answer(503);
    let mut recovery = Recovery::new();
    recovery.time(|| {
        for pid in all {
            nix::sys::signal::kill(pid, Signal::SIGCONT).unwrap();
        }
        stage.vpp.hang(false);
        maglevd.until_backend("a", BackendState::Down);
        stage.until_weights(0, 5, 0);
    });
    recovery.tell("everything stopped");
}
