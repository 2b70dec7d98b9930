//! Faults of VPP.

use maglev_lab::PATIENCE;
use maglev_lab::vpp_observer::host;
use maglev_proto::v1::BackendState;
use maglev_proto::v1::watch_events_response::Event;
use maglev_vpp::message::{Encap, LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, Vip};
use maglev_vppsim::{Faults, Spoil};

use crate::{BACKENDS, Stage, VIP, web};

#[test]
fn restarted_vpp_is_refilled() {
    let mut stage = Stage::new();
    let mut maglevd = stage.settled();
    stage.servers.http[0].answer(503);
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
    stage.vpp.kill();
    maglevd.until_vpp(false);
    // Changes while VPP is away are applied afterwards.
    stage.servers.http[1].answer(503);
    maglevd.until_backend("b", BackendState::Down);
    stage.vpp.boot().unwrap();
    stage.observer().until([(VIP, stage.weights(0, 0, 1))]);
}

#[test]
fn hung_vpp_is_resynced_when_it_resumes() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    stage.vpp.hang(true);
    maglevd.until_vpp(false);
    stage.servers.http[0].answer(503);
    maglevd.until_backend("a", BackendState::Down);
    stage.vpp.hang(false);
    maglevd.until_vpp(true);
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
}

#[test]
fn unsupported_vpp_is_refused_until_replaced() {
    let stage = Stage::new();
    let Some(sim) = stage.sim("unsupported_vpp_is_refused_until_replaced") else {
        return;
    };
    sim.faults(|faults| {
        faults.omit = vec!["lb_as_set_weight"];
        faults.version = Some("26.02-release".to_owned());
    });
    let mut maglevd = stage.setup(&stage.config()).start();
    let line = maglevd.process.line(0, "lb_as_set_weight");
    assert!(line.contains("ERROR") && line.contains("26.02-release"), "{line}");
    maglevd.until_up(&BACKENDS);
    assert_eq!(stage.observer().writes(), Vec::<String>::new());
    sim.faults(|faults| *faults = Faults::default());
    sim.restart().unwrap();
    stage.observer().until([(VIP, stage.weights(10, 5, 0))]);
}

#[test]
fn malformed_vpp_replies_still_converge() {
    let stage = Stage::new();
    let Some(sim) = stage.sim("malformed_vpp_replies_still_converge") else { return };
    let _maglevd = stage.settled();
    let spoils = [Spoil::Context, Spoil::Kind, Spoil::Short, Spoil::Giant, Spoil::Lost, Spoil::Preceded];
    for (spoil, well) in spoils.into_iter().zip([false, true].into_iter().cycle()) {
        sim.faults(|faults| faults.spoil = Some(spoil));
        stage.servers.http[0].answer(if well { 200 } else { 503 });
        let weights = if well { stage.weights(10, 5, 0) } else { stage.weights(0, 5, 0) };
        assert!(
            sim.wait_for(PATIENCE, |vpp| {
                vpp.vips().iter().any(|vip| weights == vip.weights().into_iter().collect())
            }),
            "{spoil:?}: {:#?}",
            sim.vips()
        );
    }
}

#[test]
fn refused_step_is_reported_and_retried() {
    let stage = Stage::new();
    let Some(sim) = stage.sim("refused_step_is_reported_and_retried") else { return };
    let mut maglevd = stage.settled();
    sim.faults(|faults| faults.refuse("lb_as_set_weight", -1, 1));
    stage.servers.http[0].answer(503);
    maglevd.until("the refusal", |event| matches!(event, Event::SyncFailure(_)));
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
}

#[test]
fn foreign_vip_policy_is_applied() {
    const FOREIGN: &str = "203.0.113.99";
    for (policy, kept) in [("keep", true), ("remove", false)] {
        let stage = Stage::new();
        let foreign = Vip { prefix: host(FOREIGN), protocol: 6, port: 80 };
        let server = "10.0.0.1".parse().unwrap();
        stage.observer().client(async |client| {
            client.request(&LbAddDelVipV2::add(foreign, Encap::Gre4, 1024, false)).await.unwrap();
            client.request(&LbAddDelAsV2::add(foreign, server, 7)).await.unwrap();
        });
        let mut config = stage.config();
        config.lb += &format!(", foreign-vips: {policy}");
        let _maglevd = stage.setup(&config).start();
        let ours = (VIP, stage.weights(10, 5, 0));
        if kept {
            stage.observer().until([ours, (FOREIGN, [(server, 7)].into())]);
        } else {
            stage.observer().until([ours]);
        }
    }
}

#[test]
fn external_changes_are_reverted_by_sync() {
    let stage = Stage::new();
    let mut config = stage.config();
    config.lb = "sync-interval: 500ms".to_owned();
    let _maglevd = stage.setup(&config).start();
    let right = stage.weights(10, 5, 0);
    stage.observer().until([(VIP, right.clone())]);
    let [a, b, nobody] = [0, 1, 100].map(|server| stage.servers.address(server));

    let weight = LbAsSetWeight { vip: web(), address: a, weight: 99, is_flush: false };
    stage.observer().client(async |client| client.request(&weight).await.unwrap());
    stage.observer().until([(VIP, right.clone())]);

    stage
        .observer()
        .client(async |client| client.request(&LbAddDelAsV2::delete(web(), b, true)).await.unwrap());
    stage.observer().until([(VIP, right.clone())]);

    stage
        .observer()
        .client(async |client| client.request(&LbAddDelAsV2::add(web(), nobody, 3)).await.unwrap());
    stage.observer().until([(VIP, right.clone())]);

    stage.observer().client(async |client| client.request(&LbAddDelVipV2::delete(web())).await.unwrap());
    stage.observer().until([(VIP, right)]);
}
