//! Packets of either family reach servers of either family.

use std::net::{IpAddr, SocketAddr};

use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::packets::flow::{Flows, MaglevTable};
use maglev_lab::packets::router::Router;
use maglev_lab::test_dir::TestDir;
use maglev_lab::vpp_observer::Weights;

const CONFIG: &str = "
maglev:
  vpp: { lb: { ipv4-src-address: 192.0.2.1, ipv6-src-address: 2001:db8::1 } }
  backends:
    four1: { address: 10.1.0.1 }
    four2: { address: 10.1.0.2 }
    six1: { address: '2001:db8:a::1' }
    six2: { address: '2001:db8:a::2' }
  frontends:
    four-four: { address: 203.0.113.44, protocol: udp, port: 53, pools: [ { name: all, backends: { four1: {}, four2: {} } } ] }
    four-six: { address: 203.0.113.46, protocol: udp, port: 53, pools: [ { name: all, backends: { six1: {}, six2: {} } } ] }
    six-four: { address: '2001:db8:f::64', protocol: udp, port: 53, pools: [ { name: all, backends: { four1: {}, four2: {} } } ] }
    six-six: { address: '2001:db8:f::66', protocol: udp, port: 53, pools: [ { name: all, backends: { six1: {}, six2: {} } } ] }
";

const FOUR: [&str; 3] = ["192.0.2.1", "10.1.0.1", "10.1.0.2"];
const SIX: [&str; 3] = ["2001:db8::1", "2001:db8:a::1", "2001:db8:a::2"];

#[test]
fn encapsulation_works_across_address_families() {
    let Some(router) = Router::start("encapsulation_works_across_address_families") else {
        return;
    };
    let dir = TestDir::new();
    let _maglevd = MaglevdSetup::new(&dir, CONFIG).vpp(&router.vpp).start();
    for (vip, outer) in
        [("203.0.113.44", FOUR), ("203.0.113.46", SIX), ("2001:db8:f::64", FOUR), ("2001:db8:f::66", SIX)]
    {
        let [balancer, servers @ ..] = outer.map(|address| address.parse::<IpAddr>().unwrap());
        let vip = SocketAddr::new(vip.parse().unwrap(), 53);
        let weights: Weights = servers.map(|server| (server, 20)).into();
        router.until(vip, &weights);
        let table = MaglevTable::new(weights, 1024);
        let packets = router.send(&Flows { to: vip, port: 1024, ports: 1000 }, 1000);
        assert_eq!(packets.len(), 1000, "{vip}: {}", router.cli("show errors"));
        for packet in packets {
            assert_eq!(packet.flow.to, vip);
            assert_eq!(
                (packet.balancer, Some(packet.server)),
                (balancer, table.server(&packet.flow)),
                "{vip}"
            );
        }
    }
}
