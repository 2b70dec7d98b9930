//! A VPP that restarts empty is filled at once.

use std::net::SocketAddr;

use maglev_ipc::OutcomeCode;
use maglev_lab::many_frontends::Crowd;
use maglev_lab::maglevd::Setup;
use maglev_lab::packets::flow::Flows;
use maglev_lab::packets::router::{Router, Weights};
use maglev_lab::packets::until;
use maglev_lab::test_dir::Place;
use maglev_lab::scripted_prober::Prober;
use maglev_lab::process::Process;

const CROWD: Crowd = Crowd { frontends: 1000, backends: 10 };

#[test]
fn empty_vpp_is_filled_in_one_pass() {
    let Some(mut router) = Router::start("empty_vpp_is_filled_in_one_pass") else { return };
    let place = Place::new();
    let prober = Prober::listen(&place.path("prober.sock"));
    let maglevd = Setup::new(&place, &CROWD.config()).vpp(&router.vpp).start();
    prober.until_asked(CROWD.len());
    prober.say(CROWD.servers(), OutcomeCode::L7Ok);
    router.until_raised(CROWD.len());

    let said = maglevd.process.said();
    let answers = router.restart();
    maglevd.process.line(said, "VPP connected");
    let connected = answers.elapsed();
    until(|| router.server_count() == CROWD.len(), || format!("{} servers", router.server_count()));
    println!("connected {connected:?} after VPP answered, complete after {:?}", answers.elapsed());

    for frontend in [0, CROWD.frontends - 1] {
        let vip = SocketAddr::new(Crowd::vip(frontend), 0);
        let weights: Weights = (0..CROWD.backends).map(|b| (Crowd::server(frontend, b), 1)).collect();
        router.until(vip, &weights);
        let flows = Flows { to: SocketAddr::new(vip.ip(), 80), port: 1024, ports: 100 };
        assert_eq!(router.send(&flows, 1000).len(), 1000);
    }
    let passes = || passes(&maglevd.process, said);
    let all = usize::from(CROWD.frontends);
    until(|| passes() >= all, || format!("{} passes", passes()));
    assert_eq!(passes(), all);
}

/// Returns the number of VIPs synchronised since VPP reconnected.
fn passes(maglevd: &Process, said: usize) -> usize {
    let lines = maglevd.lines(said);
    let since = lines.iter().skip_while(|line| !line.contains("VPP connected"));
    since.filter(|line| line.contains("VIP changed in VPP")).count()
}
