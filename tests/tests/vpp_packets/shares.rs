//! New flows follow the weights.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use maglev_core::maglev;
use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::packets::flow::{Flows, MaglevTable};
use maglev_lab::packets::router::Router;
use maglev_lab::test_dir::TestDir;
use maglev_lab::vpp_observer::Weights;

#[test]
fn new_flows_follow_weights() {
    let Some(router) = Router::start("new_flows_follow_weights") else { return };
    for count in [3, 30, 300] {
        shares(&router, count);
    }
}

/// Configures `count` servers with weights of 100, 50 and 25 in turn, and counts the new flows of each.
fn shares(router: &Router, count: u16) {
    const FLOWS: u32 = 200_000;
    let servers: Vec<(IpAddr, u8)> =
        (0..count).map(|n| (server(n), [100, 50, 25][usize::from(n % 3)])).collect();
    // A VIP keeps the table length of its creation, so each number of servers has its own VIP.
    let vip = SocketAddr::from(([203, 0, 113, count.ilog2() as u8], 80));
    let dir = TestDir::new();
    let _maglevd = MaglevdSetup::new(&dir, &config(vip.ip(), &servers)).vpp(&router.vpp).start();
    let reduced: Weights = servers.iter().map(|(server, weight)| (*server, weight / 5)).collect();
    router.until(vip, &reduced);

    let flows = Flows { to: vip, port: 1024, ports: 60_000 };
    let packets = router.send(&flows, FLOWS);
    assert_eq!(packets.len(), FLOWS as usize, "{}", router.cli("show lb vips verbose"));
    let sum: u32 = reduced.values().map(|weight| u32::from(*weight)).sum();
    let table = MaglevTable::new(reduced.clone(), maglev::table_length(servers.len(), None));
    let mut seen: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for packet in packets {
        assert_eq!(Some(packet.server), table.server(&packet.flow), "{}", packet.flow);
        *seen.entry(packet.server).or_default() += 1;
    }
    let error = |(server, weight): (&IpAddr, &u8)| {
        let share = f64::from(seen.get(server).copied().unwrap_or(0)) / f64::from(FLOWS);
        (share - f64::from(*weight) / f64::from(sum)).abs()
    };
    let worst = reduced.iter().map(error).fold(0.0, f64::max);
    println!("{count} servers: largest deviation of a share is {:.3} %", worst * 100.0);
    assert!(worst < 0.01, "{seen:?}");
}

fn server(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 1, high, low).into()
}

fn config(vip: IpAddr, servers: &[(IpAddr, u8)]) -> String {
    let mut text = String::from("maglev:\n  vpp: { lb: { ipv4-src-address: 192.0.2.1 } }\n  backends:\n");
    for (number, (address, _)) in servers.iter().enumerate() {
        writeln!(text, "    s{number}: {{ address: {address} }}").unwrap();
    }
    writeln!(text, "  frontends:\n    web:\n      address: {vip}\n      protocol: udp\n      port: 80")
        .unwrap();
    text += "      pools:\n        - name: all\n          backends:\n";
    for (number, (_, weight)) in servers.iter().enumerate() {
        writeln!(text, "            s{number}: {{ weight: {weight} }}").unwrap();
    }
    text
}
