//! A prober in a network namespace.

use std::fs;
use std::os::unix::fs::MetadataExt;

use maglev_lab::container;
use maglev_lab::http_server::HttpServer;
use maglev_proto::v1::BackendState;

use crate::fixtures::{CONFIG, FILE, PackageFixture, SERVERS};

const INSTANCE: &str = "vpp-maglevd-prober@dataplane.service";

/// Servers on a network that only the namespace `dataplane` also reaches.
const NETWORK: &str = "ip netns add dataplane
ip -n servers link add plane type veth peer name eth0 netns dataplane
ip -n servers address add 10.98.0.11/24 dev plane
ip -n servers address add 10.98.0.12/24 dev plane
ip -n servers address add fd98::11/64 dev plane nodad
ip -n servers link set plane up
ip -n dataplane address add 10.98.0.1/24 dev eth0
ip -n dataplane address add fd98::1/64 dev eth0 nodad
ip -n dataplane link set eth0 up";

#[test]
fn prober_instance_probes_in_netns() {
    if container::skip("prober_instance_probes_in_netns") {
        return;
    }
    let fixture = PackageFixture::installed("bookworm");
    let machine = &fixture.machine;
    machine.sh(NETWORK);
    let sites = machine.inside_netns(SERVERS, || {
        ["10.98.0.11:80", "10.98.0.12:80"].map(|address| HttpServer::start(address.parse().unwrap()))
    });
    let config = CONFIG.replace("10.99.", "10.98.").replace("fd99:", "fd98:");
    machine.write(FILE, config.replacen("maglev:\n", "maglev:\n  healthchecker: { netns: dataplane }\n", 1));
    machine.run("systemctl enable --now vpp-maglevd-prober@dataplane.socket vpp-maglevd");
    let mut maglevd = fixture.maglevd();
    maglevd.until_up(&["a", "b", "alive4", "alive6"]);
    assert!(!sites[0].requests().is_empty());

    let namespace = fs::metadata(machine.path("/run/netns/dataplane")).unwrap().ino();
    assert_eq!(fs::metadata(machine.proc(INSTANCE, "ns/net")).unwrap().ino(), namespace);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(machine.status(INSTANCE, set), "0000000000000000", "{set}");
    }
    assert_eq!(machine.property("vpp-maglevd-prober.service", "ActiveState"), "inactive");

    // Another namespace gets the name. The link leads to the old one for as long as the prober is in it.
    machine.sh("ip -n servers link delete plane; ip netns delete dataplane");
    machine.sh(NETWORK);
    maglevd.until_prober(false);
    maglevd.until_prober(true);
    let anew = fs::metadata(machine.path("/run/netns/dataplane")).unwrap().ino();
    assert_eq!(fs::metadata(machine.proc(INSTANCE, "ns/net")).unwrap().ino(), anew);
    sites[0].answer(503);
    maglevd.until_backend("a", BackendState::Down);
}
