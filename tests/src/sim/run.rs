//! A run: what the script says happens when it says so, and in the end everything is to be as it should be.

use std::sync::Arc;
use std::time::Duration;

use maglev_core::state::Command;
use tokio::runtime;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::process::Process;
use super::script::{Deed, Script};
use super::shape::{Edit, STARTUP, SYNC_INTERVAL};
use super::site::{Site, World};
use super::{controller, prober, vpp};

/// A link is sought again, silence is noticed, a connection that hangs is given up, a warm-up ends, and what was refused
/// is tried again.
const RECOVERY: Duration =
    Duration::from_secs(5 + 5 + 3).saturating_add(STARTUP).saturating_add(SYNC_INTERVAL);
/// How often everything is held against what it should be, at least.
const LOOK: Duration = Duration::from_millis(250);
/// How long a refusal of VPP's lasts at most.
const REFUSAL: Duration = Duration::from_secs(20);
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
    let stage = Stage { site: Arc::clone(&site) };
    stage.begin();
    let script = async {
        for (at, deed) in &script.deeds {
            sleep_until(site.instant(0) + *at).await;
            stage.act(deed).await;
        }
        stage.end().await;
    };
    tokio::select! {
        biased;
        () = site.failed.notified() => {}
        () = script => site.check(),
    }
    if site.with(|world| !world.violations.is_empty()) {
        stage.show().await;
    }
    let simulated = site.elapsed();
    let (violations, trace, digest) = site.result();
    // The last of what it runs knows the site.
    site.with(World::leave);
    Ok(Report { violations, trace, digest, simulated })
}

/// Who lets things happen.
struct Stage {
    site: Arc<Site>,
}

impl Stage {
    fn begin(&self) {
        let site = &self.site;
        self.changes_all(Duration::ZERO);
        fair_vpp(site);
        start_vpp(site);
        start_prober(site);
        start_controller(site);
        tokio::spawn(watch(Arc::clone(site)));
        tokio::spawn(bury_vpp(Arc::clone(site)));
    }

    /// What was faulty is sound again, and everything is to become as it should be, and to stay so.
    async fn end(&self) {
        self.site.tell("faults end");
        self.site.with(|world| {
            if let Some(vpp) = &mut world.vpp {
                vpp.heal();
            }
            if let Some(controller) = &world.controller {
                controller.process.light(u64::MAX);
            }
            if let Some(prober) = &world.prober {
                prober.process.light(u64::MAX);
            }
        });
        // The longest that anything is away or ill.
        self.disturbed(Duration::from_secs(25));
        sleep(Duration::from_secs(25) + self.recovery()).await;
        self.site.tell("all is to be well");
        sleep(QUIET).await;
    }

    fn recovery(&self) -> Duration {
        RECOVERY + self.site.with(|world| world.shape.recovery())
    }

    fn changes_all(&self, after: Duration) {
        let within = after + self.recovery();
        self.site.with(|world| world.oracle.changes_all(within));
    }

    fn disturbed(&self, after: Duration) {
        disturbed(&self.site, after);
    }

    /// Probes tell nothing for a while.
    fn blind(&self, time: Duration) {
        blinded(&self.site, time);
    }

    async fn act(&self, deed: &Deed) {
        let site = &self.site;
        site.tell(&format!("deed   {deed:?}"));
        match deed {
            Deed::Server(server, being) => site.with(|world| {
                let Some(Some(_)) = world.shape.backends.get(*server) else { return };
                let was_well = world.truth.is_well(*server);
                world.truth.set(*server, *being);
                if was_well != being.is_well() {
                    world.server_changes(*server, Duration::ZERO);
                }
            }),
            Deed::Lose(server, probes) => site.with(|world| lose(world, *server, *probes)),
            Deed::Lossy(server, percent, time) => {
                site.with(|world| {
                    world.truth.lossy(*server, *percent, *time);
                    world.server_changes(*server, *time);
                });
            }
            Deed::Blackout(time) => site.with(|world| {
                for server in 0..world.shape.backends.len() {
                    world.truth.lossy(server, 100, *time);
                    world.server_changes(server, *time);
                }
            }),
            Deed::Local(time) => {
                site.with(|world| world.truth.blind(*time));
                self.blind(*time);
            }
            Deed::CrashController(None, away) => crash_controller(site, *away),
            Deed::CrashController(Some(effects), away) => site.with(|world| {
                world.controller_away = *away;
                if let Some(controller) = &world.controller {
                    controller.process.light(*effects);
                }
            }),
            Deed::StopController(away) => {
                if let Some(controller) = site.with(|world| world.controller.take()) {
                    self.disturbed(*away + Duration::from_secs(5));
                    let (site, away) = (Arc::clone(site), *away);
                    tokio::spawn(async move {
                        controller.stop(&site).await;
                        later(&site, away, start_controller);
                    });
                }
            }
            Deed::CutPower(away) => self.cut_power(*away),
            Deed::CrashProber(None, away) => crash_prober(site, *away),
            Deed::CrashProber(Some(effects), away) => site.with(|world| {
                world.prober_away = *away;
                if let Some(prober) = &world.prober {
                    prober.process.light(*effects);
                }
            }),
            Deed::FreezeProber(time) => {
                site.with(|world| world.prober_frozen = Instant::now() + *time);
                self.blind(*time);
            }
            Deed::StallProber(hears, time) => {
                let (to, from) = site.prober_weather();
                let weather = if *hears { from } else { to };
                weather.set(|now| now.stalled = Instant::now() + *time);
                self.blind(*time);
            }
            Deed::SlowProber(latency, time) => {
                let (to, from) = site.prober_weather();
                for weather in [&to, &from] {
                    weather.set(|now| now.latency = *latency);
                }
                self.blind(*time);
                later(site, *time, |site| {
                    let (to, from) = site.prober_weather();
                    for weather in [&to, &from] {
                        weather.set(|now| now.latency = Duration::from_millis(1));
                    }
                });
            }
            Deed::CutProber => {
                if let Some((to, from)) = site.with(|world| world.prober_link.take()) {
                    to.cut();
                    from.cut();
                }
                self.blind(Duration::ZERO);
            }
            Deed::RestartVpp(None, away) => restart_vpp(site, *away),
            Deed::RestartVpp(Some(messages), away) => site.with(|world| {
                world.vpp_away = *away;
                if let Some(vpp) = &mut world.vpp {
                    vpp.fuse = Some(*messages + 1);
                }
            }),
            Deed::HangVpp(time) => {
                site.with(|world| {
                    if let Some(vpp) = &mut world.vpp {
                        vpp.hung = Instant::now() + *time;
                    }
                });
                self.disturbed(*time);
            }
            Deed::SlowVpp(latency, time) => {
                site.vpp_weather().set(|now| now.latency = *latency);
                self.disturbed(*time + Duration::from_secs(10));
                later(site, *time, |site| {
                    fair_vpp(site);
                });
            }
            Deed::CutVpp => {
                site.with(|world| {
                    if let Some(vpp) = &mut world.vpp {
                        vpp.hang_up();
                    }
                });
                self.disturbed(Duration::ZERO);
            }
            Deed::RefuseVpp(name, times) => {
                site.with(|world| {
                    if let Some(vpp) = &mut world.vpp {
                        vpp.refuse(name, *times, Instant::now() + REFUSAL);
                    }
                });
                self.disturbed(REFUSAL + SYNC_INTERVAL);
            }
            Deed::SpoilVpp(how) => {
                site.with(|world| {
                    if let Some(vpp) = &mut world.vpp {
                        vpp.spoil(*how);
                    }
                });
                // A record of a list may be the one that is missed.
                self.changes_all(SYNC_INTERVAL);
            }
            Deed::MeddleVpp(what) => {
                let crash = site.with(|world| world.vpp.as_mut().and_then(|vpp| vpp.meddle(*what).err()));
                if let Some(crash) = crash {
                    site.violated(&format!("the simulation has killed VPP: {}", crash.0));
                }
                self.changes_all(SYNC_INTERVAL);
            }
            Deed::Operate(backend, action) => {
                let name = format!("b{backend}").into();
                let subject = site.with(|world| {
                    let subject = world.wishes.ask(*backend, *action)?;
                    world.server_changes(*backend, Duration::from_secs(4));
                    Some(subject)
                });
                self.operate(subject, Command::Backend { name, action: *action });
            }
            Deed::Weigh(frontend, backend, weight) => {
                let slot = site.with(|world| {
                    let pools = &world.shape.frontends.get(*frontend)?.pools;
                    let pool = pools.iter().position(|members| members.contains_key(backend))?;
                    let subject = world.wishes.weigh((*frontend, pool, *backend), *weight)?;
                    let within = Duration::from_secs(4) + world.shape.slack();
                    world.oracle.changes(*frontend, within);
                    Some((pool, subject))
                });
                if let Some((pool, subject)) = slot {
                    let command = Command::Weight {
                        frontend: format!("f{frontend}").into(),
                        pool: format!("p{pool}").into(),
                        backend: format!("b{backend}").into(),
                        weight: *weight,
                    };
                    self.operate(Some(subject), command);
                }
            }
            Deed::Resync => {
                if let Some(handle) = site.with(|world| world.controller.as_ref().map(|c| c.handle.clone())) {
                    let _ = handle.resync("an operator".into()).await;
                }
            }
            Deed::Reload(edit) => self.reload(edit).await,
            Deed::Clock(seconds) => site.with(|world| world.wall += seconds),
            Deed::Disk(errno, calls) => site.with(|world| world.disk.fail(*errno, *calls)),
        }
    }

    fn operate(&self, subject: Option<super::wishes::Subject>, command: Command) {
        let Some(subject) = subject else { return };
        let controller = self.site.with(|world| {
            let found = world.controller.as_ref();
            let found = found.map(|c| (c.handle.clone(), Arc::clone(&c.process)));
            if found.is_none() {
                world.wishes.refused(subject);
            }
            found
        });
        if let Some(controller) = controller {
            tokio::spawn(controller::operate(Arc::clone(&self.site), subject, command, controller));
        }
    }

    async fn reload(&self, edit: &Edit) {
        let done = self.site.with(|world| {
            let mut shape = world.shape.clone();
            shape.edit(edit);
            let config = shape.config()?;
            (world.shape, world.config) = (shape, Arc::clone(&config));
            Ok::<_, String>((config, world.controller.as_ref().map(|c| c.handle.clone())))
        });
        match done {
            Err(refused) => self.site.tell(&format!("file   {refused}")),
            Ok((config, handle)) => {
                if !matches!(edit, Edit::Nothing) {
                    self.changes_all(Duration::ZERO);
                }
                if let Some(handle) = handle {
                    let _ = handle.reload(config, "an operator".into()).await;
                }
            }
        }
    }

    fn cut_power(&self, away: Duration) {
        let site = &self.site;
        site.with(|world| world.power = Instant::now() + away);
        crash_controller(site, away);
        crash_prober(site, away);
        restart_vpp(site, away);
        site.with(|world| world.disk.cut_power());
    }

    /// What `maglevd` itself thinks.
    async fn show(&self) {
        let handle = self.site.with(|world| world.controller.as_ref().map(|c| c.handle.clone()));
        let Some(handle) = handle else { return self.site.tell("state  maglevd does not run") };
        let Ok(view) = handle.view().await else { return };
        for backend in &view.backends {
            let (name, health, counter) = (&backend.name, backend.health, backend.counter);
            self.site.tell(&format!("state  {name} is {health}, counter {counter}"));
        }
        for frontend in &view.frontends {
            let members = frontend.pools.iter().flat_map(|pool| &pool.backends);
            let members: Vec<_> =
                members.map(|m| format!("{} {} (VPP {:?})", m.name, m.effective, m.in_vpp)).collect();
            let (name, state, released) = (&frontend.name, frontend.state, frontend.released);
            self.site.tell(&format!("state  {name} is {state}, released {released}: {}", members.join(", ")));
        }
        let weights = self.site.with(|world| world.vpp.as_ref().map(vpp::Running::weights));
        self.site.tell(&format!("state  VPP has {weights:?}"));
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

/// Buries each VPP that has died by itself.
async fn bury_vpp(site: Arc<Site>) {
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
fn later(site: &Arc<Site>, after: Duration, what: fn(&Arc<Site>)) {
    let site = Arc::clone(site);
    tokio::spawn(async move {
        sleep(after).await;
        let power = site.with(|world| world.power);
        sleep_until(power).await;
        what(&site);
    });
}

/// What is said to VPP, and by it, is no later than it is in fair weather.
fn fair_vpp(site: &Arc<Site>) {
    let latency = Duration::from_millis(site.with(|world| world.shape.vpp_latency));
    site.vpp_weather().set(|now| now.latency = latency);
}

fn start_vpp(site: &Arc<Site>) {
    site.tell("start  VPP");
    site.with(|world| {
        if world.vpp.is_none() {
            world.vpp_lives += 1;
            world.vpp = Some(vpp::Running::start(world.vpp_lives));
        }
    });
}

fn start_prober(site: &Arc<Site>) {
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

fn start_controller(site: &Arc<Site>) {
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

fn crash_controller(site: &Arc<Site>, away: Duration) {
    let Some(controller) = site.with(|world| world.controller.take()) else { return };
    site.tell("died   maglevd");
    controller.kill(site);
    disturbed(site, away);
    later(site, away, start_controller);
}

fn crash_prober(site: &Arc<Site>, away: Duration) {
    let Some(prober) = site.with(|world| world.prober.take()) else { return };
    site.tell("died   prober");
    prober.kill();
    blinded(site, away);
    later(site, away, start_prober);
}

fn restart_vpp(site: &Arc<Site>, away: Duration) {
    let Some(mut vpp) = site.with(|world| world.vpp.take()) else { return };
    site.tell("died   VPP");
    vpp.hang_up();
    let within = away + RECOVERY + site.with(|world| world.shape.recovery());
    site.with(|world| world.oracle.changes_all(within));
    later(site, away, start_vpp);
}

fn disturbed(site: &Site, after: Duration) {
    let within = after + RECOVERY + site.with(|world| world.shape.recovery());
    site.with(|world| world.oracle.disturbed(within));
}

/// Probes tell nothing for this time. While `maglevd` starts, backends may still be unknown when its patience ends.
fn blinded(site: &Site, time: Duration) {
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
        if let Some(blind) = world.blind.checked_duration_since(now).filter(|left| !left.is_zero()) {
            world.oracle.changes_all(blind + within);
        }
    });
}

/// Probes are lost; fewer than `fall` of them must not show.
fn lose(world: &mut World, server: usize, probes: u32) {
    let Some(Some(check)) = world.shape.backends.get(server) else { return };
    let check = world.shape.checks[*check].clone();
    let frontends = world.shape.frontends_of(server);
    let time = check.longest() * (probes + 1) + check.notice();
    let calm = world.oracle.tolerates(server, &frontends, time);
    if !calm || probes >= check.fall || !world.truth.is_well(server) {
        world.server_changes(server, time);
    }
    world.truth.lose(server, probes);
}
