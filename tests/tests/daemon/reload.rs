//! Configuration reloads while probing continues.

use maglev_proto::v1::BackendState;
use nix::sys::signal::Signal;

use crate::{BACKENDS, VIP, WebFixture, backend, frontend};

const OTHER_VIP: &str = "203.0.113.81";

#[test]
fn reload_touches_only_changed_items() {
    let fixture = WebFixture::new();
    let [a, b, c] = [0, 1, 2].map(|server| fixture.servers.address(server));
    let mut config = fixture.config();
    // `web` has `a` and `b`; `other` has `c`.
    config.frontends = vec![
        frontend("web", VIP, "{ name: only, backends: { a: {}, b: {} } }"),
        frontend("other", OTHER_VIP, "{ name: only, backends: { c: {} } }"),
    ];
    let mut maglevd = fixture.setup(&config).start();
    maglevd.until_up(&BACKENDS);
    fixture.observer().until([(VIP, [(a, 20), (b, 20)].into()), (OTHER_VIP, [(c, 20)].into())]);

    let (before, position) = (maglevd.backend("c"), fixture.prober.line_count());
    let written = fixture.observer().writes().len();
    let requests = fixture.servers.http[2].requests().len();
    // `a` moves to an address without a server, `b` is removed, and `d` takes `b`'s address.
    let nobody = fixture.servers.address(100);
    config.backends = vec![backend("a", nobody), backend("c", c), backend("d", b)];
    config.frontends[0] = frontend("web", VIP, "{ name: only, backends: { a: {}, d: {} } }");
    maglevd.reload(&fixture.dir, &config.to_string());
    maglevd.until_backend("b", BackendState::Removed);
    maglevd.until_backend("a", BackendState::Down);
    maglevd.until_up(&["d"]);
    fixture.observer().until([(VIP, [(nobody, 0), (b, 20)].into()), (OTHER_VIP, [(c, 20)].into())]);

    // Only changes are sent. `d` equals the old `b`, so the prober keeps that check.
    fixture.prober.line(position, "amended generation=2 kept=1 added=1 dropped=1 rejected=0");
    fixture.servers.http[2].wait_for_requests(requests + 3);
    let after = maglevd.backend("c");
    assert_eq!((after.since, after.transitions), (before.since, before.transitions));
    let writes = fixture.observer().writes().split_off(written);
    assert!(writes.iter().all(|write| !write.contains(OTHER_VIP)), "{writes:#?}");
}

#[test]
fn invalid_reload_changes_nothing_and_logs_position() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.observer().writes();
    let path = fixture.dir.path("maglev.yaml").display().to_string();
    let good = fixture.config().to_string();
    for (broken, complaint) in [
        (good.replace("frontends:", "frontend:"), format!("{path}:9:3: ")),
        (
            good.replace("a: { weight: 100 }", "nginx9: {}"),
            format!("{path}: maglev.frontends.web.pools[0].backends.nginx9: no such backend"),
        ),
        (good.replace("rise: 2", "rise: 0"), format!("{path}: maglev.healthchecks.site.rise: ")),
    ] {
        let position = maglevd.process.line_count();
        fixture.dir.write("maglev.yaml", broken);
        maglevd.process.signal(Signal::SIGHUP);
        let line = maglevd.process.line(position, &complaint);
        assert!(line.contains("ERROR"), "{line}");
    }
    assert_eq!(maglevd.frontend("web").active_pool, "first");
    assert_eq!(fixture.observer().writes(), written);
    // The next valid file is applied.
    maglevd.reload(&fixture.dir, &good.replace("a: { weight: 100 }", "a: { weight: 25 }"));
    fixture.observer().until([(VIP, fixture.weights(5, 10, 0))]);
}
