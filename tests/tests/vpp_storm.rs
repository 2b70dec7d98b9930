//! Every backend flaps at once. VPP receives the final weights, not each intermediate step.

#![cfg(test)]

use std::time::Instant;

use maglev_ipc::OutcomeCode;
use maglev_lab::PATIENCE;
use maglev_lab::dataplane::Vpp;
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::many_frontends::ManyFrontends;
use maglev_lab::packets::router::Router;
use maglev_lab::packets::until;
use maglev_lab::scripted_prober::ScriptedProber;
use maglev_lab::test_dir::TestDir;
use maglev_proto::v1::BackendState;
use maglev_vppsim::VppInspection;

const MANY: ManyFrontends = ManyFrontends { frontends: 1000, backends: 10 };
/// The last backend of the last frontend, which stays down.
const LAST: (u16, u8) = (MANY.frontends - 1, MANY.backends - 1);
const CALL: &str = "lb_as_set_weight";

struct StormFixture {
    maglevd: Maglevd,
    prober: ScriptedProber,
    _place: TestDir,
}

impl StormFixture {
    /// Starts a `maglevd` that considers every backend up.
    fn start(vpp: &Vpp) -> Self {
        let dir = TestDir::new();
        let prober = ScriptedProber::listen(&dir.path("prober.sock"));
        let maglevd = MaglevdSetup::new(&dir, &MANY.config()).vpp(vpp).start();
        prober.until_checks(MANY.len());
        prober.report(MANY.servers(), OutcomeCode::L7Ok);
        Self { maglevd, prober, _place: dir }
    }

    /// Takes every backend down and up twice, and then one down. Returns when `maglevd` has processed that.
    fn storm(&self) {
        let began = Instant::now();
        for code in [OutcomeCode::L4Con, OutcomeCode::L7Ok, OutcomeCode::L4Con, OutcomeCode::L7Ok] {
            self.prober.report(MANY.servers(), code);
        }
        self.prober.report([ManyFrontends::server(LAST.0, LAST.1)], OutcomeCode::L4Con);
        let last = || self.maglevd.backend(&format!("s{}-{}", LAST.0, LAST.1));
        // The history begins with unknown, followed by the five outcomes after the first.
        let is_final = || last().transitions.len() == 5 && last().state() == BackendState::Down;
        until(is_final, || format!("{:#?}", last()));
        println!("flap storm took {:?}", began.elapsed());
    }
}

#[test]
fn slow_vpp_gets_only_final_weights() {
    let vpp = Vpp::simulated().unwrap();
    let sim = vpp.sim().unwrap();
    let fixture = StormFixture::start(&vpp);
    assert!(sim.wait_for(PATIENCE, |vpp| raised(vpp) == MANY.len()), "{}", sim.inspect(raised));

    sim.clear_calls();
    sim.set_faults(|faults| faults.hang = true);
    fixture.storm();
    sim.set_faults(|faults| faults.hang = false);
    assert!(sim.wait_for(PATIENCE, |vpp| raised(vpp) == MANY.len() - 1), "{}", sim.inspect(raised));
    // Per VIP: the step in progress when VPP stopped replying, and the way back.
    let calls = sim.count(CALL);
    let most = 2 * MANY.len() as u64 + 1;
    println!("hung VPP: {calls} calls for {} outcomes", 4 * MANY.len() + 1);
    assert!(calls <= most, "{calls} calls, not {most}");
}

fn raised(vpp: &VppInspection<'_>) -> usize {
    let vips = vpp.vips();
    vips.iter().flat_map(|vip| &vip.servers).filter(|server| server.weight > 0).count()
}

#[test]
fn flap_storm_ends_with_correct_weights() {
    let Some(router) = Router::start("flap_storm_ends_with_correct_weights") else { return };
    let fixture = StormFixture::start(&router.vpp);
    router.until_raised(MANY.len());
    router.record();
    fixture.storm();
    router.until_raised(MANY.len() - 1);
    let calls = router.recorded();
    println!("responsive VPP: {} calls for {} outcomes", calls.len(), 4 * MANY.len() + 1);
    assert!(calls.iter().all(|call| call == CALL));
    assert!(calls.len() <= 4 * MANY.len() + 1);
}
