//! The lives of the processes: how they begin and end, and what that excuses.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::process::Process;
use super::shape::{Check, STARTUP};
use super::site::{Site, World};
use super::{controller, prober, vpp};

/// What VPP has refused is tried again after this at the latest.
const RETRY: Duration = Duration::from_secs(30);
/// A link is sought again, silence is noticed, a connection that hangs is given up, a warm-up ends, and what was refused
/// is tried again.
const RECOVERY: Duration = Duration::from_secs(5 + 5 + 3).saturating_add(STARTUP).saturating_add(RETRY);

/// How long it takes at most until all is as it should be, once what was faulty is sound.
pub fn recovery(site: &Site) -> Duration {
    RECOVERY + site.with(|world| world.shape.recovery())
}

/// What everything should be, or what it is, changes, after this time at the latest.
pub fn changes_all(site: &Site, after: Duration) {
    let within = after + recovery(site);
    site.with(|world| world.oracle.changes_all(within));
}

/// VPP may have something else than `maglevd` takes it to have, until that is compared.
pub fn differs(site: &Site) {
    changes_all(site, Duration::ZERO);
    let recovery = recovery(site);
    site.with(|world| world.oracle.differs(world.shape.sync_interval() + recovery));
}

/// Another file may say how often that is compared, and of how many VIPs: it begins anew, but no later.
pub fn compares_anew(site: &Site) {
    let recovery = recovery(site);
    site.with(|world| world.oracle.compares_within(world.shape.sync_interval() + recovery));
}

/// Buries each VPP that has died by itself.
pub async fn bury_vpp(site: Arc<Site>) {
    loop {
        site.vpp_ended.notified().await;
        restart_vpp(&site, site.with(|world| world.vpp_away));
    }
}

/// Buries a process when it has died by itself; one that was killed is gone already.
fn bury(
    site: &Arc<Site>,
    process: &Arc<Process>,
    which: fn(&World) -> Option<&Arc<Process>>,
    how: fn(&Arc<Site>),
) {
    let (site, process) = (Arc::clone(site), Arc::clone(process));
    tokio::spawn(async move {
        process.death().await;
        if site.with(|world| which(world).is_some_and(|now| Arc::ptr_eq(now, &process))) {
            how(&site);
        }
    });
}

/// Does something after a while, and when there is power.
pub fn later(site: &Arc<Site>, after: Duration, what: fn(&Arc<Site>)) {
    let site = Arc::clone(site);
    tokio::spawn(async move {
        sleep(after).await;
        let power = site.with(|world| world.power);
        sleep_until(power).await;
        what(&site);
    });
}

/// What is said to VPP, and by it, is no later than it is in fair weather.
pub fn fair_vpp(site: &Arc<Site>) {
    let latency = Duration::from_millis(site.with(|world| world.shape.vpp_latency));
    site.vpp_weather().set(|now| now.latency = latency);
}

/// VPP starts, empty.
pub fn start_vpp(site: &Arc<Site>) {
    site.tell("start  VPP");
    site.with(|world| {
        if world.vpp.is_none() {
            world.vpp_lives += 1;
            world.vpp = Some(vpp::Running::start(world.vpp_lives, world.host.contained));
        }
    });
}

/// The prober starts.
pub fn start_prober(site: &Arc<Site>) {
    if site.with(|world| world.prober.is_none()) {
        site.tell("start  prober");
        let prober = prober::Running::start(site);
        bury(
            site,
            &prober.process,
            |world| world.prober.as_ref().map(|p| &p.process),
            |site| {
                crash_prober(site, site.with(|world| world.prober_away));
            },
        );
        site.with(|world| world.prober = Some(prober));
    }
}

/// `maglevd` starts.
pub fn start_controller(site: &Arc<Site>) {
    if site.with(|world| world.controller.is_none()) {
        site.tell("start  maglevd");
        starting(site);
        let controller = controller::Running::start(site);
        bury(
            site,
            &controller.process,
            |world| world.controller.as_ref().map(|c| &c.process),
            |site| {
                crash_controller(site, site.with(|world| world.controller_away));
            },
        );
        site.with(|world| world.controller = Some(controller));
    }
}

/// `maglevd` is killed, and starts again after a while.
pub fn crash_controller(site: &Arc<Site>, away: Duration) {
    let Some(controller) = site.with(|world| world.controller.take()) else { return };
    site.tell("died   maglevd");
    controller.kill(site);
    disturbed(site, away);
    later(site, away, start_controller);
}

/// The prober is killed, and starts again after a while.
pub fn crash_prober(site: &Arc<Site>, away: Duration) {
    let Some(prober) = site.with(|world| world.prober.take()) else { return };
    site.tell("died   prober");
    prober.kill();
    blinded(site, away);
    later(site, away, start_prober);
}

/// VPP ends, and starts again after a while.
pub fn restart_vpp(site: &Arc<Site>, away: Duration) {
    let Some(mut vpp) = site.with(|world| world.vpp.take()) else { return };
    site.tell("died   VPP");
    vpp.hang_up();
    changes_all(site, away);
    later(site, away, start_vpp);
}

/// For this time, and until all has found together again, nothing is done about what is wrong.
pub fn disturbed(site: &Site, after: Duration) {
    let within = after + recovery(site);
    site.with(|world| world.oracle.disturbed(within));
}

/// Probes tell nothing for this time. While `maglevd` starts, backends may still be unknown when its patience ends.
pub fn blinded(site: &Site, time: Duration) {
    disturbed(site, time);
    site.with(|world| {
        world.blind = world.blind.max(Instant::now() + time);
        if Instant::now() < world.starting {
            let within = time + RECOVERY + world.shape.recovery();
            world.oracle.changes_all(within);
        }
    });
}

/// `maglevd` starts: what it knows, it hears from now on.
fn starting(site: &Site) {
    site.with(|world| {
        let now = Instant::now();
        let within = RECOVERY + world.shape.recovery();
        world.starting = now + within;
        world.refusals.forget();
        if let Some(blind) = world.blind.checked_duration_since(now).filter(|left| !left.is_zero()) {
            world.oracle.changes_all(blind + within);
        }
        for backend in 0..world.shape.backends.len() {
            let check = world.shape.backends[backend].map(|check| &world.shape.checks[check]);
            if check.is_some_and(|check| outlast_warm_up(check, world.losing(backend)))
                || world.refusals.has(world.shape.server(backend))
            {
                world.backend_changes(backend, within);
            }
        }
    });
}

/// Whether a backend that loses so many probes may still be unknown when the warm-up ends, and then has no weight.
pub fn outlast_warm_up(check: &Check, probes: u32) -> bool {
    probes > 0 && check.longest() * (probes + 1) >= STARTUP
}
