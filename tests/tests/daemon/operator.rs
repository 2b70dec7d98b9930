//! Operator requests to a running `maglevd`.

use std::net::SocketAddr;

use maglev_lab::maglevd::Maglevd;
use maglev_lab::metrics::Scrape;
use maglev_lab::vpp_observer::host;
use maglev_proto::v1::{
    BackendState, CheckConfigRequest, ConfigFault, ReloadConfigRequest, SyncLbStateRequest,
    SyncLbStateResponse,
};
use maglev_vpp::message::{LbAsSetWeight, Vip};
use nix::sys::signal::Signal;

use crate::{BACKENDS, VIP, WebFixture};

fn sync(maglevd: &Maglevd, dry_run: bool) -> SyncLbStateResponse {
    let mut client = maglevd.client.clone();
    let request = SyncLbStateRequest { dry_run, fresh: false };
    let mut answer = maglevd.wait(client.sync_lb_state(request)).unwrap().into_inner();
    let age = answer.plan.as_mut().and_then(|plan| plan.reading_age.take());
    assert!(age.is_some(), "{answer:?}");
    answer
}

#[test]
fn sync_applies_the_dry_run_plan() {
    let fixture = WebFixture::new();
    let maglevd = fixture.settled();
    let vip = Vip { prefix: host(VIP), protocol: 6, port: 80 };
    let edit = LbAsSetWeight { vip, address: fixture.servers.address(0), weight: 99, is_flush: false };
    fixture.observer().client(async |client| client.request(&edit).await.unwrap());

    let plan = sync(&maglevd, true).plan.unwrap();
    assert_eq!((plan.updates_global_conf, plan.vips.len()), (false, 1), "{plan:#?}");
    assert_eq!((plan.vips[0].frontend.as_str(), plan.vips[0].steps.len()), ("web", 1), "{plan:#?}");
    assert_eq!(fixture.observer().vips()[&VIP.parse().unwrap()], fixture.weights(99, 10, 0));

    assert!(
        !maglevd.process.lines(0).iter().any(|line| line.contains("audit")),
        "a dry run must not be audited"
    );
    assert_eq!(sync(&maglevd, false).plan.unwrap(), plan);
    maglevd.process.line(0, "action=\"sync\"");
    fixture.observer().until([(VIP, fixture.weights(20, 10, 0))]);
    assert_eq!(sync(&maglevd, true).plan.unwrap_or_default().vips, []);
}

#[test]
fn rename_that_ends_maintenance_is_told_and_refusable() {
    let fixture = WebFixture::new();
    let maglevd = fixture.settled();
    assert!(maglevd.maglevc(&["set", "backend", "a", "disable"]).status.success());
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
    let renamed = fixture.config().to_string().replace("    a: {", "    a2: {").replace("{ a: {", "{ a2: {");
    fixture.dir.write("maglev.yaml", renamed);
    let run = |words: &[&str]| {
        let output = maglevd.maglevc(words);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let warning =
        "override `disabled` has no effect any more: backend a is gone; a2 has its address, and no override";
    let (_, plan) = run(&["config", "check", "plan"]);
    assert!(plan.contains(&format!("note: {warning}")), "{plan}");
    assert!(plan.contains("note: unknown until they are probed, then further steps: a2"), "{plan}");
    let (reloaded, text) = run(&["config", "reload", "keep-overrides"]);
    assert!(!reloaded && text.contains(warning), "{text}");
    assert_eq!(maglevd.backend("a").state(), BackendState::Disabled);
    let (reloaded, text) = run(&["config", "reload"]);
    assert!(reloaded && text.contains(&format!("warning: {warning}")), "{text}");
    maglevd.process.line(0, warning);
}

#[test]
fn invalid_config_is_reported_and_counted() {
    let fixture = WebFixture::new();
    let metrics = SocketAddr::new(fixture.servers.address(199), fixture.servers.port());
    let mut maglevd = fixture.setup(fixture.config()).flag("--metrics-addr", metrics).start();
    maglevd.until_up(&BACKENDS);
    let ask = |plan| {
        let (mut checker, mut reloader) = (maglevd.client.clone(), maglevd.client.clone());
        let checked = maglevd
            .wait(checker.check_config(CheckConfigRequest { plan, fresh: false }))
            .unwrap()
            .into_inner();
        let reloaded =
            maglevd.wait(reloader.reload_config(ReloadConfigRequest::default())).unwrap().into_inner();
        assert_eq!(checked.fault, reloaded.fault);
        reloaded.fault
    };
    let good = fixture.config().to_string();
    fixture.dir.write("maglev.yaml", good.replace("frontends:", "frontend:"));
    let Some(ConfigFault { parse_error, problems }) = ask(false) else {
        panic!("the invalid file was accepted")
    };
    assert!(parse_error.contains("maglev.yaml:9:3: ") && problems.is_empty(), "{parse_error} {problems:#?}");
    fixture.dir.write("maglev.yaml", good.replace("rise: 2, fall: 3", "rise: 0, fall: 0"));
    let Some(ConfigFault { parse_error, problems }) = ask(false) else {
        panic!("the invalid file was accepted")
    };
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        (parse_error.as_str(), paths),
        ("", vec!["maglev.healthchecks.site.rise", "maglev.healthchecks.site.fall"])
    );
    fixture.dir.write("maglev.yaml", &good);
    assert_eq!(ask(true), None);
    maglevd.process.line(0, "action=\"reload\"");
    maglevd.process.signal(Signal::SIGHUP);
    maglevd.process.line(0, "actor=\"SIGHUP\" action=\"reload\"");

    let reloads = |result| Scrape::fetch(metrics).value("maglev_config_reload_total", &[result]);
    assert_eq!((reloads("failure"), reloads("success")), (2.0, 2.0));
}
