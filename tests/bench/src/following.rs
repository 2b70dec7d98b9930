//! How VPP follows: weights after outcomes, an empty VPP that is filled, everything at once.
//!
//! On the simulator, and where it matters on the real VPP too, if `VPP_BIN` names one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::ensure;
use maglev_core::maglev::table_length;
use maglev_ipc::OutcomeCode;
use maglev_vpp::message::{Encap, LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, LbAsV2Dump, Prefix, Vip};
use maglev_vpp::{Client, Error, Options};
use tokio::runtime::{self, Runtime};

use super::Bench;
use super::checker::Who;
use super::config::{Check, Probe};
use super::probes;
use super::report::{Figure, Part, median, percentile};
use super::server::Health;
use maglev_lab::PATIENCE;
use maglev_lab::many_frontends::Crowd;
use maglev_lab::dataplane::{RealVpp, Vpp};
use maglev_lab::maglevd::{Maglevd, Setup};
use maglev_lab::packets::until;
use maglev_lab::test_dir::Place;
use maglev_lab::scripted_prober::Prober;
use maglev_lab::process::Process;
use maglev_vppsim::{Call, Sim};

/// What `maglevd` writes when it is connected, and for each VIP.
const CONNECTED: &str = "VPP connected";
const CHANGED: &str = "VIP changed in VPP";
const SET_WEIGHT: &str = "lb_as_set_weight";
/// How often VPP is filled, and everything flips.
const TIMES: usize = 5;
/// Changes of one weight that a real VPP is asked for.
const CHANGES: u16 = 20;
/// How far apart backends fail while all are probed.
const APART: Duration = Duration::from_millis(10);
/// How long after the last failure VPP may hear of it.
const LATEST: Duration = Duration::from_secs(10);
/// How long all of this is believed to take.
pub const TOTAL: Duration = Duration::from_secs(30);

/// Measures it.
///
/// # Errors
/// Something does not start, or never gets there.
pub fn run(bench: &mut Bench) -> anyhow::Result<Part> {
    let mut part = bench.part();
    writes(bench, &mut part)?;
    bench.screen.tell(TOTAL / 2, "from an outcome to VPP");
    let backends = *bench.options.sizes.iter().max().unwrap_or(&10_000);
    let crowd = Crowd { frontends: (backends / 10).min(1000) as u16, backends: 10 };
    flips(crowd, &mut part)?;
    fills(crowd, &Vpp::simulated, "a simulated VPP", &mut part)?;
    if let Some(binary) = RealVpp::binary() {
        fills(crowd, &|| Vpp::real(&binary), "VPP", &mut part)?;
        changes(&Vpp::real(&binary)?, &mut part)?;
    } else {
        part.leave_out("a real VPP: VPP_BIN does not name one".to_owned());
    }
    bench.screen.tell(TOTAL / 2, "everything at once, and an empty VPP");
    Ok(part)
}

/// From the answer that decides to the new weight at VPP, while all backends are probed.
fn writes(bench: &mut Bench, part: &mut Part) -> anyhow::Result<()> {
    let backends = *bench.options.sizes.iter().max().unwrap_or(&10_000);
    let check = Check { fall: 1, ..Check::new(Probe::Http, backends) };
    let mut checker = bench.start(Who::Ours, &check)?;
    probes::settle(bench, &mut checker, &check)?;
    let failing = bench.options.failures.min(backends / 10);
    // One in each frontend at most, so that none waits for another's.
    let chosen: Vec<u32> = (0..failing).map(|number| number * 10).collect();
    let sim = bench.vpp.sim();
    if let Some(sim) = sim {
        // What is raised late would pass for what is waited for.
        until_raised(sim, backends as usize);
        sim.forget_calls();
    }
    for &backend in &chosen {
        bench.server.state.ail(backend, Health::Sick);
        thread::sleep(APART);
    }
    // A busy machine may be late; what never comes is told below.
    if let Some(sim) = sim {
        sim.wait_for(LATEST, |vpp| vpp.count(SET_WEIGHT) >= chosen.len() as u64);
    }
    let written = sim.map(Sim::calls).map(weights).unwrap_or_default();
    let mut times = Vec::new();
    for &backend in &chosen {
        let address = super::address::of(backend);
        if let (Some(answered), Some(written)) = (bench.server.state.answered(backend), written.get(&address))
        {
            let answered = SystemTime::UNIX_EPOCH + Duration::from_nanos(answered);
            times.push(written.duration_since(answered).unwrap_or_default().as_secs_f64() * 1e3);
        }
        bench.server.state.ail(backend, Health::Well);
    }
    ensure!(!times.is_empty(), "no failure came to VPP");
    if times.len() < chosen.len() {
        part.leave_out(format!(
            "{} of {} failures, which did not come to VPP in time",
            chosen.len() - times.len(),
            chosen.len()
        ));
    }
    part.tell(Figure::new(
        format!("from the answer that decides to VPP, {backends} backends at 1 s, median"),
        "ms",
        vec![median(&times)],
    ));
    let p99 = Figure::new("the same, p99", "ms", vec![percentile(&times, 99.0)]);
    part.tell(p99.at_most(1.0));
    Ok(())
}

/// When each server's weight was first set to 0.
fn weights(calls: Vec<Call>) -> BTreeMap<Ipv4Addr, SystemTime> {
    let mut first = BTreeMap::new();
    for call in calls.iter().filter(|call| call.name == SET_WEIGHT && call.message.contains("weight: 0")) {
        let address = call.message.split_once("address: 127.").map(|(_, rest)| rest);
        let address = address.and_then(|rest| rest.split([',', ' ', '}']).next());
        if let Some(address) = address.and_then(|rest| format!("127.{rest}").parse().ok()) {
            first.entry(address).or_insert(call.at);
        }
    }
    first
}

/// `maglevd`, and a prober whose outcomes are ours to say: every backend is up.
fn start(crowd: Crowd, vpp: &Vpp) -> (Place, Prober, Maglevd) {
    let place = Place::new();
    let prober = Prober::listen(&place.path("prober.sock"));
    let maglevd = Setup::new(&place, &crowd.config()).vpp(vpp).start();
    prober.until_asked(crowd.len());
    prober.say(crowd.servers(), OutcomeCode::L7Ok);
    (place, prober, maglevd)
}

/// Every backend goes down at once, and comes up again.
fn flips(crowd: Crowd, part: &mut Part) -> anyhow::Result<()> {
    let vpp = Vpp::simulated()?;
    let sim = vpp.sim().ok_or_else(|| anyhow::anyhow!("no simulator"))?;
    let (_place, prober, _maglevd) = start(crowd, &vpp);
    until_raised(sim, crowd.len());
    let (mut downs, mut ups) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        for (code, raised, times) in
            [(OutcomeCode::L4Con, 0, &mut downs), (OutcomeCode::L7Ok, crowd.len(), &mut ups)]
        {
            let began = Instant::now();
            prober.say(crowd.servers(), code);
            until_raised(sim, raised);
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    let name = |what: &str| format!("{} backends {what} at once: VPP has it all after", crowd.len());
    part.tell(Figure::new(name("go down"), "ms", downs).at_most(1000.0));
    part.tell(Figure::new(name("come up"), "ms", ups).at_most(1000.0));
    Ok(())
}

fn until_raised(sim: &Sim, count: usize) {
    let raised = || {
        let vips = sim.vips();
        vips.iter().flat_map(|vip| &vip.servers).filter(|server| server.weight > 0).count()
    };
    until(|| raised() == count, || format!("{} servers have weight, not {count}", raised()));
}

/// An empty VPP filled by `maglevd`, and by a client that does nothing else.
fn fills(
    crowd: Crowd,
    boot: &dyn Fn() -> std::io::Result<Vpp>,
    what: &str,
    part: &mut Part,
) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut vpp = boot()?;
    let (place, prober, maglevd) = start(crowd, &vpp);
    until_filled(&runtime, &vpp, crowd)?;
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let said = maglevd.process.said();
        vpp.kill();
        vpp.boot()?;
        ours.push(filling(&maglevd.process, said, crowd).as_secs_f64() * 1e3);
    }
    drop((maglevd, prober, place));
    for _ in 0..TIMES {
        vpp.kill();
        vpp.boot()?;
        let client = connect(&runtime, &vpp)?;
        let began = Instant::now();
        runtime.block_on(fill(client, crowd))?;
        raw.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let all = format!("{} VIPs of {} servers into {what}", crowd.frontends, crowd.backends);
    let ratio = raw.iter().zip(&ours).map(|(raw, ours)| raw / ours).collect();
    part.tell(Figure::new(format!("{all}: maglevd"), "ms", ours));
    part.tell(Figure::new(format!("{all}: a bare client"), "ms", raw));
    part.tell(Figure::new(format!("{all}: maglevd's rate in the bare client's"), "×", ratio).at_least(0.9));
    Ok(())
}

fn connect(runtime: &Runtime, vpp: &Vpp) -> Result<Client, Error> {
    let options = Options { timeout: PATIENCE, ..Options::default() };
    runtime.block_on(Client::connect(vpp.api_socket(), "maglev-bench", options))
}

fn until_filled(runtime: &Runtime, vpp: &Vpp, crowd: Crowd) -> anyhow::Result<()> {
    let client = connect(runtime, vpp)?;
    let raised = || {
        let servers = runtime.block_on(client.dump(&LbAsV2Dump::all())).unwrap_or_default();
        servers.iter().filter(|server| server.in_use() && server.weight > 0).count()
    };
    until(|| raised() == crowd.len(), || format!("{} servers have weight, not {}", raised(), crowd.len()));
    Ok(())
}

/// How long `maglevd` took to fill VPP, by its own log, from when it was connected.
fn filling(maglevd: &Process, said: usize, crowd: Crowd) -> Duration {
    let passes = || {
        let lines = maglevd.lines(said).into_iter().skip_while(|line| !line.contains(CONNECTED));
        lines.filter(|line| line.contains(CONNECTED) || line.contains(CHANGED)).collect::<Vec<_>>()
    };
    let all = usize::from(crowd.frontends) + 1;
    until(|| passes().len() == all, || format!("{} passes, not {all}", passes().len()));
    let passes = passes();
    let times = passes
        .first()
        .and_then(|line| time_of_day(line))
        .zip(passes.last().and_then(|line| time_of_day(line)));
    times.map_or(Duration::MAX, |(began, ended)| ended.saturating_sub(began))
}

/// When a line was written.
fn time_of_day(line: &str) -> Option<Duration> {
    let (_, time) = line.split_once('T')?;
    let (time, _) = time.split_once('Z')?;
    let mut parts = time.split(':');
    let (hours, minutes): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let seconds = Duration::try_from_secs_f64(parts.next()?.parse().ok()?).ok()?;
    Some(Duration::from_secs((hours * 60 + minutes) * 60) + seconds)
}

/// Makes the calls that `maglevd` makes, as fast as they go.
async fn fill(client: Client, crowd: Crowd) -> Result<(), Error> {
    let mut vips = Vec::new();
    let mut servers = Vec::new();
    for frontend in 0..crowd.frontends {
        let vip = Vip::all_ports(Prefix::host(Crowd::vip(frontend)));
        vips.push(client.request(&LbAddDelVipV2::add(vip, Encap::Gre4, 1024, false)));
        let add = |backend| client.request(&LbAddDelAsV2::add(vip, Crowd::server(frontend, backend), 1));
        servers.extend((0..crowd.backends).map(add));
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

/// How long VPP takes to change a weight, between idle servers of one VIP, and to hear and answer.
fn changes(vpp: &Vpp, part: &mut Part) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = connect(&runtime, vpp)?;
    for (vip, (servers, weight)) in
        (0..).zip([(10, 1), (10, 100), (100, 1), (100, 100), (1000, 1), (1000, 100)])
    {
        let times = runtime.block_on(change(&client, vip, servers, weight))?;
        let length = table_length(servers.into(), servers.into());
        let what = format!("VPP changes a weight among {servers} servers of weight {weight}, table {length}");
        part.tell(Figure::new(what, "ms", times));
    }
    Ok(())
}

async fn change(client: &Client, vip: u16, servers: u16, weight: u8) -> Result<Vec<f64>, Error> {
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
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    client.request(&LbAddDelVipV2::delete(vip)).await?;
    Ok(times)
}
