//! Measures how fast VPP follows: on the simulator, and on the real VPP if `VPP_BIN` names one.
//!
//! The figures mean something for release builds on an idle machine.

#![expect(clippy::unwrap_used, reason = "what cannot be done ends the measurement")]

use std::time::{Duration, Instant};

use maglev_core::maglev::table_length;
use maglev_ipc::Code;
use maglev_tests::dataplane::Vpp;
use maglev_tests::lab::PATIENCE;
use maglev_tests::lab::crowd::Crowd;
use maglev_tests::lab::maglevd::{Maglevd, Setup};
use maglev_tests::lab::place::Place;
use maglev_tests::lab::prober::Prober;
use maglev_tests::lab::process::Process;
use maglev_tests::packets::router::Router;
use maglev_tests::packets::until;
use maglev_tests::vppsim::Sim;
use maglev_vpp::message::{Encap, LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, Prefix, Vip};
use maglev_vpp::{Client, Error};

const CROWD: Crowd = Crowd { frontends: 1000, backends: 10 };
/// What `maglevd` writes when it is connected, and for each VIP.
const CONNECTED: &str = "VPP connected";
const CHANGED: &str = "VIP changed in VPP";
const SET_WEIGHT: &str = "lb_as_set_weight";
const FLIPS: usize = 2000;
const CHANGES: u16 = 20;
const FILLS: usize = 5;

fn main() {
    println!("{} frontends of {} backends each", CROWD.frontends, CROWD.backends);
    on_the_simulator();
    if let Some(router) = Router::start("what needs a real VPP") {
        changes(&router);
        fills(router);
    }
}

/// `maglevd` and what it believes: every backend is up.
fn start(vpp: &Vpp) -> (Place, Prober, Maglevd) {
    let place = Place::new();
    let prober = Prober::listen(&place.path("prober.sock"));
    let maglevd = Setup::new(&place, &CROWD.config()).vpp(vpp).start();
    prober.until_asked(CROWD.len());
    prober.say(CROWD.servers(), Code::L7Ok);
    (place, prober, maglevd)
}

/// What needs no real VPP.
fn on_the_simulator() {
    let vpp = Vpp::simulated().unwrap();
    let sim = vpp.sim().unwrap();
    let (_place, prober, _maglevd) = start(&vpp);
    until_raised(sim, CROWD.len());
    flips(sim, &prober);
    for delay in [Duration::ZERO, Duration::from_micros(500)] {
        storm(sim, &prober, delay);
    }
}

/// From the outcome that decides, at the prober's end of its link, to the weight that VPP has received.
fn flips(sim: &Sim, prober: &Prober) {
    sim.forget_calls();
    // Spread over the crowd: the step has no divisor in common with its size.
    let servers: Vec<_> = CROWD.servers().collect();
    let mut times: Vec<Duration> = Vec::new();
    for flip in 0..FLIPS as u64 {
        let server = servers[(flip as usize / 2 * 7919) % servers.len()];
        let began = Instant::now();
        prober.say([server], if flip % 2 == 0 { Code::L4Con } else { Code::L7Ok });
        assert!(sim.wait_for(PATIENCE, |vpp| vpp.count(SET_WEIGHT) == flip + 1));
        times.push(began.elapsed());
    }
    tell("from an outcome to VPP", &mut times);
}

/// Every backend goes down and comes up twice, as fast as the prober can say it, and the last one goes down for good.
fn storm(sim: &Sim, prober: &Prober, delay: Duration) {
    sim.forget_calls();
    sim.faults(|faults| faults.delay = delay);
    let began = Instant::now();
    for code in [Code::L4Con, Code::L7Ok, Code::L4Con, Code::L7Ok] {
        prober.say(CROWD.servers(), code);
    }
    let last = CROWD.servers().last();
    prober.say(last, Code::L4Con);
    let said = began.elapsed();
    until_raised(sim, CROWD.len() - 1);
    let (calls, over) = (sim.count(SET_WEIGHT), began.elapsed());
    println!("a storm of {said:?}, answers {delay:?} late: {calls} calls, over after {over:?}");
    prober.say(last, Code::L7Ok);
    until_raised(sim, CROWD.len());
}

fn until_raised(sim: &Sim, count: usize) {
    let raised = || {
        let vips = sim.vips();
        vips.iter().flat_map(|vip| &vip.servers).filter(|server| server.weight > 0).count()
    };
    until(|| raised() == count, || format!("{} servers have weight, not {count}", raised()));
}

/// How long VPP takes to change a weight, between idle servers of one VIP, and to hear and answer.
fn changes(router: &Router) {
    for (vip, (servers, weight)) in
        (0..).zip([(10, 1), (10, 100), (100, 1), (100, 100), (1000, 1), (1000, 100)])
    {
        let mut times = router.client(async |client| change(client, vip, servers, weight).await).unwrap();
        let length = table_length(servers.into(), servers.into());
        tell(&format!("a change among {servers} servers of weight {weight}, table {length}"), &mut times);
    }
}

async fn change(client: Client, vip: u16, servers: u16, weight: u8) -> Result<Vec<Duration>, Error> {
    let vip = Vip::all_ports(Prefix::host(Crowd::vip(vip)));
    let length = table_length(servers.into(), servers.into());
    client.request(&LbAddDelVipV2::add(vip, Encap::Gre4, length, false)).await?;
    for server in 0..servers {
        client.request(&LbAddDelAsV2::add(vip, Crowd::server(server, 0), weight)).await?;
    }
    let mut times = Vec::new();
    for time in 0..CHANGES {
        let (address, weight) = (Crowd::server(time / 2, 0), if time % 2 == 0 { 0 } else { weight });
        let began = Instant::now();
        client.request(&LbAsSetWeight { vip, address, weight, is_flush: false }).await?;
        times.push(began.elapsed());
    }
    client.request(&LbAddDelVipV2::delete(vip)).await?;
    Ok(times)
}

/// An empty VPP filled by `maglevd`, and by a client that does nothing else.
fn fills(mut router: Router) {
    let (place, prober, maglevd) = start(&router.vpp);
    router.until_raised(CROWD.len());
    let mut ours: Vec<_> = (0..FILLS)
        .map(|_| {
            let said = maglevd.process.said();
            router.restart();
            filling(&maglevd.process, said)
        })
        .collect();
    drop((maglevd, prober, place));
    let mut raw: Vec<_> = (0..FILLS)
        .map(|_| {
            router.restart();
            let began = Instant::now();
            router.client(fill).unwrap();
            began.elapsed()
        })
        .collect();
    tell("maglevd fills VPP", &mut ours);
    tell("a bare client fills VPP", &mut raw);
    println!("ratio of the medians: {:.2}", ours[FILLS / 2].as_secs_f64() / raw[FILLS / 2].as_secs_f64());
}

/// How long `maglevd` took to fill VPP, by its own log, from when it was connected.
fn filling(maglevd: &Process, said: usize) -> Duration {
    let passes = || {
        let lines = maglevd.lines(said).into_iter().skip_while(|line| !line.contains(CONNECTED));
        lines.filter(|line| line.contains(CONNECTED) || line.contains(CHANGED)).collect::<Vec<_>>()
    };
    let all = usize::from(CROWD.frontends) + 1;
    until(|| passes().len() == all, || format!("{} passes, not {all}", passes().len()));
    let passes = passes();
    time_of_day(&passes[all - 1]).saturating_sub(time_of_day(&passes[0]))
}

/// When a line was written.
fn time_of_day(line: &str) -> Duration {
    let (_, time) = line.split_once('T').unwrap();
    let (time, _) = time.split_once('Z').unwrap();
    let (minutes, seconds) = time.rsplit_once(':').unwrap();
    let (hours, minutes) = minutes.split_once(':').unwrap();
    let minutes = hours.parse::<u64>().unwrap() * 60 + minutes.parse::<u64>().unwrap();
    Duration::from_secs(minutes * 60) + Duration::from_secs_f64(seconds.parse().unwrap())
}

/// Makes the calls that `maglevd` makes, as fast as they go.
async fn fill(client: Client) -> Result<(), Error> {
    let mut vips = Vec::new();
    let mut servers = Vec::new();
    for frontend in 0..CROWD.frontends {
        let vip = Vip::all_ports(Prefix::host(Crowd::vip(frontend)));
        vips.push(client.request(&LbAddDelVipV2::add(vip, Encap::Gre4, 1024, false)));
        let add = |backend| client.request(&LbAddDelAsV2::add(vip, Crowd::server(frontend, backend), 1));
        servers.extend((0..CROWD.backends).map(add));
    }
    // They are all on their way; it remains to hear of them.
    for added in vips {
        added.await?;
    }
    for added in servers {
        added.await?;
    }
    Ok(())
}

fn tell(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what}: {:?} (median), {:?} (p99), {:?} (longest)", at(50), at(99), at(100));
}
