//! What becomes of VPP when a daemon dies: nothing.

use maglev_lab::maglevd::Maglevd;
use maglev_proto::v1::BackendState;
use nix::sys::signal::Signal;

use crate::{BACKENDS, Stage, VIP};

fn assert_frozen(stage: &Stage, maglevd: &Maglevd, written: &[String]) {
    for name in BACKENDS {
        let backend = maglevd.backend(name);
        assert!(backend.stale, "{backend:#?}");
        assert_eq!(backend.state(), BackendState::Up);
    }
    assert_eq!(stage.observer().writes(), written);
}

#[test]
fn without_a_prober_health_is_frozen_and_with_a_new_one_it_follows_again() {
    let mut stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.observer().writes();
    stage.prober.kill();
    maglevd.until_prober(false);
    stage.farm.sites[0].answer(503);
    assert_frozen(&stage, &maglevd, &written);
    stage.prober = stage.place.prober(None, &[]);
    maglevd.until_backend("a", BackendState::Down);
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
    assert!(!maglevd.backend("a").stale);
}

#[test]
fn a_prober_that_hangs_is_a_prober_that_is_lost() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.observer().writes();
    stage.prober.signal(Signal::SIGSTOP);
    maglevd.until_prober(false);
    assert_frozen(&stage, &maglevd, &written);
    stage.farm.sites[1].answer(503);
    stage.prober.signal(Signal::SIGCONT);
    maglevd.until_backend("b", BackendState::Down);
    stage.observer().until([(VIP, stage.weights(10, 0, 0))]);
}

#[test]
fn a_new_maglevd_is_told_what_the_prober_knows_and_writes_only_what_has_changed() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let (written, said) = (stage.observer().writes().len(), stage.prober.said());
    maglevd.process.kill();
    // While nobody decides, `a` fails as often as it takes.
    let visits = stage.farm.sites[0].visits().len();
    stage.farm.sites[0].answer(503);
    stage.farm.sites[0].wait_for_visits(visits + 5);
    let mut maglevd = stage.setup(&stage.config()).start();
    stage.prober.line(said, "kept=3 added=0 dropped=0 refused=0");
    maglevd.until_backend("a", BackendState::Down);
    maglevd.until_up(&["b", "c"]);
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
    stage.farm.sites[1].answer(503);
    stage.observer().until([(VIP, stage.weights(0, 0, 1))]);
    let writes = stage.observer().writes().split_off(written);
    if stage.vpp.sim().is_some() {
        assert_eq!(writes.len(), 3, "{writes:#?}");
    }
}

#[test]
fn a_new_maglevd_leaves_vpp_as_it_is() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.observer().writes().len();
    maglevd.process.kill();
    let mut maglevd = stage.setup(&stage.config()).start();
    maglevd.until_up(&BACKENDS);
    maglevd.until_vpp(true);
    // A write that it does make proves that it had the chance to make others.
    stage.farm.sites[0].answer(503);
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
    let writes = stage.observer().writes().split_off(written);
    if stage.vpp.sim().is_some() {
        assert_eq!(writes.len(), 1, "{writes:#?}");
    }
}

#[test]
fn two_new_daemons_leave_vpp_as_it_is() {
    let mut stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.observer().writes();
    maglevd.process.kill();
    stage.prober.kill();
    stage.prober = stage.place.prober(None, &[]);
    let mut maglevd = stage.setup(&stage.config()).start();
    maglevd.until_up(&BACKENDS);
    stage.farm.sites[0].answer(503);
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
    let writes = stage.observer().writes().split_off(written.len());
    if stage.vpp.sim().is_some() {
        assert_eq!(writes.len(), 1, "{writes:#?}");
    }
}

#[test]
fn a_daemon_that_is_asked_to_end_leaves_vpp_as_it_is() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.observer().writes();
    maglevd.process.signal(Signal::SIGTERM);
    assert_eq!(maglevd.process.end().code(), Some(0));
    assert_eq!(stage.observer().writes(), written);
    stage.observer().until([(VIP, stage.weights(10, 5, 0))]);
}
