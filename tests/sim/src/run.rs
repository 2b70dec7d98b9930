//! A run: injects the script's faults at their times, and expects that everything recovers in the end.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use super::inject::inject;
use super::lifecycle::{
    recovery, reset_vpp_latency, restart_dead_vpp, start_controller, start_prober, start_vpp, tolerate_all,
    tolerate_outage,
};
use super::script::FaultScript;
use super::simulation::Simulation;
use super::vpp_model::RunningVpp;
use super::world::{OperatorRequest, SimWorld};

/// Longest outage or impairment.
const LONGEST_OUTAGE: Duration = Duration::from_secs(25);
/// Maximum interval between two checks of the state.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Time without any change after the recovery.
const QUIET_TIME: Duration = Duration::from_secs(60);

/// The result of a run.
#[derive(Debug)]
pub struct RunReport {
    /// Violations; empty for a passing run.
    pub violations: Vec<String>,
    /// Events, line by line.
    pub trace: Vec<String>,
    /// Digest of the whole trace.
    pub digest: u64,
    /// Length in virtual time.
    pub simulated: Duration,
}

/// Runs a script.
///
/// # Errors
/// The runtime does not start, or the script's configuration is invalid.
pub fn run(script: &FaultScript) -> Result<RunReport, String> {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|error| error.to_string())?.block_on(run_script(script))
}

async fn run_script(script: &FaultScript) -> Result<RunReport, String> {
    let sim = Simulation::new(script)?;
    sim.trace(&format!("config {:?}", script.model));
    start(&sim);
    let story = async {
        let mut faults: Vec<_> = script.faults.iter().collect();
        faults.sort_by_key(|(at, _)| *at);
        for (at, fault) in faults {
            sleep_until(sim.instant(0) + *at).await;
            inject(&sim, fault).await;
        }
        end_faults(&sim).await;
    };
    tokio::select! {
        biased;
        () = sim.failed.notified() => {}
        () = story => sim.check_state(),
    }
    if sim.with(|world| !world.violations.is_empty()) {
        trace_state(&sim).await;
    }
    let simulated = sim.elapsed();
    let (violations, trace, digest) = sim.result();
    // Breaks the reference cycle between the simulation and its tasks.
    sim.with(SimWorld::drop_processes);
    Ok(RunReport { violations, trace, digest, simulated })
}

fn start(sim: &Arc<Simulation>) {
    tolerate_all(sim, Duration::ZERO);
    reset_vpp_latency(sim);
    start_vpp(sim);
    start_prober(sim);
    start_controller(sim);
    tokio::spawn(check_periodically(Arc::clone(sim)));
    tokio::spawn(restart_dead_vpp(Arc::clone(sim)));
    tokio::spawn(poll_operators(Arc::clone(sim)));
}

/// Ends all faults, and expects that everything recovers and stays correct.
async fn end_faults(sim: &Simulation) {
    sim.trace("faults end");
    sim.with(|world| {
        world.restore_routes(None);
        if let Some(vpp) = &mut world.vpp {
            vpp.clear_faults();
        }
        if let Some(controller) = &world.controller {
            controller.process.cancel_crash();
        }
        if let Some(prober) = &world.prober {
            prober.process.cancel_crash();
        }
    });
    tolerate_outage(sim, LONGEST_OUTAGE);
    let compared = sim.with(|world| world.oracle.latest_comparison());
    sleep(LONGEST_OUTAGE + recovery(sim)).await;
    sleep_until(compared).await;
    sim.trace("recovery ends");
    sleep(QUIET_TIME).await;
}

/// Adds `maglevd`'s own view to the trace.
async fn trace_state(sim: &Simulation) {
    let handle = sim.with(|world| world.controller.as_ref().map(|c| c.handle.clone()));
    let Some(handle) = handle else { return sim.trace("state  maglevd does not run") };
    let Ok(view) = handle.view().await else { return };
    for backend in &view.backends {
        let (name, health, counter) = (&backend.name, backend.health, backend.counter);
        sim.trace(&format!("state  {name} is {health}, counter {counter}"));
    }
    for frontend in &view.frontends {
        let members = frontend.pools.iter().flat_map(|pool| &pool.backends);
        let members: Vec<_> =
            members.map(|m| format!("{} {} (VPP {:?})", m.name, m.effective, m.in_vpp)).collect();
        let (name, state, released) = (&frontend.name, frontend.state, frontend.startup_done);
        sim.trace(&format!("state  {name} is {state}, released {released}: {}", members.join(", ")));
    }
    let weights = sim.with(|world| world.vpp.as_ref().map(RunningVpp::weights));
    sim.trace(&format!("state  VPP has {weights:?}"));
}

/// Polls operators' requests in order of arrival, because wakers of one event fire in no order.
async fn poll_operators(sim: Arc<Simulation>) {
    let mut asking: Vec<OperatorRequest> = Vec::new();
    loop {
        let all = poll_fn(|context| {
            asking.retain_mut(|operator| operator.as_mut().poll(context).is_pending());
            Poll::<()>::Pending
        });
        tokio::select! {
            biased;
            () = sim.operator_waiting.notified() => {}
            () = all => {}
        }
        asking.append(&mut sim.with(|world| std::mem::take(&mut world.operators)));
    }
}

/// Checks the state periodically.
async fn check_periodically(sim: Arc<Simulation>) {
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        sim.check_state();
        let controller = sim.with(|world| world.controller.take());
        if let Some(mut controller) = controller {
            controller.check_tasks(&sim);
            sim.with(|world| world.controller = Some(controller));
        }
    }
}
