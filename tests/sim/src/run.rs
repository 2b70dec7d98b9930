//! A run: what the script says happens when it says so, and in the end everything is to be as it should be.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use super::act::act;
use super::lives::{
    bury_vpp, changes_all, disturbed, fair_vpp, recovery, start_controller, start_prober, start_vpp,
};
use super::script::Script;
use super::site::{Operator, Site, World};
use super::vpp;

/// The longest that anything is away or ill.
const LONGEST: Duration = Duration::from_secs(25);
/// How often everything is held against what it should be, at least.
const LOOK: Duration = Duration::from_millis(250);
/// After all is well again, nothing may happen for so long.
const QUIET: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What was wrong; empty if nothing was.
    pub violations: Vec<String>,
    /// What happened, line by line.
    pub trace: Vec<String>,
    /// Of the whole trace.
    pub digest: u64,
    /// How long it was, in virtual time.
    pub simulated: Duration,
}

/// Runs a script.
///
/// # Errors
/// There is no runtime to be had, or the script's configuration is not allowed.
pub fn run(script: &Script) -> Result<Report, String> {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|error| error.to_string())?.block_on(play(script))
}

async fn play(script: &Script) -> Result<Report, String> {
    let site = Site::new(script)?;
    site.tell(&format!("shape  {:?}", script.shape));
    begin(&site);
    let story = async {
        let mut deeds: Vec<_> = script.deeds.iter().collect();
        deeds.sort_by_key(|(at, _)| *at);
        for (at, deed) in deeds {
            sleep_until(site.instant(0) + *at).await;
            act(&site, deed).await;
        }
        end(&site).await;
    };
    tokio::select! {
        biased;
        () = site.failed.notified() => {}
        () = story => site.check(),
    }
    if site.with(|world| !world.violations.is_empty()) {
        show(&site).await;
    }
    let simulated = site.elapsed();
    let (violations, trace, digest) = site.result();
    // What runs knows the site, and the site what runs.
    site.with(World::leave);
    Ok(Report { violations, trace, digest, simulated })
}

fn begin(site: &Arc<Site>) {
    changes_all(site, Duration::ZERO);
    fair_vpp(site);
    start_vpp(site);
    start_prober(site);
    start_controller(site);
    tokio::spawn(watch(Arc::clone(site)));
    tokio::spawn(bury_vpp(Arc::clone(site)));
    tokio::spawn(attend(Arc::clone(site)));
}

/// What was faulty is sound again, and everything is to become as it should be, and to stay so.
async fn end(site: &Site) {
    site.tell("faults end");
    site.with(|world| {
        if let Some(vpp) = &mut world.vpp {
            vpp.heal();
        }
        if let Some(controller) = &world.controller {
            controller.process.spare();
        }
        if let Some(prober) = &world.prober {
            prober.process.spare();
        }
    });
    disturbed(site, LONGEST);
    let compared = site.with(|world| world.oracle.compared());
    sleep(LONGEST + recovery(site)).await;
    sleep_until(compared).await;
    site.tell("all is to be well");
    sleep(QUIET).await;
}

/// What `maglevd` itself thinks.
async fn show(site: &Site) {
    let handle = site.with(|world| world.controller.as_ref().map(|c| c.handle.clone()));
    let Some(handle) = handle else { return site.tell("state  maglevd does not run") };
    let Ok(view) = handle.view().await else { return };
    for backend in &view.backends {
        let (name, health, counter) = (&backend.name, backend.health, backend.counter);
        site.tell(&format!("state  {name} is {health}, counter {counter}"));
    }
    for frontend in &view.frontends {
        let members = frontend.pools.iter().flat_map(|pool| &pool.backends);
        let members: Vec<_> =
            members.map(|m| format!("{} {} (VPP {:?})", m.name, m.effective, m.in_vpp)).collect();
        let (name, state, released) = (&frontend.name, frontend.state, frontend.startup_done);
        site.tell(&format!("state  {name} is {state}, released {released}: {}", members.join(", ")));
    }
    let weights = site.with(|world| world.vpp.as_ref().map(vpp::Running::weights));
    site.tell(&format!("state  VPP has {weights:?}"));
}

/// Lets operators ask and hear, in the order in which they came: who waits for the same thing is woken in no order.
async fn attend(site: Arc<Site>) {
    let mut asking: Vec<Operator> = Vec::new();
    loop {
        let all = poll_fn(|context| {
            asking.retain_mut(|operator| operator.as_mut().poll(context).is_pending());
            Poll::<()>::Pending
        });
        tokio::select! {
            biased;
            () = site.asked.notified() => {}
            () = all => {}
        }
        asking.append(&mut site.with(|world| std::mem::take(&mut world.operators)));
    }
}

/// Holds everything against what it should be, whether anything happens or not.
async fn watch(site: Arc<Site>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        site.check();
        let controller = site.with(|world| world.controller.take());
        if let Some(mut controller) = controller {
            controller.complain(&site);
            site.with(|world| world.controller = Some(controller));
        }
    }
}
