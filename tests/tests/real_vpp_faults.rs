//! Faults of a real VPP that the simulator may not imitate exactly. `VPP_BIN` names the VPP.

#![cfg(test)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use maglev_ipc::OutcomeCode;
use maglev_lab::dataplane::{RealVpp, Vpp};
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::many_frontends::ManyFrontends;
use maglev_lab::packets::flow::{Flows, MaglevTable};
use maglev_lab::packets::router::Router;
use maglev_lab::packets::until;
use maglev_lab::scripted_prober::ScriptedProber;
use maglev_lab::test_dir::TestDir;
use maglev_lab::vpp_observer::Weights;
use maglev_proto::v1::SyncLbStateRequest;

const MANY: ManyFrontends = ManyFrontends { frontends: 1000, backends: 10 };

struct FillFixture {
    maglevd: Maglevd,
    _prober: ScriptedProber,
    _place: TestDir,
}

impl FillFixture {
    /// Starts a `maglevd` that begins to fill VPP.
    fn start(router: &Router) -> Self {
        let dir = TestDir::new();
        let prober = ScriptedProber::listen(&dir.path("prober.sock"));
        let maglevd = MaglevdSetup::new(&dir, &MANY.config()).vpp(&router.vpp).start();
        prober.until_checks(MANY.len());
        prober.report(MANY.servers(), OutcomeCode::L7Ok);
        Self { maglevd, _prober: prober, _place: dir }
    }
}

/// Waits until VPP has some of the servers.
fn until_partly_filled(router: &Router) {
    let partly_filled = || router.server_count() > MANY.len() / 10;
    until(partly_filled, || format!("{} servers", router.server_count()));
    println!("interrupted at {} of {} servers", router.server_count(), MANY.len());
}

fn assert_filled(router: &Router) {
    router.until_raised(MANY.len());
    assert_eq!(router.server_count(), MANY.len());
}

#[test]
fn vpp_killed_while_filling_is_refilled() {
    let Some(mut router) = Router::start("vpp_killed_while_filling_is_refilled") else {
        return;
    };
    let _stage = FillFixture::start(&router);
    for _ in 0..2 {
        until_partly_filled(&router);
        router.restart();
    }
    assert_filled(&router);
}

#[test]
fn vpp_stopped_while_filling_is_refilled() {
    let test = "vpp_stopped_while_filling_is_refilled";
    let Some(router) = Router::start(test) else { return };
    let fixture = FillFixture::start(&router);
    until_partly_filled(&router);
    let position = fixture.maglevd.process.line_count();
    router.vpp.hang(true);
    fixture.maglevd.process.line(position, "VPP lost");
    router.vpp.hang(false);
    assert_filled(&router);
}

#[test]
fn missing_lb_plugin_is_reported() {
    let Some(binary) = RealVpp::binary() else {
        println!("SKIP missing_lb_plugin_is_reported: VPP_BIN is not set");
        return;
    };
    let vpp = Vpp::real_with(&binary, &[]).unwrap();
    let dir = TestDir::new();
    let maglevd = MaglevdSetup::new(&dir, &WEB.replace("INTERVAL", "1h")).vpp(&vpp).start();
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
fn lingering_ghost_records_are_ignored() {
    let test = "lingering_ghost_records_are_ignored";
    let Some(router) = Router::start(test) else { return };
    let dir = TestDir::new();
    let start = || MaglevdSetup::new(&dir, &WEB.replace("INTERVAL", "500ms")).vpp(&router.vpp).start();
    let maglevd = start();
    let vip = SocketAddr::from(([203, 0, 113, 80], 80));
    let weights: Weights = [1, 2].map(|number| (IpAddr::from(Ipv4Addr::new(10, 1, 0, number)), 20)).into();
    router.until(vip, &weights);
    let flows = Flows { to: vip, port: 1024, ports: 100 };
    let table = MaglevTable::new(weights.clone(), 1024);
    // Flows prevent the collection of removed records.
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

    // A new maglevd reads two records of each server, one of which is a ghost.
    let mut process = maglevd.process;
    process.kill();
    router.record();
    let maglevd = start();
    let plan = || {
        let mut client = maglevd.client.clone();
        maglevd.wait(client.sync_lb_state(SyncLbStateRequest { dry_run: true, fresh: false }))
    };
    until(|| plan().is_ok(), || format!("{:?}", plan()));
    let plan = plan().unwrap().into_inner().plan.unwrap();
    assert_eq!((plan.updates_global_conf, plan.vips), (false, vec![]));
    assert_eq!(router.recorded(), [""; 0]);
    assert_flows();
}
