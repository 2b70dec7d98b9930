//! What an installation brings, and how it comes to life.

use std::net::{Ipv6Addr, SocketAddr};

use maglev_lab::container;
use maglev_lab::metrics::Scrape;
use maglev_lab::packets::until;

use crate::fixtures::{CONFIG, CONTROLLER, FILE, PROBER, Stage};

const SOCKETS: [&str; 3] =
    ["vpp-maglevd-grpc.socket", "vpp-maglevd-metrics.socket", "vpp-maglevd-prober.socket"];

#[test]
fn what_is_installed_waits_to_be_enabled_and_then_runs() {
    if container::skip("what_is_installed_waits_to_be_enabled_and_then_runs") {
        return;
    }
    install_and_enable("bookworm");
}

#[test]
fn what_is_installed_on_a_later_debian_runs_as_well() {
    if container::skip("what_is_installed_on_a_later_debian_runs_as_well") {
        return;
    }
    install_and_enable("trixie");
}

fn install_and_enable(suite: &str) {
    let stage = Stage::new(suite);
    let machine = &stage.machine;
    machine.install(&stage.package);
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
    // The file that comes with it does no harm.
    machine.run("maglevd --check");

    machine.write(FILE, CONFIG);
    machine.run("systemctl enable --now vpp-maglevd");
    for unit in [CONTROLLER].iter().chain(&SOCKETS) {
        assert_eq!(machine.property(unit, "ActiveState"), "active", "{unit}");
        assert_eq!(machine.run(&format!("systemctl is-enabled {unit}")), "enabled", "{unit}");
    }
    // By the first connection to its socket.
    until(|| machine.property(PROBER, "ActiveState") == "active", || machine.property(PROBER, "SubState"));
    stage.settled();
    assert_eq!(machine.run("systemctl is-system-running"), "running");
    let listing = machine.run("maglevc show backends");
    assert_eq!(listing.lines().count(), 5, "{listing}");
}

#[test]
fn the_first_use_of_a_socket_starts_what_is_behind_it() {
    if container::skip("the_first_use_of_a_socket_starts_what_is_behind_it") {
        return;
    }
    let stage = Stage::installed("bookworm");
    let machine = &stage.machine;
    let state = |unit: &str| machine.property(unit, "ActiveState");
    machine.run("systemctl start vpp-maglevd-grpc.socket");
    assert_eq!(state(CONTROLLER), "inactive");
    let version = machine.run("maglevc show version");
    assert!(version.contains("maglevd"), "{version}");
    assert_eq!(state(CONTROLLER), "active");

    // Who stops it does not want the next call to start it again.
    machine.run("systemctl stop vpp-maglevd");
    let _ = machine.fail("maglevc show version");
    assert_eq!([state(CONTROLLER), state(SOCKETS[0])], ["inactive"; 2].map(str::to_owned));

    machine.run("systemctl start vpp-maglevd-metrics.socket");
    let metrics = SocketAddr::from((Ipv6Addr::LOCALHOST, 9091));
    let scrape = machine.inside(|| Scrape::of(metrics));
    assert!(scrape.families.contains("maglev_build_info"));
    assert_eq!(state(CONTROLLER), "active");
}
