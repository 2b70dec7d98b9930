//! Starts and ends of the processes, and the deviations that they make tolerable.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::config_model::STARTUP;
use super::process::SimProcess;
use super::running::{RunningController, RunningProber};
use super::simulation::Simulation;
use super::vpp_model::RunningVpp;
use super::world::SimWorld;

/// Maximum time until a rejected VPP request is retried.
const RETRY: Duration = Duration::from_secs(30);
/// Maximum time to reconnect, to detect a silent peer, to give up a hanging connection, to end a warm-up, and to retry a
/// rejected request.
const RECOVERY: Duration = Duration::from_secs(5 + 5 + 3).saturating_add(STARTUP).saturating_add(RETRY);

/// Returns the maximum time to reach the expected state after the last fault.
pub fn recovery(sim: &Simulation) -> Duration {
    RECOVERY + sim.with(|world| world.model.recovery())
}

/// Tolerates deviations of everything, caused by a change within this time.
pub fn tolerate_all(sim: &Simulation, after: Duration) {
    let within = after + recovery(sim);
    sim.with(|world| world.oracle.tolerate_all(within));
}

/// Tolerates a difference between VPP and `maglevd`'s view of it, until the next comparison.
pub fn tolerate_difference(sim: &Simulation) {
    tolerate_all(sim, Duration::ZERO);
    let recovery = recovery(sim);
    sim.with(|world| world.oracle.tolerate_difference(world.model.sync_interval() + recovery));
}

/// Restarts the comparison after a reload, which may change its interval and its VIPs. It must not end later.
pub fn restart_comparison(sim: &Simulation) {
    let recovery = recovery(sim);
    sim.with(|world| world.oracle.expect_comparison_within(world.model.sync_interval() + recovery));
}

/// Restarts VPP after each crash.
pub async fn restart_dead_vpp(sim: Arc<Simulation>) {
    loop {
        sim.vpp_ended.notified().await;
        restart_vpp(&sim, sim.with(|world| world.vpp_away));
    }
}

/// Handles the exit of a process that crashed. A killed one is already removed.
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

/// Runs something after a time, and not without power.
pub fn run_later(sim: &Arc<Simulation>, after: Duration, what: fn(&Arc<Simulation>)) {
    let sim = Arc::clone(sim);
    tokio::spawn(async move {
        sleep(after).await;
        let powered_from = sim.with(|world| world.powered_from);
        sleep_until(powered_from).await;
        what(&sim);
    });
}

/// Resets the latency of the VPP links.
pub fn reset_vpp_latency(sim: &Arc<Simulation>) {
    let latency = Duration::from_millis(sim.with(|world| world.model.vpp_latency));
    sim.vpp_conditions().set(|now| now.latency = latency);
}

/// Starts an empty VPP.
pub fn start_vpp(sim: &Arc<Simulation>) {
    sim.trace("start  VPP");
    sim.with(|world| {
        if world.vpp.is_none() {
            world.vpp_starts += 1;
            world.vpp = Some(RunningVpp::start(world.vpp_starts, world.host.contained));
        }
    });
}

/// Starts the prober.
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

/// Starts `maglevd`.
pub fn start_controller(sim: &Arc<Simulation>) {
    if sim.with(|world| world.controller.is_none()) {
        sim.trace("start  maglevd");
        sim.with(SimWorld::expect_traffic_after_start);
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

/// Kills `maglevd`, and restarts it after a time.
pub fn crash_controller(sim: &Arc<Simulation>, away: Duration) {
    let Some(controller) = sim.with(|world| world.controller.take()) else { return };
    sim.trace("exit   maglevd");
    controller.kill(sim);
    tolerate_outage(sim, away);
    run_later(sim, away, start_controller);
}

/// Kills the prober, and restarts it after a time.
pub fn crash_prober(sim: &Arc<Simulation>, away: Duration) {
    let Some(prober) = sim.with(|world| world.prober.take()) else { return };
    sim.trace("exit   prober");
    prober.kill();
    tolerate_blind_probes(sim, away);
    run_later(sim, away, start_prober);
}

/// Kills VPP, and restarts it after a time.
pub fn restart_vpp(sim: &Arc<Simulation>, away: Duration) {
    let Some(mut vpp) = sim.with(|world| world.vpp.take()) else { return };
    sim.trace("exit   VPP");
    vpp.disconnect();
    sim.with(SimWorld::forget_traffic);
    tolerate_all(sim, away);
    run_later(sim, away, start_vpp);
}

/// Tolerates existing deviations for this time and the recovery after it.
pub fn tolerate_outage(sim: &Simulation, after: Duration) {
    let within = after + recovery(sim);
    sim.with(|world| world.oracle.tolerate_outage(within));
}

/// Tolerates existing deviations while probes give no verdicts. Also a `maglevd` that starts meanwhile must leave correct
/// frontends as they are: backends that VPP serves keep their weights until a verdict.
pub fn tolerate_blind_probes(sim: &Simulation, time: Duration) {
    tolerate_outage(sim, time);
    sim.with(|world| world.probes_blind_until = world.probes_blind_until.max(Instant::now() + time));
}

/// Tolerates deviations during a start of `maglevd`, which knows only later verdicts.
fn tolerate_start(sim: &Simulation) {
    sim.with(|world| {
        let now = Instant::now();
        let within = RECOVERY + world.model.recovery();
        world.starting_until = now + within;
        world.rejected_checks.reset_reported();
        let blind = world.probes_blind_until.saturating_duration_since(now);
        world.oracle.tolerate_outage(blind + within);
    });
}
