//! Synchronisation of VPP: weights after outcomes, filling an empty VPP, and flapping of all backends.
//!
//! On the simulator, and partly on the real VPP in `VPP_BIN`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::ensure;
use maglev_core::maglev::{MIN_TABLE, table_length};
use maglev_ipc::OutcomeCode;
use maglev_vpp::message::{LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, LbAsV2Dump, LbEncapType, Prefix, Vip};
use maglev_vpp::{ClientOptions, Error, VppClient};
use tokio::runtime::{self, Runtime};

use super::Bench;
use super::checker::CheckerKind;
use super::config::{Check, Probe};
use super::probes;
use super::report::{Figure, Part, median, percentile};
use super::server::BackendHealth;
use maglev_lab::PATIENCE;
use maglev_lab::dataplane::{RealVpp, Vpp};
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::many_frontends::ManyFrontends;
use maglev_lab::packets::until;
use maglev_lab::scripted_prober::ScriptedProber;
use maglev_lab::test_dir::TestDir;
use maglev_vppsim::{RecordedCall, VppSimulator};

const SET_WEIGHT: &str = "lb_as_set_weight";
/// Weight in VPP of a server with the default weight.
const FULL_WEIGHT: u8 = 20;
/// Repetitions of filling and of flapping.
const TIMES: usize = 5;
/// Weight changes on a real VPP.
const CHANGES: u16 = 20;
/// Interval between failures while all backends are probed.
const APART: Duration = Duration::from_millis(10);
/// Maximum delay of VPP's update after the last failure.
const LATEST: Duration = Duration::from_secs(10);
/// Estimated total duration.
pub const TOTAL: Duration = Duration::from_secs(30);

/// Measures everything in this part.
///
/// # Errors
/// If a program does not start or VPP is not updated.
pub fn run(bench: &mut Bench) -> anyhow::Result<Part> {
    let mut part = bench.part();
    writes(bench, &mut part)?;
    bench.screen.report(TOTAL / 2, "from an outcome to VPP");
    let backends = *bench.options.sizes.iter().max().unwrap_or(&10_000);
    let frontends = ManyFrontends { frontends: (backends / 10).min(1000) as u16, backends: 10 };
    flap_all(frontends, &mut part)?;
    let default = table_length(frontends.backends.into(), None);
    fill_vpp((frontends, default), &Vpp::simulated, "a simulated VPP", &mut part)?;
    if let Some(binary) = RealVpp::binary() {
        for length in [MIN_TABLE, default] {
            let what = format!("VPP, tables of {length}");
            fill_vpp((frontends, length), &|| Vpp::real(&binary), &what, &mut part)?;
        }
        changes(&Vpp::real(&binary)?, &mut part)?;
    } else {
        part.leave_out("a real VPP: VPP_BIN is not set".to_owned());
    }
    bench.screen.report(TOTAL / 2, "everything at once, and an empty VPP");
    Ok(part)
}

/// Measures the time from the deciding answer to the new weight in VPP, with all backends probed.
fn writes(bench: &mut Bench, part: &mut Part) -> anyhow::Result<()> {
    let backends = *bench.options.sizes.iter().max().unwrap_or(&10_000);
    let check = Check { fall: 1, ..Check::new(Probe::Http, backends) };
    let mut checker = bench.start(CheckerKind::Ours, &check)?;
    probes::settle(bench, &mut checker, &check)?;
    let failing = bench.options.failures.min(backends / 10);
    // At most one per frontend, so that no update waits for another.
    let chosen: Vec<u32> = (0..failing).map(|number| number * 10).collect();
    let sim = bench.vpp.sim();
    if let Some(sim) = sim {
        // A late raise would be mistaken for the expected update.
        until_raised(sim, backends as usize);
        sim.clear_calls();
    }
    for &backend in &chosen {
        bench.server.state.set_health(backend, BackendHealth::Failing);
        thread::sleep(APART);
    }
    // A busy machine may be late. Missing updates are reported below.
    if let Some(sim) = sim {
        sim.wait_for(LATEST, |vpp| vpp.count(SET_WEIGHT) >= chosen.len() as u64);
    }
    let written = sim.map(VppSimulator::calls).map(weights).unwrap_or_default();
    let mut times = Vec::new();
    for &backend in &chosen {
        let address = super::address::of(backend);
        if let (Some(answered), Some(written)) = (bench.server.state.answered(backend), written.get(&address))
        {
            let answered = SystemTime::UNIX_EPOCH + Duration::from_nanos(answered);
            times.push(written.duration_since(answered).unwrap_or_default().as_secs_f64() * 1e3);
        }
        bench.server.state.set_health(backend, BackendHealth::Healthy);
    }
    ensure!(!times.is_empty(), "no failure reached VPP");
    if times.len() < chosen.len() {
        part.leave_out(format!(
            "{} of {} failures, which did not reach VPP in time",
            chosen.len() - times.len(),
            chosen.len()
        ));
    }
    part.add_figure(Figure::new(
        format!("deciding answer to VPP, {backends} backends at 1 s, median"),
        "ms",
        vec![median(&times)],
    ));
    let p99 = Figure::new("deciding answer to VPP, p99", "ms", vec![percentile(&times, 99.0)]);
    part.add_figure(p99.at_most(1.0));
    Ok(())
}

/// Returns the time at which each server's weight was first set to 0.
fn weights(calls: Vec<RecordedCall>) -> BTreeMap<Ipv4Addr, SystemTime> {
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

/// Starts `maglevd` with a scripted prober and every backend up. `keys` are further keys of each frontend.
fn start(frontends: ManyFrontends, keys: &str, vpp: &Vpp) -> (TestDir, ScriptedProber, Maglevd) {
    let dir = TestDir::new();
    let prober = ScriptedProber::listen(&dir.path("prober.sock"));
    let maglevd = MaglevdSetup::new(&dir, &frontends.config_with(keys)).vpp(vpp).start();
    prober.until_checks(frontends.len());
    prober.report(frontends.servers(), OutcomeCode::L7Ok);
    (dir, prober, maglevd)
}

/// Measures taking all backends down and up at once.
fn flap_all(frontends: ManyFrontends, part: &mut Part) -> anyhow::Result<()> {
    let vpp = Vpp::simulated()?;
    let sim = vpp.sim().ok_or_else(|| anyhow::anyhow!("no simulator"))?;
    let (_place, prober, _maglevd) = start(frontends, "", &vpp);
    until_raised(sim, frontends.len());
    let (mut downs, mut ups) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        for (code, raised, times) in
            [(OutcomeCode::L4Con, 0, &mut downs), (OutcomeCode::L7Ok, frontends.len(), &mut ups)]
        {
            let began = Instant::now();
            prober.report(frontends.servers(), code);
            until_raised(sim, raised);
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    let name = |what: &str| format!("{} backends {what} at once: VPP updated after", frontends.len());
    part.add_figure(Figure::new(name("go down"), "ms", downs).at_most(1000.0));
    part.add_figure(Figure::new(name("come up"), "ms", ups).at_most(1000.0));
    Ok(())
}

fn until_raised(sim: &VppSimulator, count: usize) {
    let raised = || {
        let vips = sim.vips();
        vips.iter().flat_map(|vip| &vip.servers).filter(|server| server.weight > 0).count()
    };
    until(|| raised() == count, || format!("{} servers have weight, not {count}", raised()));
}

/// Measures filling an empty VPP with tables of that length, by `maglevd` and by a bare client.
fn fill_vpp(
    (frontends, length): (ManyFrontends, u32),
    boot: &dyn Fn() -> std::io::Result<Vpp>,
    what: &str,
    part: &mut Part,
) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut vpp = boot()?;
    let (dir, prober, mut maglevd) = start(frontends, &format!("table-length: {length},"), &vpp);
    until_filled(&runtime, &vpp, frontends)?;
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        vpp.kill();
        maglevd.until_vpp(false);
        vpp.boot()?;
        ours.push(filling(&mut maglevd, frontends).as_secs_f64() * 1e3);
    }
    drop((maglevd, prober, dir));
    for _ in 0..TIMES {
        vpp.kill();
        vpp.boot()?;
        let client = connect(&runtime, &vpp)?;
        let began = Instant::now();
        runtime.block_on(fill(client, frontends, length))?;
        raw.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let all = format!("{} VIPs of {} servers into {what}", frontends.frontends, frontends.backends);
    let ratio = raw.iter().zip(&ours).map(|(raw, ours)| raw / ours).collect();
    part.add_figure(Figure::new(format!("{all}: maglevd"), "ms", ours));
    part.add_figure(Figure::new(format!("{all}: a bare client"), "ms", raw));
    part.add_figure(
        Figure::new(format!("{all}: maglevd's rate relative to the bare client's"), "×", ratio).at_least(0.9),
    );
    Ok(())
}

fn connect(runtime: &Runtime, vpp: &Vpp) -> Result<VppClient, Error> {
    let options = ClientOptions { timeout: PATIENCE, ..ClientOptions::default() };
    runtime.block_on(VppClient::connect(vpp.api_socket(), "maglev-bench", options))
}

fn until_filled(runtime: &Runtime, vpp: &Vpp, frontends: ManyFrontends) -> anyhow::Result<()> {
    let client = connect(runtime, vpp)?;
    let raised = || {
        let servers = runtime.block_on(client.dump(&LbAsV2Dump::all())).unwrap_or_default();
        servers.iter().filter(|server| server.is_in_use() && server.weight > 0).count()
    };
    until(
        || raised() == frontends.len(),
        || format!("{} servers have weight, not {}", raised(), frontends.len()),
    );
    Ok(())
}

/// Returns the time from connection to a filled VPP. The log leaves lines out, but the events are complete.
fn filling(maglevd: &mut Maglevd, frontends: ManyFrontends) -> Duration {
    maglevd.until_vpp(true);
    let began = Instant::now();
    maglevd.until_synced(frontends.frontends);
    began.elapsed()
}

/// Makes the calls that `maglevd` makes, as fast as possible.
async fn fill(client: VppClient, frontends: ManyFrontends, length: u32) -> Result<(), Error> {
    let mut vips = Vec::new();
    let mut servers = Vec::new();
    for frontend in 0..frontends.frontends {
        let vip = Vip::all_ports(Prefix::host(ManyFrontends::vip(frontend)));
        vips.push(client.request(&LbAddDelVipV2::add(vip, LbEncapType::Gre4, length, false)));
        let add = |backend| {
            client.request(&LbAddDelAsV2::add(vip, ManyFrontends::server(frontend, backend), FULL_WEIGHT))
        };
        servers.extend((0..frontends.backends).map(add));
    }
    // All calls are in flight; wait for the replies.
    for added in vips {
        added.await?;
    }
    for added in servers {
        added.await?;
    }
    Ok(())
}

/// Measures VPP's time to change a weight among idle servers of one VIP, including the round trip.
fn changes(vpp: &Vpp, part: &mut Part) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = connect(&runtime, vpp)?;
    for (vip, (servers, weight)) in
        (0..).zip([(10, 20), (10, 100), (100, 20), (100, 100), (1000, 20), (1000, 100)])
    {
        let times = runtime.block_on(change(&client, vip, servers, weight))?;
        let length = table_length(servers.into(), None);
        let what = format!("VPP changes a weight among {servers} servers of weight {weight}, table {length}");
        part.add_figure(Figure::new(what, "ms", times));
    }
    Ok(())
}

async fn change(client: &VppClient, vip: u16, servers: u16, weight: u8) -> Result<Vec<f64>, Error> {
    let vip = Vip::all_ports(Prefix::host(ManyFrontends::vip(vip)));
    let length = table_length(servers.into(), None);
    client.request(&LbAddDelVipV2::add(vip, LbEncapType::Gre4, length, false)).await?;
    for server in 0..servers {
        client.request(&LbAddDelAsV2::add(vip, ManyFrontends::server(server, 0), weight)).await?;
    }
    let mut times = Vec::new();
    for time in 0..CHANGES {
        let (address, weight) = (ManyFrontends::server(time / 2, 0), if time % 2 == 0 { 0 } else { weight });
        let began = Instant::now();
        client.request(&LbAsSetWeight { vip, address, weight, is_flush: false }).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    client.request(&LbAddDelVipV2::delete(vip)).await?;
    Ok(times)
}
