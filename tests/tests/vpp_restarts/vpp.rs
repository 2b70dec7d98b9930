//! A VPP that restarts empty is filled at once.

use std::net::{SocketAddr, TcpListener};

use maglev_ipc::OutcomeCode;
use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::many_frontends::ManyFrontends;
use maglev_lab::metrics::Scrape;
use maglev_lab::packets::flow::Flows;
use maglev_lab::packets::router::Router;
use maglev_lab::packets::until;
use maglev_lab::scripted_prober::ScriptedProber;
use maglev_lab::test_dir::TestDir;
use maglev_lab::vpp_observer::Weights;

const MANY: ManyFrontends = ManyFrontends { frontends: 1000, backends: 10 };

#[test]
fn empty_vpp_is_filled_in_one_pass() {
    let Some(mut router) = Router::start("empty_vpp_is_filled_in_one_pass") else { return };
    let dir = TestDir::new();
    let prober = ScriptedProber::listen(&dir.path("prober.sock"));
    let metrics = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
    let setup = MaglevdSetup::new(&dir, &MANY.config()).vpp(&router.vpp);
    let maglevd = setup.flag("--metrics-addr", metrics).start();
    prober.until_checks(MANY.len());
    prober.report(MANY.servers(), OutcomeCode::L7Ok);
    router.until_raised(MANY.len());

    let position = maglevd.process.line_count();
    let before = passes(metrics);
    let answers = router.restart();
    maglevd.process.line(position, "VPP connected");
    let connected = answers.elapsed();
    until(|| router.server_count() == MANY.len(), || format!("{} servers", router.server_count()));
    println!("connected {connected:?} after VPP answered, complete after {:?}", answers.elapsed());

    for frontend in [0, MANY.frontends - 1] {
        let vip = SocketAddr::new(ManyFrontends::vip(frontend), 0);
        let weights: Weights = (0..MANY.backends).map(|b| (ManyFrontends::server(frontend, b), 20)).collect();
        router.until(vip, &weights);
        let flows = Flows { to: SocketAddr::new(vip.ip(), 80), port: 1024, ports: 100 };
        assert_eq!(router.send(&flows, 1000).len(), 1000);
    }
    let passes = || passes(metrics) - before;
    let all = usize::from(MANY.frontends);
    until(|| passes() >= all, || format!("{} passes", passes()));
    assert_eq!(passes(), all);
}

/// Returns the number of synchronisations of VIPs. The log has a limit for their lines.
fn passes(metrics: SocketAddr) -> usize {
    let scrape = Scrape::fetch(metrics);
    let count = |scope| scrape.find("maglev_vpp_lbsync_duration_seconds_count", &[scope]).unwrap_or_default();
    (count("scope=\"vip\"") + count("scope=\"all\"")) as usize
}
