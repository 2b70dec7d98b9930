//! A daemon that dies does not change VPP.

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
fn prober_loss_freezes_health_until_reconnect() {
    let mut stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.observer().writes();
    stage.prober.kill();
    maglevd.until_prober(false);
    stage.servers.http[0].answer(503);
    assert_frozen(&stage, &maglevd, &written);
    stage.prober = stage.dir.prober(None, &[]);
    maglevd.until_backend("a", BackendState::Down);
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
    assert!(!maglevd.backend("a").stale);
}

#[test]
fn hung_prober_freezes_health() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.observer().writes();
    stage.prober.signal(Signal::SIGSTOP);
    maglevd.until_prober(false);
    assert_frozen(&stage, &maglevd, &written);
    stage.servers.http[1].answer(503);
    stage.prober.signal(Signal::SIGCONT);
    maglevd.until_backend("b", BackendState::Down);
    stage.observer().until([(VIP, stage.weights(10, 0, 0))]);
}

#[test]
fn restarted_maglevd_replays_history_minimally() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let (written, said) = (stage.observer().writes().len(), stage.prober.line_count());
    maglevd.process.kill();
    // `a` fails often enough while no controller runs.
    let requests = stage.servers.http[0].requests().len();
    stage.servers.http[0].answer(503);
    stage.servers.http[0].wait_for_requests(requests + 5);
    let mut maglevd = stage.setup(&stage.config()).start();
    stage.prober.line(said, "kept=3 added=0 dropped=0 refused=0");
    maglevd.until_backend("a", BackendState::Down);
    maglevd.until_up(&["b", "c"]);
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
    stage.servers.http[1].answer(503);
    stage.observer().until([(VIP, stage.weights(0, 0, 1))]);
    let writes = stage.observer().writes().split_off(written);
    if stage.vpp.sim().is_some() {
        assert_eq!(writes.len(), 3, "{writes:#?}");
    }
}

#[test]
fn maglevd_restart_leaves_vpp_unchanged() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.observer().writes().len();
    maglevd.process.kill();
    let mut maglevd = stage.setup(&stage.config()).start();
    maglevd.until_up(&BACKENDS);
    maglevd.until_vpp(true);
    // This write proves that `maglevd` had the opportunity to write more.
    stage.servers.http[0].answer(503);
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
    let writes = stage.observer().writes().split_off(written);
    if stage.vpp.sim().is_some() {
        assert_eq!(writes.len(), 1, "{writes:#?}");
    }
}

#[test]
fn restart_of_both_leaves_vpp_unchanged() {
    let mut stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.observer().writes();
    maglevd.process.kill();
    stage.prober.kill();
    stage.prober = stage.dir.prober(None, &[]);
    let mut maglevd = stage.setup(&stage.config()).start();
    maglevd.until_up(&BACKENDS);
    stage.servers.http[0].answer(503);
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
    let writes = stage.observer().writes().split_off(written.len());
    if stage.vpp.sim().is_some() {
        assert_eq!(writes.len(), 1, "{writes:#?}");
    }
}

#[test]
fn sigterm_leaves_vpp_unchanged() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let written = stage.observer().writes();
    maglevd.process.signal(Signal::SIGTERM);
    assert_eq!(maglevd.process.end().code(), Some(0));
    assert_eq!(stage.observer().writes(), written);
    stage.observer().until([(VIP, stage.weights(10, 5, 0))]);
}
