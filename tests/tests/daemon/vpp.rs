//! Faults of VPP.

use std::fs;

use maglev_lab::PATIENCE;
use maglev_lab::packets::until;
use maglev_lab::vpp_observer::host;
use maglev_proto::v1::BackendState;
use maglev_proto::v1::watch_events_response::Event;
use maglev_vpp::message::{LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, LbEncapType, Vip};
use maglev_vppsim::{HeapSize, InjectedFaults, ReplyCorruption};

use crate::{BACKENDS, VIP, WebFixture, frontend, web_vip};

#[test]
fn restarted_vpp_is_refilled() {
    let mut fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    fixture.servers.http[0].answer(503);
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
    fixture.vpp.kill();
    maglevd.until_vpp(false);
    // Changes while VPP is away are applied afterwards.
    fixture.servers.http[1].answer(503);
    maglevd.until_backend("b", BackendState::Down);
    fixture.vpp.boot().unwrap();
    fixture.observer().until([(VIP, fixture.weights(0, 0, 10))]);
}

#[test]
fn hung_vpp_is_resynced_when_it_resumes() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    fixture.vpp.hang(true);
    maglevd.until_vpp(false);
    fixture.servers.http[0].answer(503);
    maglevd.until_backend("a", BackendState::Down);
    fixture.vpp.hang(false);
    maglevd.until_vpp(true);
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
}

#[test]
fn unsupported_vpp_is_refused_until_replaced() {
    let fixture = WebFixture::new();
    let Some(sim) = fixture.sim_or_skip("unsupported_vpp_is_refused_until_replaced") else {
        return;
    };
    sim.set_faults(|faults| {
        faults.omitted_messages = vec!["lb_as_set_weight"];
        faults.version = Some("26.02-release".to_owned());
    });
    let mut maglevd = fixture.setup(fixture.config()).start();
    let line = maglevd.process.line(0, "lb_as_set_weight");
    assert!(line.contains("ERROR") && line.contains("26.02-release"), "{line}");
    maglevd.until_up(&BACKENDS);
    assert_eq!(fixture.observer().writes(), Vec::<String>::new());
    sim.set_faults(|faults| *faults = InjectedFaults::default());
    sim.restart().unwrap();
    fixture.observer().until([(VIP, fixture.weights(20, 10, 0))]);
}

#[test]
fn malformed_vpp_replies_still_converge() {
    let fixture = WebFixture::new();
    let Some(sim) = fixture.sim_or_skip("malformed_vpp_replies_still_converge") else { return };
    let _maglevd = fixture.settled();
    let spoils = [
        ReplyCorruption::WrongContext,
        ReplyCorruption::WrongType,
        ReplyCorruption::Truncated,
        ReplyCorruption::Oversized,
        ReplyCorruption::Missing,
        ReplyCorruption::PrecededByUnknown,
    ];
    for (spoil, well) in spoils.into_iter().zip([false, true].into_iter().cycle()) {
        sim.set_faults(|faults| faults.corrupt_reply = Some(spoil));
        fixture.servers.http[0].answer(if well { 200 } else { 503 });
        let weights = if well { fixture.weights(20, 10, 0) } else { fixture.weights(0, 10, 0) };
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
    let fixture = WebFixture::new();
    let Some(sim) = fixture.sim_or_skip("refused_step_is_reported_and_retried") else { return };
    let mut maglevd = fixture.settled();
    sim.set_faults(|faults| faults.reject("lb_as_set_weight", -1, 1));
    fixture.servers.http[0].answer(503);
    maglevd.until("the refusal", |event| matches!(event, Event::SyncFailure(_)));
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
}

#[test]
fn foreign_vip_policy_is_applied() {
    const FOREIGN: &str = "203.0.113.99";
    for (policy, kept) in [("keep", true), ("remove", false)] {
        let fixture = WebFixture::new();
        let foreign = Vip { prefix: host(FOREIGN), protocol: 6, port: 80 };
        let server = "10.0.0.1".parse().unwrap();
        fixture.observer().client(async |client| {
            client.request(&LbAddDelVipV2::add(foreign, LbEncapType::Gre4, 1024, false)).await.unwrap();
            client.request(&LbAddDelAsV2::add(foreign, server, 7)).await.unwrap();
        });
        let mut config = fixture.config();
        config.lb += &format!(", foreign-vips: {policy}");
        let _maglevd = fixture.setup(&config).start();
        let ours = (VIP, fixture.weights(20, 10, 0));
        if kept {
            fixture.observer().until([ours, (FOREIGN, [(server, 7)].into())]);
        } else {
            fixture.observer().until([ours]);
        }
    }
}

#[test]
fn vip_dropped_during_restart_leaves_vpp() {
    const MAIL: &str = "203.0.113.81";
    let fixture = WebFixture::new();
    let mut config = fixture.config();
    config.lb += ", foreign-vips: keep";
    let without = config.clone();
    config.frontends.push(frontend("mail", MAIL, "{ name: all, backends: { c: { weight: 1 } } }"));
    let mut maglevd = fixture.setup(&config).start();
    let web = (VIP, fixture.weights(20, 10, 0));
    let mail = [(fixture.servers.address(2), 1)].into();
    fixture.observer().until([web.clone(), (MAIL, mail)]);
    let saved = || fs::read_to_string(fixture.dir.path("state/owned-vips.json")).unwrap_or_default();
    until(|| saved().contains("pid") && saved().contains(MAIL), saved);
    maglevd.process.kill();
    let _maglevd = fixture.setup(&without).start();
    fixture.observer().until([web]);
}

#[test]
fn emptied_file_is_refused_unless_it_says_so() {
    let fixture = WebFixture::new();
    let maglevd = fixture.settled();
    let mut config = fixture.config();
    config.frontends = vec!["    {}".to_owned()];
    fixture.dir.write("maglev.yaml", config.to_string());
    for command in ["check", "reload"] {
        let refused = maglevd.maglevc(&["config", command]);
        assert!(!refused.status.success());
        let text = String::from_utf8_lossy(&refused.stdout);
        assert!(text.contains("allow-no-frontends"), "{text}");
    }
    fixture.observer().until([(VIP, fixture.weights(20, 10, 0))]);
    config.lb += ", allow-no-frontends: true";
    fixture.dir.write("maglev.yaml", config.to_string());
    assert!(maglevd.maglevc(&["config", "reload"]).status.success());
    fixture.observer().until([]);
}

#[test]
fn external_changes_are_reverted_by_sync() {
    let fixture = WebFixture::new();
    let mut config = fixture.config();
    config.lb = "sync-interval: 500ms".to_owned();
    let _maglevd = fixture.setup(&config).start();
    let right = fixture.weights(20, 10, 0);
    fixture.observer().until([(VIP, right.clone())]);
    let [a, b, nobody] = [0, 1, 100].map(|server| fixture.servers.address(server));

    let weight = LbAsSetWeight { vip: web_vip(), address: a, weight: 99, is_flush: false };
    fixture.observer().client(async |client| client.request(&weight).await.unwrap());
    fixture.observer().until([(VIP, right.clone())]);

    fixture
        .observer()
        .client(async |client| client.request(&LbAddDelAsV2::delete(web_vip(), b, true)).await.unwrap());
    fixture.observer().until([(VIP, right.clone())]);

    fixture
        .observer()
        .client(async |client| client.request(&LbAddDelAsV2::add(web_vip(), nobody, 3)).await.unwrap());
    fixture.observer().until([(VIP, right.clone())]);

    fixture
        .observer()
        .client(async |client| client.request(&LbAddDelVipV2::delete(web_vip())).await.unwrap());
    fixture.observer().until([(VIP, right)]);
}

#[test]
fn tables_beyond_vpp_heap_are_not_sent() {
    let fixture = WebFixture::new();
    let Some(sim) = fixture.sim_or_skip("tables_beyond_vpp_heap_are_not_sent") else { return };
    sim.set_faults(|faults| faults.heap = Some(HeapSize { total: 64 << 20, free: 32 << 20 }));
    let maglevd = fixture.settled();
    let written = fixture.observer().writes();
    let mut config = fixture.config();
    for (buckets, figures) in [
        (1 << 19, "VPP's heap has 32 MiB free and the tables need 33 MiB more"),
        (1 << 20, "VPP's heap has 64 MiB and the tables need 65 MiB"),
    ] {
        config.lb = format!("sticky-buckets-per-core: {buckets}");
        fixture.dir.write("maglev.yaml", config.to_string());
        for command in ["check", "reload"] {
            let refused = maglevd.maglevc(&["config", command]);
            let text = String::from_utf8_lossy(&refused.stdout);
            assert!(!refused.status.success() && text.contains(figures), "{text}");
        }
    }
    assert_eq!(fixture.observer().writes(), written);
    // A start with the file creates nothing in an empty VPP.
    drop(maglevd);
    sim.restart().unwrap();
    sim.clear_calls();
    let maglevd = fixture.setup(&config).start();
    let warnings = || maglevd.frontend("web").warnings;
    let is_refused =
        |warning: &String| warning.starts_with("nothing is created in VPP: VPP's heap has 64 MiB");
    until(|| warnings().iter().any(is_refused), || format!("{:?}", warnings()));
    assert_eq!(fixture.observer().writes(), Vec::<String>::new());
}
