//! A real VPP in trouble: what the simulator cannot be trusted to imitate. `VPP_BIN` names the VPP.

#![cfg(test)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use maglev_ipc::Code;
use maglev_lab::crowd::Crowd;
use maglev_lab::dataplane::{RealVpp, Vpp};
use maglev_lab::maglevd::{Maglevd, Setup};
use maglev_lab::packets::flow::{Flows, Maglev};
use maglev_lab::packets::router::{Router, Weights};
use maglev_lab::packets::until;
use maglev_lab::place::Place;
use maglev_lab::prober::Prober;
use maglev_proto::v1::SyncVpplbStateRequest;

const CROWD: Crowd = Crowd { frontends: 1000, backends: 10 };

struct Stage {
    maglevd: Maglevd,
    _prober: Prober,
    _place: Place,
}

impl Stage {
    /// A `maglevd` that begins to fill VPP.
    fn set(router: &Router) -> Self {
        let place = Place::new();
        let prober = Prober::listen(&place.path("prober.sock"));
        let maglevd = Setup::new(&place, &CROWD.config()).vpp(&router.vpp).start();
        prober.until_asked(CROWD.len());
        prober.say(CROWD.servers(), Code::L7Ok);
        Self { maglevd, _prober: prober, _place: place }
    }
}

/// Waits until VPP has some of the servers.
fn until_half_way(router: &Router) {
    let half_way = || router.server_count() > CROWD.len() / 10;
    until(half_way, || format!("{} servers", router.server_count()));
    println!("in trouble with {} of {} servers", router.server_count(), CROWD.len());
}

fn assert_whole(router: &Router) {
    router.until_raised(CROWD.len());
    assert_eq!(router.server_count(), CROWD.len());
}

#[test]
fn a_vpp_that_is_killed_while_it_is_filled_is_filled_anew() {
    let Some(mut router) = Router::start("a_vpp_that_is_killed_while_it_is_filled_is_filled_anew") else {
        return;
    };
    let _stage = Stage::set(&router);
    for _ in 0..2 {
        until_half_way(&router);
        router.restart();
    }
    assert_whole(&router);
}

#[test]
fn a_vpp_that_stops_while_it_is_filled_is_filled_when_it_goes_on() {
    let test = "a_vpp_that_stops_while_it_is_filled_is_filled_when_it_goes_on";
    let Some(router) = Router::start(test) else { return };
    let stage = Stage::set(&router);
    until_half_way(&router);
    let said = stage.maglevd.process.said();
    router.vpp.hang(true);
    stage.maglevd.process.line(said, "VPP lost");
    router.vpp.hang(false);
    assert_whole(&router);
}

#[test]
fn a_vpp_without_the_plugin_is_told_of() {
    let Some(binary) = RealVpp::binary() else {
        println!("SKIP a_vpp_without_the_plugin_is_told_of: VPP_BIN is not set");
        return;
    };
    let vpp = Vpp::real_with(&binary, &[]).unwrap();
    let place = Place::new();
    let maglevd = Setup::new(&place, &WEB.replace("INTERVAL", "1h")).vpp(&vpp).start();
    let line = maglevd.process.line(0, "lb_plugin.so");
    assert!(line.contains("ERROR"), "{line}");
}

const WEB: &str = "
maglev:
  vpp: { lb: { ipv4-src-address: 192.0.2.1, sync-interval: INTERVAL } }
  backends:
    s1: { address: 10.1.0.1 }
    s2: { address: 10.1.0.2 }
  frontends:
    web: { address: 203.0.113.80, protocol: udp, port: 80, pools: [ { name: all, backends: { s1: {}, s2: {} } } ] }
";

#[test]
fn what_lingers_of_servers_and_vips_removed_by_hand_confuses_nobody() {
    let test = "what_lingers_of_servers_and_vips_removed_by_hand_confuses_nobody";
    let Some(router) = Router::start(test) else { return };
    let place = Place::new();
    let start = || Setup::new(&place, &WEB.replace("INTERVAL", "500ms")).vpp(&router.vpp).start();
    let maglevd = start();
    let vip = SocketAddr::from(([203, 0, 113, 80], 80));
    let weights: Weights = [1, 2].map(|number| (IpAddr::from(Ipv4Addr::new(10, 1, 0, number)), 1)).into();
    router.until(vip, &weights);
    let flows = Flows { to: vip, port: 1024, ports: 100 };
    let table = Maglev::new(weights.clone(), 1024);
    // Flows keep what is removed from being collected.
    let assert_flows = || {
        let packets = router.send(&flows, 1000);
        assert_eq!(packets.len(), 1000, "{}", router.cli("show lb vips verbose"));
        assert!(packets.iter().all(|packet| Some(packet.server) == table.server(&packet.flow)));
    };
    assert_flows();
    for command in [
        "lb as 203.0.113.80/32 protocol udp port 80 10.1.0.1 del",
        "lb vip 203.0.113.80/32 protocol udp port 80 del",
    ] {
        router.cli(command);
        router.until(vip, &weights);
        assert_flows();
    }
    assert!(router.cli("show lb vips").contains("removed"));

    // Two records of each server, one of which only lingers, are there for a new maglevd to read.
    let mut process = maglevd.process;
    process.kill();
    router.record();
    let maglevd = start();
    let plan = || {
        let mut client = maglevd.client.clone();
        maglevd.wait(client.sync_vpplb_state(SyncVpplbStateRequest { dry_run: true }))
    };
    until(|| plan().is_ok(), || format!("{:?}", plan()));
    let plan = plan().unwrap().into_inner().plan.unwrap();
    assert_eq!((plan.conf, plan.vips), (false, vec![]));
    assert_eq!(router.recorded(), [""; 0]);
    assert_flows();
}
