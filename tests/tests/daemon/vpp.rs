//! What can befall VPP.

use maglev_lab::PATIENCE;
use maglev_lab::vips::host;
use maglev_proto::v1::BackendState;
use maglev_proto::v1::watch_events_response::Event;
use maglev_vpp::message::{Encap, LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, Vip};
use maglev_vppsim::{Faults, Spoil};

use crate::{BACKENDS, Stage, VIP, web};

#[test]
fn a_vpp_that_restarts_empty_is_filled_again() {
    let mut stage = Stage::new();
    let mut maglevd = stage.settled();
    stage.farm.sites[0].answer(503);
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
    stage.vpp.kill();
    maglevd.until_vpp(false);
    // What happens meanwhile is not forgotten.
    stage.farm.sites[1].answer(503);
    maglevd.until_backend("b", BackendState::Down);
    stage.vpp.boot().unwrap();
    stage.observer().until([(VIP, stage.weights(0, 0, 1))]);
}

#[test]
fn a_vpp_that_hangs_is_noticed_and_served_when_it_goes_on() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    stage.vpp.hang(true);
    maglevd.until_vpp(false);
    stage.farm.sites[0].answer(503);
    maglevd.until_backend("a", BackendState::Down);
    stage.vpp.hang(false);
    maglevd.until_vpp(true);
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
}

#[test]
fn a_vpp_that_is_too_old_is_refused_by_name_and_the_next_one_is_taken() {
    let stage = Stage::new();
    let Some(sim) = stage.sim("a_vpp_that_is_too_old_is_refused_by_name_and_the_next_one_is_taken") else {
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
fn whatever_vpp_answers_the_right_weights_come_in_the_end() {
    let stage = Stage::new();
    let Some(sim) = stage.sim("whatever_vpp_answers_the_right_weights_come_in_the_end") else { return };
    let _maglevd = stage.settled();
    let spoils = [Spoil::Context, Spoil::Kind, Spoil::Short, Spoil::Giant, Spoil::Lost, Spoil::Preceded];
    for (spoil, well) in spoils.into_iter().zip([false, true].into_iter().cycle()) {
        sim.faults(|faults| faults.spoil = Some(spoil));
        stage.farm.sites[0].answer(if well { 200 } else { 503 });
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
fn a_step_that_vpp_refuses_is_told_and_tried_again() {
    let stage = Stage::new();
    let Some(sim) = stage.sim("a_step_that_vpp_refuses_is_told_and_tried_again") else { return };
    let mut maglevd = stage.settled();
    sim.faults(|faults| faults.refuse("lb_as_set_weight", -1, 1));
    stage.farm.sites[0].answer(503);
    maglevd.until("the refusal", |event| matches!(event, Event::SyncFailure(_)));
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
}

#[test]
fn a_foreign_vip_is_removed_or_kept_as_the_configuration_says() {
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
fn what_somebody_else_changes_is_mended_within_the_sync_interval() {
    let stage = Stage::new();
    let mut config = stage.config();
    config.lb = "sync-interval: 500ms".to_owned();
    let _maglevd = stage.setup(&config).start();
    let right = stage.weights(10, 5, 0);
    stage.observer().until([(VIP, right.clone())]);
    let [a, b, nobody] = [0, 1, 100].map(|server| stage.farm.address(server));

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
