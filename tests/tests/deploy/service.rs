//! The service as its operators see it.

use maglev_lab::container;

use crate::fixtures::{CONFIG, CONTROLLER, FILE, PackageFixture, SERVERS};

#[test]
fn vpp_follows_health_and_reloads() {
    if container::skip("vpp_follows_health_and_reloads") {
        return;
    }
    let mut fixture = PackageFixture::running("bookworm");
    fixture.http[0].close();
    fixture.until_weights([0, 20]);
    let PackageFixture { machine, http, .. } = &mut fixture;
    machine.inside_netns(SERVERS, || http[0].open());
    fixture.until_weights([20, 0]);

    let machine = &fixture.machine;
    let journal = machine.journal(CONTROLLER);
    let pid = machine.main_pid(CONTROLLER);
    machine.write(
        FILE,
        CONFIG.replace("{ a: }", "{ b: }").replace("last, backends: { b: }", "last, backends: { a: }"),
    );
    machine.run("systemctl reload vpp-maglevd");
    fixture.until_weights([0, 20]);

    // An invalid file is not applied, and the caller learns the reason.
    let position = journal.line_count();
    machine.write(FILE, CONFIG.replace("healthcheck: ping", "healthcheck: pong"));
    let _ = machine.fail("systemctl reload vpp-maglevd");
    let line = journal.line(position, "pong");
    assert!(line.contains(FILE), "{line}");
    assert_eq!(machine.property(CONTROLLER, "ActiveState"), "active");
    fixture.until_weights([0, 20]);
    assert_eq!(machine.main_pid(CONTROLLER), pid);
}

#[test]
fn invalid_config_fails_start_with_reason() {
    if container::skip("invalid_config_fails_start_with_reason") {
        return;
    }
    let fixture = PackageFixture::installed("bookworm");
    let machine = &fixture.machine;
    let journal = machine.journal(CONTROLLER);
    machine.write(FILE, CONFIG.replace("healthcheck: ping", "healthcheck: pong"));
    let _ = machine.fail("systemctl start vpp-maglevd");
    let line = journal.line(0, "pong");
    assert!(line.contains(FILE), "{line}");
    // systemd does not retry, because nothing would change.
    assert_eq!(machine.property(CONTROLLER, "ActiveState"), "failed");
    assert_eq!(machine.property(CONTROLLER, "ExecMainStatus"), "2");
    assert_eq!(machine.property(CONTROLLER, "NRestarts"), "0");

    machine.write(FILE, CONFIG);
    machine.run("systemctl start vpp-maglevd");
    fixture.settled();
}
