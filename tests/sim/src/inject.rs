//! Injection of faults, and the deviations that each fault makes tolerable.

use std::sync::Arc;
use std::time::Duration;

use maglev_core::health::BackendAction;
use maglev_core::state::OperatorCommand;
use tokio::time::Instant;

use super::config_model::ConfigEdit;
use super::controller;
use super::expected_overrides::OverrideTarget;
use super::fault::{ExternalChange, Fault};
use super::lifecycle::{
    crash_controller, crash_prober, reset_vpp_latency, restart_comparison, restart_vpp, run_later,
    start_controller, tolerate_all, tolerate_blind_probes, tolerate_difference, tolerate_outage,
};
use super::pipe::NORMAL_LATENCY;
use super::servers::ServerState;
use super::simulation::Simulation;
use super::vpp_model::RunningVpp;
use super::world::SimWorld;

/// Maximum duration of rejections by VPP.
const REFUSAL: Duration = Duration::from_secs(20);
/// Time for which an operator waits for the disk, and a service manager for a daemon's exit.
const PATIENCE: Duration = Duration::from_secs(5);

/// Injects a fault.
pub async fn inject(sim: &Arc<Simulation>, fault: &Fault) {
    sim.trace(&format!("fault  {fault:?}"));
    sim.with(SimWorld::forget_traffic);
    match fault {
        Fault::Initial(_) => {}
        Fault::Server(server, state) => sim.with(|world| change(world, *server, *state)),
        Fault::Lose(server, probes) => sim.with(|world| lose_probes(world, *server, *probes)),
        Fault::Lossy(server, percent, time) => sim.with(|world| set_loss(world, *server, *percent, *time)),
        Fault::Blackout(time) => sim.with(|world| {
            (0..world.model.backends.len()).for_each(|server| set_loss(world, server, 100, *time));
        }),
        Fault::WithdrawRoute(backend, time) => {
            if sim.with(|world| world.withdraw_route(*backend, *time)) {
                run_later(sim, *time, |sim| {
                    sim.with(|world| world.restore_routes(Some(Instant::now())));
                });
            }
        }
        Fault::BlockProbes(time) => {
            sim.with(|world| world.fleet.block_sending(*time));
            tolerate_blind_probes(sim, *time);
        }
        Fault::CrashController(None, away) => crash_controller(sim, *away),
        Fault::CrashController(Some(effects), away) => sim.with(|world| {
            world.controller_away = *away;
            world.controller.iter().for_each(|controller| controller.process.crash_after(*effects));
        }),
        Fault::StopController(away) => stop_controller(sim, *away),
        Fault::Upgrade(away) => {
            crash_controller(sim, *away);
            crash_prober(sim, *away);
        }
        Fault::CutPower(away) => cut_power(sim, *away),
        Fault::CrashProber(None, away) => crash_prober(sim, *away),
        Fault::CrashProber(Some(effects), away) => sim.with(|world| {
            world.prober_away = *away;
            world.prober.iter().for_each(|prober| prober.process.crash_after(*effects));
        }),
        Fault::FreezeProber(time) => {
            sim.with(|world| world.prober_frozen_until = Instant::now() + *time);
            tolerate_blind_probes(sim, *time);
        }
        Fault::StallProber(hears, time) => {
            let (to, from) = sim.prober_conditions();
            let conditions = if *hears { from } else { to };
            conditions.set(|now| now.stalled_until = Instant::now() + *time);
            tolerate_blind_probes(sim, *time);
        }
        Fault::SlowProber(latency, time) => {
            prober_latency(sim, *latency);
            tolerate_blind_probes(sim, *time);
            run_later(sim, *time, |sim| prober_latency(sim, NORMAL_LATENCY));
        }
        Fault::CutProber => {
            if let Some((to, from)) = sim.with(|world| world.prober_link.take()) {
                to.cut();
                from.cut();
            }
            tolerate_blind_probes(sim, Duration::ZERO);
        }
        Fault::RestartVpp(None, away) => restart_vpp(sim, *away),
        Fault::RestartVpp(Some(messages), away) => {
            sim.with(|world| world.vpp_away = *away);
            change_vpp(sim, |vpp| vpp.crash_after = Some(*messages + 1));
        }
        Fault::HangVpp(time) => {
            change_vpp(sim, |vpp| vpp.hung_until = Instant::now() + *time);
            tolerate_outage(sim, *time);
        }
        Fault::SlowVpp(latency, time) => {
            sim.vpp_conditions().set(|now| now.latency = *latency);
            tolerate_outage(sim, *time + Duration::from_secs(10));
            run_later(sim, *time, reset_vpp_latency);
        }
        Fault::CutVpp => {
            change_vpp(sim, RunningVpp::disconnect);
            tolerate_outage(sim, Duration::ZERO);
        }
        Fault::FailStats(time, delay) => {
            sim.with(|world| world.stats_failure = (Instant::now() + *time, *delay));
        }
        Fault::RejectVppRequests(name, times) => {
            change_vpp(sim, |vpp| vpp.reject(name, *times, Instant::now() + REFUSAL));
            tolerate_outage(sim, REFUSAL);
        }
        Fault::RejectVppRequestsFor(name, time) => {
            change_vpp(sim, |vpp| vpp.reject(name, usize::MAX, Instant::now() + *time));
            tolerate_outage(sim, *time);
        }
        Fault::CorruptVppReply(how) => {
            change_vpp(sim, |vpp| vpp.corrupt_reply(*how));
            // The lost reply may be a record of a dump.
            tolerate_difference(sim);
        }
        Fault::ChangeVppExternally(what) => change_externally(sim, *what),
        Fault::Operate(backend, action) => override_backend(sim, *backend, *action),
        Fault::OperateAll(backends, action) => {
            for backend in (0..6).filter(|backend| backends >> backend & 1 == 1) {
                override_backend(sim, backend, *action);
            }
        }
        Fault::SetWeight(frontend, backend, weight) => set_weight(sim, *frontend, *backend, *weight),
        Fault::Resync => {
            if let Some(handle) = sim.with(|world| world.controller.as_ref().map(|c| c.handle.clone())) {
                let _ = handle.resync("an operator".into()).await;
            }
        }
        Fault::Reload(edit) => reload(sim, edit).await,
        Fault::Clock(seconds) => sim.with(|world| world.wall_offset += seconds),
        Fault::Disk(errno, calls) => sim.with(|world| world.disk.fail(*errno, *calls)),
    }
}

fn change(world: &mut SimWorld, backend: usize, state: ServerState) {
    let Some(Some(_)) = world.model.backends.get(backend) else { return };
    let server = world.model.server(backend);
    let was_healthy = world.fleet.is_healthy(server);
    world.fleet.set(server, state);
    if was_healthy != state.is_healthy() {
        world.tolerate_server(server, Duration::ZERO);
    }
}

fn set_loss(world: &mut SimWorld, backend: usize, percent: u8, time: Duration) {
    let server = world.model.server(backend);
    world.fleet.set_loss(server, percent, time);
    world.tolerate_server(server, time);
}

/// Loses probes. Fewer than `fall` must have no effect.
fn lose_probes(world: &mut SimWorld, backend: usize, probes: u32) {
    let Some(Some(_)) = world.model.backends.get(backend) else { return };
    let server = world.model.server(backend);
    for backend in world.model.backends_on(server) {
        let Some(check) = world.model.backends[backend] else { continue };
        let check = world.model.checks[check].clone();
        let frontends = world.model.frontends_of(backend);
        let time = check.longest_interval() * (probes + 1) + check.detection_time();
        let calm = world.oracle.tolerate_loss(backend, &frontends, time);
        if !calm || probes >= check.fall || !world.fleet.is_healthy(server) {
            world.tolerate_backend(backend, time);
        }
    }
    world.fleet.drop_next(server, probes);
}

fn stop_controller(sim: &Arc<Simulation>, away: Duration) {
    let Some(controller) = sim.with(|world| world.controller.take()) else { return };
    tolerate_outage(sim, away + PATIENCE);
    let sim = Arc::clone(sim);
    tokio::spawn(async move {
        controller.stop(&sim).await;
        run_later(&sim, away, start_controller);
    });
}

fn cut_power(sim: &Arc<Simulation>, away: Duration) {
    sim.with(|world| world.powered_from = Instant::now() + away);
    crash_controller(sim, away);
    crash_prober(sim, away);
    restart_vpp(sim, away);
    sim.with(|world| world.disk.cut_power());
}

fn prober_latency(sim: &Arc<Simulation>, latency: Duration) {
    let (to, from) = sim.prober_conditions();
    for conditions in [&to, &from] {
        conditions.set(|now| now.latency = latency);
    }
}

fn change_vpp(sim: &Simulation, change: impl FnOnce(&mut RunningVpp)) {
    sim.with(|world| world.vpp.as_mut().map(change));
}

fn change_externally(sim: &Simulation, what: ExternalChange) {
    let crash = sim.with(|world| world.vpp.as_mut().and_then(|vpp| vpp.change_externally(what).err()));
    if let Some(crash) = crash {
        sim.report_violation(&format!("the simulation crashed VPP: {}", crash.0));
    }
    tolerate_difference(sim);
}

fn override_backend(sim: &Arc<Simulation>, backend: usize, action: BackendAction) {
    let target = sim.with(|world| {
        world.model.backends.get(backend)?;
        let target = world.expected_overrides.request(backend, action)?;
        world.tolerate_backend(backend, PATIENCE);
        Some(target)
    });
    if let Some(target) = target {
        operate(sim, target, OperatorCommand::Backend { name: format!("b{backend}").into(), action });
    }
}

fn set_weight(sim: &Arc<Simulation>, frontend: usize, backend: usize, weight: Option<u8>) {
    let slot = sim.with(|world| {
        let pools = &world.model.frontends.get(frontend)?.pools;
        let pool = pools.iter().position(|members| members.contains_key(&backend))?;
        let target = world.expected_overrides.request_weight((frontend, pool, backend), weight)?;
        let within = PATIENCE + world.model.apply_time();
        world.oracle.tolerate(frontend, within);
        Some((pool, target))
    });
    if let Some((pool, target)) = slot {
        let (frontend, pool) = (format!("f{frontend}").into(), format!("p{pool}").into());
        operate(
            sim,
            target,
            OperatorCommand::Weight { frontend, pool, backend: format!("b{backend}").into(), weight },
        );
    }
}

fn operate(sim: &Arc<Simulation>, target: OverrideTarget, command: OperatorCommand) {
    let controller = sim.with(|world| {
        let found = world.controller.as_ref().map(|c| (c.handle.clone(), Arc::clone(&c.process)));
        if found.is_none() {
            world.expected_overrides.reject(target);
        }
        found
    });
    if let Some(controller) = controller {
        let asks = controller::operate(Arc::clone(sim), target, command, controller);
        sim.with(|world| world.operators.push(Box::pin(asks)));
        sim.operator_waiting.notify_one();
    }
}

async fn reload(sim: &Simulation, edit: &ConfigEdit) {
    let done = sim.with(|world| {
        let mut model = world.model.clone();
        model.edit(edit);
        let config = model.config()?;
        world.expect_traffic(edit);
        if world.controller.is_some() {
            world.retire(&model);
        }
        (world.model, world.config) = (model, Arc::clone(&config));
        Ok::<_, String>((config, world.controller.as_ref().map(|c| c.handle.clone())))
    });
    let (config, handle) = match done {
        Ok(done) => done,
        Err(refused) => return sim.trace(&format!("file   {refused}")),
    };
    // An unchanged file changes nothing.
    if !matches!(edit, ConfigEdit::Nothing) {
        tolerate_all(sim, Duration::ZERO);
        if handle.is_some() {
            restart_comparison(sim);
        }
    }
    if let Some(handle) = handle {
        let _ = handle.reload(config, "an operator".into()).await;
    }
}
