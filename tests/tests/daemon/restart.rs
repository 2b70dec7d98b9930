//! A daemon that dies does not change VPP.

use maglev_lab::maglevd::Maglevd;
use maglev_proto::v1::BackendState;
use nix::sys::signal::Signal;

use crate::{BACKENDS, VIP, WebFixture};

fn assert_frozen(fixture: &WebFixture, maglevd: &Maglevd, written: &[String]) {
    for name in BACKENDS {
        let backend = maglevd.backend(name);
        assert!(backend.stale, "{backend:#?}");
        assert_eq!(backend.state(), BackendState::Up);
    }
    assert_eq!(fixture.observer().writes(), written);
}

#[test]
fn prober_loss_freezes_health_until_reconnect() {
    let mut fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.observer().writes();
    fixture.prober.kill();
    maglevd.until_prober(false);
    fixture.servers.http[0].answer(503);
    assert_frozen(&fixture, &maglevd, &written);
    fixture.prober = fixture.dir.prober(None, &[]);
    maglevd.until_backend("a", BackendState::Down);
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
    assert!(!maglevd.backend("a").stale);
}

#[test]
fn hung_prober_freezes_health() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.observer().writes();
    fixture.prober.signal(Signal::SIGSTOP);
    maglevd.until_prober(false);
    assert_frozen(&fixture, &maglevd, &written);
    fixture.servers.http[1].answer(503);
    fixture.prober.signal(Signal::SIGCONT);
    maglevd.until_backend("b", BackendState::Down);
    fixture.observer().until([(VIP, fixture.weights(20, 0, 0))]);
}

#[test]
fn restarted_maglevd_replays_history_minimally() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    let (written, position) = (fixture.observer().writes().len(), fixture.prober.line_count());
    maglevd.process.kill();
    // `a` fails often enough while no controller runs.
    let requests = fixture.servers.http[0].requests().len();
    fixture.servers.http[0].answer(503);
    fixture.servers.http[0].wait_for_requests(requests + 5);
    let mut maglevd = fixture.setup(fixture.config()).start();
    fixture.prober.line(position, "kept=3 added=0 dropped=0 rejected=0");
    maglevd.until_backend("a", BackendState::Down);
    maglevd.until_up(&["b", "c"]);
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
    fixture.servers.http[1].answer(503);
    fixture.observer().until([(VIP, fixture.weights(0, 0, 10))]);
    let writes = fixture.observer().writes().split_off(written);
    if fixture.vpp.sim().is_some() {
        assert_eq!(writes.len(), 3, "{writes:#?}");
    }
}

#[test]
fn maglevd_restart_leaves_vpp_unchanged() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.observer().writes().len();
    maglevd.process.kill();
    let mut maglevd = fixture.setup(fixture.config()).start();
    maglevd.until_up(&BACKENDS);
    maglevd.until_vpp(true);
    // This write proves that `maglevd` had the opportunity to write more.
    fixture.servers.http[0].answer(503);
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
    let writes = fixture.observer().writes().split_off(written);
    if fixture.vpp.sim().is_some() {
        assert_eq!(writes.len(), 1, "{writes:#?}");
    }
}

#[test]
fn restart_of_both_leaves_vpp_unchanged() {
    let mut fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.observer().writes();
    maglevd.process.kill();
    fixture.prober.kill();
    fixture.prober = fixture.dir.prober(None, &[]);
    let mut maglevd = fixture.setup(fixture.config()).start();
    maglevd.until_up(&BACKENDS);
    fixture.servers.http[0].answer(503);
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
    let writes = fixture.observer().writes().split_off(written.len());
    if fixture.vpp.sim().is_some() {
        assert_eq!(writes.len(), 1, "{writes:#?}");
    }
}

#[test]
fn sigterm_leaves_vpp_unchanged() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.observer().writes();
    maglevd.process.signal(Signal::SIGTERM);
    assert_eq!(maglevd.process.end().code(), Some(0));
    assert_eq!(fixture.observer().writes(), written);
    fixture.observer().until([(VIP, fixture.weights(20, 10, 0))]);
}
