//! The lives of the processes: how they begin and end, and what that excuses.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::config_model::{Check, STARTUP};
use super::process::SimProcess;
use super::running::{RunningController, RunningProber};
use super::simulation::Simulation;
use super::vpp_model::RunningVpp;
use super::world::SimWorld;

/// What VPP has refused is tried again after this at the latest.
const RETRY: Duration = Duration::from_secs(30);
/// A link is sought again, silence is noticed, a connection that hangs is given up, a warm-up ends, and what was refused
/// is tried again.
const RECOVERY: Duration = Duration::from_secs(5 + 5 + 3).saturating_add(STARTUP).saturating_add(RETRY);

/// How long it takes at most until all is as it should be, once what was faulty is sound.
pub fn recovery(sim: &Simulation) -> Duration {
    RECOVERY + sim.with(|world| world.model.recovery())
}

/// What everything should be, or what it is, changes, after this time at the latest.
pub fn tolerate_all(sim: &Simulation, after: Duration) {
    let within = after + recovery(sim);
    sim.with(|world| world.oracle.tolerate_all(within));
}

/// VPP may have something else than `maglevd` takes it to have, until that is compared.
pub fn tolerate_difference(sim: &Simulation) {
    tolerate_all(sim, Duration::ZERO);
    let recovery = recovery(sim);
    sim.with(|world| world.oracle.tolerate_difference(world.model.sync_interval() + recovery));
}

/// Another file may say how often that is compared, and of how many VIPs: it begins anew, but no later.
pub fn restart_comparison(sim: &Simulation) {
    let recovery = recovery(sim);
    sim.with(|world| world.oracle.expect_comparison_within(world.model.sync_interval() + recovery));
}

/// Buries each VPP that has died by itself.
pub async fn restart_dead_vpp(sim: Arc<Simulation>) {
    loop {
        sim.vpp_ended.notified().await;
        restart_vpp(&sim, sim.with(|world| world.vpp_away));
    }
}

/// Buries a process when it has died by itself; one that was killed is gone already.
fn reap(
    sim: &Arc<Simulation>,
    process: &Arc<SimProcess>,
    which: fn(&SimWorld) -> Option<&Arc<SimProcess>>,
    how: fn(&Arc<Simulation>),
) {
    let (sim, process) = (Arc::clone(sim), Arc::clone(process));
    tokio::spawn(async move {
        process.exited().await;
        if sim.with(|world| which(world).is_some_and(|now| Arc::ptr_eq(now, &process))) {
            how(&sim);
        }
    });
}

/// Does something after a while, and when there is power.
pub fn run_later(sim: &Arc<Simulation>, after: Duration, what: fn(&Arc<Simulation>)) {
    let sim = Arc::clone(sim);
    tokio::spawn(async move {
        sleep(after).await;
        let powered_from = sim.with(|world| world.powered_from);
        sleep_until(powered_from).await;
        what(&sim);
    });
}

/// What is said to VPP, and by it, is no later than it is in fair weather.
pub fn reset_vpp_latency(sim: &Arc<Simulation>) {
    let latency = Duration::from_millis(sim.with(|world| world.model.vpp_latency));
    sim.vpp_conditions().set(|now| now.latency = latency);
}

/// VPP starts, empty.
pub fn start_vpp(sim: &Arc<Simulation>) {
    sim.trace("start  VPP");
    sim.with(|world| {
        if world.vpp.is_none() {
            world.vpp_starts += 1;
            world.vpp = Some(RunningVpp::start(world.vpp_starts, world.host.contained));
        }
    });
}

/// The prober starts.
pub fn start_prober(sim: &Arc<Simulation>) {
    if sim.with(|world| world.prober.is_none()) {
        sim.trace("start  prober");
        let prober = RunningProber::start(sim);
        reap(
            sim,
            &prober.process,
            |world| world.prober.as_ref().map(|p| &p.process),
            |sim| {
                crash_prober(sim, sim.with(|world| world.prober_away));
            },
        );
        sim.with(|world| world.prober = Some(prober));
    }
}

/// `maglevd` starts.
pub fn start_controller(sim: &Arc<Simulation>) {
    if sim.with(|world| world.controller.is_none()) {
        sim.trace("start  maglevd");
        tolerate_start(sim);
        let controller = RunningController::start(sim);
        reap(
            sim,
            &controller.process,
            |world| world.controller.as_ref().map(|c| &c.process),
            |sim| {
                crash_controller(sim, sim.with(|world| world.controller_away));
            },
        );
        sim.with(|world| world.controller = Some(controller));
    }
}

/// `maglevd` is killed, and starts again after a while.
pub fn crash_controller(sim: &Arc<Simulation>, away: Duration) {
    let Some(controller) = sim.with(|world| world.controller.take()) else { return };
    sim.trace("died   maglevd");
    controller.kill(sim);
    tolerate_outage(sim, away);
    run_later(sim, away, start_controller);
}

/// The prober is killed, and starts again after a while.
pub fn crash_prober(sim: &Arc<Simulation>, away: Duration) {
    let Some(prober) = sim.with(|world| world.prober.take()) else { return };
    sim.trace("died   prober");
    prober.kill();
    tolerate_blind_probes(sim, away);
    run_later(sim, away, start_prober);
}

/// VPP ends, and starts again after a while.
pub fn restart_vpp(sim: &Arc<Simulation>, away: Duration) {
    let Some(mut vpp) = sim.with(|world| world.vpp.take()) else { return };
    sim.trace("died   VPP");
    vpp.disconnect();
    tolerate_all(sim, away);
    run_later(sim, away, start_vpp);
}

/// For this time, and until all has found together again, nothing is done about what is wrong.
pub fn tolerate_outage(sim: &Simulation, after: Duration) {
    let within = after + recovery(sim);
    sim.with(|world| world.oracle.tolerate_outage(within));
}

/// Probes tell nothing for this time. While `maglevd` starts, backends may still be unknown when its patience ends.
pub fn tolerate_blind_probes(sim: &Simulation, time: Duration) {
    tolerate_outage(sim, time);
    sim.with(|world| {
        world.probes_blind_until = world.probes_blind_until.max(Instant::now() + time);
        if Instant::now() < world.starting_until {
            let within = time + RECOVERY + world.model.recovery();
            world.oracle.tolerate_all(within);
        }
    });
}

/// `maglevd` starts: what it knows, it hears from now on.
fn tolerate_start(sim: &Simulation) {
    sim.with(|world| {
        let now = Instant::now();
        let within = RECOVERY + world.model.recovery();
        world.starting_until = now + within;
        world.rejected_checks.reset_reported();
        if let Some(blind) =
            world.probes_blind_until.checked_duration_since(now).filter(|left| !left.is_zero())
        {
            world.oracle.tolerate_all(blind + within);
        }
        for backend in 0..world.model.backends.len() {
            let check = world.model.backends[backend].map(|check| &world.model.checks[check]);
            if check.is_some_and(|check| may_outlast_warm_up(check, world.probes_to_drop(backend)))
                || world.rejected_checks.has(world.model.server(backend))
            {
                world.tolerate_backend(backend, within);
            }
        }
    });
}

/// Whether a backend that loses so many probes may still be unknown when the warm-up ends, and then has no weight.
pub fn may_outlast_warm_up(check: &Check, probes: u32) -> bool {
    probes > 0 && check.longest_interval() * (probes + 1) >= STARTUP
}
