//! What is said to happen happens; and what that excuses, and for how long.

use std::sync::Arc;
use std::time::Duration;

use maglev_core::health::BackendAction;
use maglev_core::state::OperatorCommand;
use tokio::time::Instant;

use super::controller;
use super::lives::{
    blinded, changes_all, compares_anew, crash_controller, crash_prober, differs, disturbed, fair_vpp, later,
    outlast_warm_up, restart_vpp, start_controller,
};
use super::pipe::FAIR;
use super::script::{Deed, Meddling};
use super::shape::Edit;
use super::site::{Site, World};
use super::truth::Being;
use super::vpp::Running;
use super::wishes::Subject;

/// How long a refusal of VPP's lasts at most.
const REFUSAL: Duration = Duration::from_secs(20);
/// How long an operator waits for the disk, and the service manager for the end of a daemon.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lets it happen.
pub async fn act(site: &Arc<Site>, deed: &Deed) {
    site.tell(&format!("deed   {deed:?}"));
    match deed {
        Deed::Begin(_) => {}
        Deed::Server(server, being) => site.with(|world| change(world, *server, *being)),
        Deed::Lose(server, probes) => site.with(|world| lose(world, *server, *probes)),
        Deed::Lossy(server, percent, time) => site.with(|world| lossy(world, *server, *percent, *time)),
        Deed::Blackout(time) => site.with(|world| {
            (0..world.shape.backends.len()).for_each(|server| lossy(world, server, 100, *time));
        }),
        Deed::Local(time) => {
            site.with(|world| world.truth.blind(*time));
            blinded(site, *time);
        }
        Deed::CrashController(None, away) => crash_controller(site, *away),
        Deed::CrashController(Some(effects), away) => site.with(|world| {
            world.controller_away = *away;
            world.controller.iter().for_each(|controller| controller.process.light(*effects));
        }),
        Deed::StopController(away) => stop_controller(site, *away),
        Deed::Upgrade(away) => {
            crash_controller(site, *away);
            crash_prober(site, *away);
        }
        Deed::CutPower(away) => cut_power(site, *away),
        Deed::CrashProber(None, away) => crash_prober(site, *away),
        Deed::CrashProber(Some(effects), away) => site.with(|world| {
            world.prober_away = *away;
            world.prober.iter().for_each(|prober| prober.process.light(*effects));
        }),
        Deed::FreezeProber(time) => {
            site.with(|world| world.prober_frozen = Instant::now() + *time);
            blinded(site, *time);
        }
        Deed::StallProber(hears, time) => {
            let (to, from) = site.prober_weather();
            let weather = if *hears { from } else { to };
            weather.set(|now| now.stalled = Instant::now() + *time);
            blinded(site, *time);
        }
        Deed::SlowProber(latency, time) => {
            prober_latency(site, *latency);
            blinded(site, *time);
            later(site, *time, |site| prober_latency(site, FAIR));
        }
        Deed::CutProber => {
            if let Some((to, from)) = site.with(|world| world.prober_link.take()) {
                to.cut();
                from.cut();
            }
            blinded(site, Duration::ZERO);
        }
        Deed::RestartVpp(None, away) => restart_vpp(site, *away),
        Deed::RestartVpp(Some(messages), away) => {
            site.with(|world| world.vpp_away = *away);
            to_vpp(site, |vpp| vpp.fuse = Some(*messages + 1));
        }
        Deed::HangVpp(time) => {
            to_vpp(site, |vpp| vpp.hung = Instant::now() + *time);
            disturbed(site, *time);
        }
        Deed::SlowVpp(latency, time) => {
            site.vpp_weather().set(|now| now.latency = *latency);
            disturbed(site, *time + Duration::from_secs(10));
            later(site, *time, fair_vpp);
        }
        Deed::CutVpp => {
            to_vpp(site, Running::hang_up);
            disturbed(site, Duration::ZERO);
        }
        Deed::DarkenStats(time, delay) => {
            site.with(|world| world.stats_fail = (Instant::now() + *time, *delay));
        }
        Deed::RefuseVpp(name, times) => {
            to_vpp(site, |vpp| vpp.refuse(name, *times, Instant::now() + REFUSAL));
            disturbed(site, REFUSAL);
        }
        Deed::RefuseVppFor(name, time) => {
            to_vpp(site, |vpp| vpp.refuse(name, usize::MAX, Instant::now() + *time));
            disturbed(site, *time);
        }
        Deed::SpoilVpp(how) => {
            to_vpp(site, |vpp| vpp.spoil(*how));
            // A record of a list may be the one that is missed.
            differs(site);
        }
        Deed::MeddleVpp(what) => meddle(site, *what),
        Deed::Operate(backend, action) => operate_backend(site, *backend, *action),
        Deed::OperateAll(backends, action) => {
            for backend in (0..6).filter(|backend| backends >> backend & 1 == 1) {
                operate_backend(site, backend, *action);
            }
        }
        Deed::Weigh(frontend, backend, weight) => weigh(site, *frontend, *backend, *weight),
        Deed::Resync => {
            if let Some(handle) = site.with(|world| world.controller.as_ref().map(|c| c.handle.clone())) {
                let _ = handle.resync("an operator".into()).await;
            }
        }
        Deed::Reload(edit) => reload(site, edit).await,
        Deed::Clock(seconds) => site.with(|world| world.wall += seconds),
        Deed::Disk(errno, calls) => site.with(|world| world.disk.fail(*errno, *calls)),
    }
}

fn change(world: &mut World, backend: usize, being: Being) {
    let Some(Some(_)) = world.shape.backends.get(backend) else { return };
    let server = world.shape.server(backend);
    let was_well = world.truth.is_well(server);
    world.truth.set(server, being);
    if was_well != being.is_well() {
        world.server_changes(server, Duration::ZERO);
    }
}

fn lossy(world: &mut World, backend: usize, percent: u8, time: Duration) {
    let server = world.shape.server(backend);
    world.truth.lossy(server, percent, time);
    world.server_changes(server, time);
}

/// Probes are lost; fewer than `fall` of them must not show.
fn lose(world: &mut World, backend: usize, probes: u32) {
    let Some(Some(_)) = world.shape.backends.get(backend) else { return };
    let server = world.shape.server(backend);
    for backend in world.shape.backends_on(server) {
        let Some(check) = world.shape.backends[backend] else { continue };
        let check = world.shape.checks[check].clone();
        let frontends = world.shape.frontends_of(backend);
        let time = check.longest() * (probes + 1) + check.notice();
        let calm = world.oracle.tolerates(backend, &frontends, time);
        let starts = Instant::now() < world.starting && outlast_warm_up(&check, probes);
        if !calm || starts || probes >= check.fall || !world.truth.is_well(server) {
            world.backend_changes(backend, time);
        }
    }
    world.truth.lose(server, probes);
}

fn stop_controller(site: &Arc<Site>, away: Duration) {
    let Some(controller) = site.with(|world| world.controller.take()) else { return };
    disturbed(site, away + PATIENCE);
    let site = Arc::clone(site);
    tokio::spawn(async move {
        controller.stop(&site).await;
        later(&site, away, start_controller);
    });
}

fn cut_power(site: &Arc<Site>, away: Duration) {
    site.with(|world| world.power = Instant::now() + away);
    crash_controller(site, away);
    crash_prober(site, away);
    restart_vpp(site, away);
    site.with(|world| world.disk.cut_power());
}

fn prober_latency(site: &Arc<Site>, latency: Duration) {
    let (to, from) = site.prober_weather();
    for weather in [&to, &from] {
        weather.set(|now| now.latency = latency);
    }
}

fn to_vpp(site: &Site, change: impl FnOnce(&mut Running)) {
    site.with(|world| world.vpp.as_mut().map(change));
}

fn meddle(site: &Site, what: Meddling) {
    let crash = site.with(|world| world.vpp.as_mut().and_then(|vpp| vpp.meddle(what).err()));
    if let Some(crash) = crash {
        site.violated(&format!("the simulation has killed VPP: {}", crash.0));
    }
    differs(site);
}

fn operate_backend(site: &Arc<Site>, backend: usize, action: BackendAction) {
    let subject = site.with(|world| {
        world.shape.backends.get(backend)?;
        let subject = world.wishes.ask(backend, action)?;
        world.backend_changes(backend, PATIENCE);
        Some(subject)
    });
    if let Some(subject) = subject {
        operate(site, subject, OperatorCommand::Backend { name: format!("b{backend}").into(), action });
    }
}

fn weigh(site: &Arc<Site>, frontend: usize, backend: usize, weight: Option<u8>) {
    let slot = site.with(|world| {
        let pools = &world.shape.frontends.get(frontend)?.pools;
        let pool = pools.iter().position(|members| members.contains_key(&backend))?;
        let subject = world.wishes.weigh((frontend, pool, backend), weight)?;
        let within = PATIENCE + world.shape.slack();
        world.oracle.changes(frontend, within);
        Some((pool, subject))
    });
    if let Some((pool, subject)) = slot {
        let (frontend, pool) = (format!("f{frontend}").into(), format!("p{pool}").into());
        operate(
            site,
            subject,
            OperatorCommand::Weight { frontend, pool, backend: format!("b{backend}").into(), weight },
        );
    }
}

fn operate(site: &Arc<Site>, subject: Subject, command: OperatorCommand) {
    let controller = site.with(|world| {
        let found = world.controller.as_ref().map(|c| (c.handle.clone(), Arc::clone(&c.process)));
        if found.is_none() {
            world.wishes.refused(subject);
        }
        found
    });
    if let Some(controller) = controller {
        let asks = controller::operate(Arc::clone(site), subject, command, controller);
        site.with(|world| world.operators.push(Box::pin(asks)));
        site.asked.notify_one();
    }
}

async fn reload(site: &Site, edit: &Edit) {
    let done = site.with(|world| {
        let mut shape = world.shape.clone();
        shape.edit(edit);
        let config = shape.config()?;
        if world.controller.is_some() {
            world.retire(&shape);
        }
        (world.shape, world.config) = (shape, Arc::clone(&config));
        Ok::<_, String>((config, world.controller.as_ref().map(|c| c.handle.clone())))
    });
    let (config, handle) = match done {
        Ok(done) => done,
        Err(refused) => return site.tell(&format!("file   {refused}")),
    };
    // A file that says what it said before changes nothing.
    if !matches!(edit, Edit::Nothing) {
        changes_all(site, Duration::ZERO);
        if handle.is_some() {
            compares_anew(site);
        }
    }
    if let Some(handle) = handle {
        let _ = handle.reload(config, "an operator".into()).await;
    }
}
