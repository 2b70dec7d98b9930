//! Installation, and activation of the services.

use std::net::{Ipv6Addr, SocketAddr};

use maglev_lab::container;
use maglev_lab::metrics::Scrape;
use maglev_lab::packets::until;

use crate::fixtures::{CONFIG, CONTROLLER, FILE, PROBER, PackageFixture};

const SOCKETS: [&str; 3] =
    ["vpp-maglevd-grpc.socket", "vpp-maglevd-metrics.socket", "vpp-maglevd-prober.socket"];

#[test]
fn package_runs_once_enabled() {
    if container::skip("package_runs_once_enabled") {
        return;
    }
    install_and_enable("bookworm");
}

#[test]
fn package_runs_on_trixie() {
    if container::skip("package_runs_on_trixie") {
        return;
    }
    install_and_enable("trixie");
}

fn install_and_enable(suite: &str) {
    let fixture = PackageFixture::new(suite);
    let machine = &fixture.machine;
    machine.install(&fixture.package);
    for user in ["maglevd", "maglevd-prober"] {
        let entry = machine.run(&format!("getent passwd {user}"));
        assert!(entry.ends_with("/usr/sbin/nologin"), "{entry}");
    }
    assert_eq!(machine.run("id -nG maglevd"), "maglevd vpp");
    assert_eq!(machine.run("id -nG maglevd-prober"), "maglevd-prober");
    for unit in [CONTROLLER, PROBER].iter().chain(&SOCKETS) {
        assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit}");
    }
    for unit in [CONTROLLER].iter().chain(&SOCKETS) {
        assert_eq!(machine.fail(&format!("systemctl is-enabled {unit}")), "disabled", "{unit}");
    }
    // The installed configuration is valid and changes nothing.
    machine.run("maglevd --check");

    machine.write(FILE, CONFIG);
    machine.run("systemctl enable --now vpp-maglevd");
    for unit in [CONTROLLER].iter().chain(&SOCKETS) {
        assert_eq!(machine.property(unit, "ActiveState"), "active", "{unit}");
        assert_eq!(machine.run(&format!("systemctl is-enabled {unit}")), "enabled", "{unit}");
    }
    // The first connection to its socket activates the prober.
    until(|| machine.property(PROBER, "ActiveState") == "active", || machine.property(PROBER, "SubState"));
    fixture.settled();
    assert_eq!(machine.run("systemctl is-system-running"), "running");
    let listing = machine.run("maglevc show backends");
    assert_eq!(listing.lines().count(), 5, "{listing}");
}

#[test]
fn socket_activation_starts_service() {
    if container::skip("socket_activation_starts_service") {
        return;
    }
    let fixture = PackageFixture::installed("bookworm");
    let machine = &fixture.machine;
    let state = |unit: &str| machine.property(unit, "ActiveState");
    machine.run("systemctl start vpp-maglevd-grpc.socket");
    assert_eq!(state(CONTROLLER), "inactive");
    let version = machine.run("maglevc show version");
    assert!(version.contains("maglevd"), "{version}");
    assert_eq!(state(CONTROLLER), "active");

    // After an explicit stop, the next call must not start the daemon.
    machine.run("systemctl stop vpp-maglevd");
    let _ = machine.fail("maglevc show version");
    assert_eq!([state(CONTROLLER), state(SOCKETS[0])], ["inactive"; 2].map(str::to_owned));

    machine.run("systemctl start vpp-maglevd-metrics.socket");
    let metrics = SocketAddr::from((Ipv6Addr::LOCALHOST, 9091));
    let scrape = machine.inside(|| Scrape::fetch(metrics));
    assert!(scrape.families.contains("maglev_build_info"));
    assert_eq!(state(CONTROLLER), "active");
}
