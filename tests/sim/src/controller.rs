//! `maglevd`: its tasks are real. The simulation starts and ends them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use maglevd::handle::Handle;
use maglevd::service_manager::DriverStatus;
use maglevd::tasks::{self, Environment, TaskConfig};
use maglevd::{overrides, ownership};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::expected_overrides::OverrideTarget;
use super::process::SimProcess;
use super::running::RunningController;
use super::simulation::{SimClock, Simulation};
use super::{prober, vpp};

/// Maximum time for a clean exit.
const GRACE: Duration = Duration::from_secs(5);

impl RunningController {
    /// Starts `maglevd` with the current file and disk.
    pub fn start(sim: &Arc<Simulation>) -> Self {
        let process = SimProcess::new();
        let (config, disk) = sim.with(|world| (Arc::clone(&world.config), world.disk.mount(&process)));
        let (ownership, owned_vips) = ownership::open(disk.clone(), PathBuf::from("state"));
        // The model's disk has no lock that another process could hold.
        let Ok((store, overrides)) = overrides::open(disk, PathBuf::from("state")) else { unreachable!() };
        match sim.with(|world| world.expected_overrides.load(&overrides)) {
            Ok(changed) => changed.into_iter().for_each(|target| sim.with(|w| w.tolerate_target(target))),
            Err(violation) => sim.report_violation(&violation),
        }
        let (stop, mut set) = (CancellationToken::new(), JoinSet::new());
        let begin = TaskConfig {
            config,
            overrides,
            owned_vips,
            metrics: Arc::clone(&sim.metrics),
            stats: PathBuf::new(),
            driver_status: DriverStatus::default(),
        };
        let outside = Environment {
            clock: SimClock(Arc::clone(sim)),
            prober: prober::SimProberConnector { sim: Arc::clone(sim), process: Arc::clone(&process) },
            vpp: Some(vpp::SimVppConnector { sim: Arc::clone(sim), process: Arc::clone(&process) }),
            store,
            ownership,
        };
        let handle = tasks::start(begin, outside, &mut set, stop.clone());
        let listener = tokio::spawn(forward_events(Arc::clone(sim), handle.clone()));
        Self { process, handle, tasks: set, listener, stop }
    }

    /// Kills it.
    pub fn kill(mut self, sim: &Simulation) {
        self.process.kill();
        self.check_tasks(sim);
        self.tasks.abort_all();
        self.listener.abort();
        sim.with(|world| {
            world.expected_overrides.forget_requests();
            // The next instance does not know their owner.
            world.retired.clear();
        });
    }

    /// Stops it as a service manager does.
    pub async fn stop(mut self, sim: &Simulation) {
        self.stop.cancel();
        let process = Arc::clone(&self.process);
        let all = async { while self.tasks.join_next().await.is_some_and(|end| end.is_ok()) {} };
        tokio::select! {
            biased;
            () = process.exited() => {}
            ended = timeout(GRACE, all) => if ended.is_err() {
                sim.report_violation("maglevd does not exit");
            },
        }
        self.kill(sim);
    }

    /// Reports tasks that panicked or ended by themselves.
    pub fn check_tasks(&mut self, sim: &Simulation) {
        while let Some(end) = self.tasks.try_join_next() {
            match end {
                Err(error) if error.is_panic() => {
                    sim.report_violation(&format!("a task of maglevd panicked: {error}"));
                }
                Ok(()) if !self.stop.is_cancelled() && !self.process.has_exited() => {
                    sim.report_violation("a task of maglevd ended by itself");
                }
                _ => {}
            }
        }
    }
}

/// Receives its events.
async fn forward_events(sim: Arc<Simulation>, handle: Handle) {
    let mut events = handle.events();
    drop(handle);
    loop {
        match events.recv().await {
            Ok(event) => sim.on_event(&event),
            Err(RecvError::Lagged(events)) => sim.report_violation(&format!("{events} events were lost")),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Sends an operator's command, and waits for the answer.
pub async fn operate(
    sim: Arc<Simulation>,
    target: OverrideTarget,
    command: maglev_core::state::OperatorCommand,
    (handle, process): (Handle, Arc<SimProcess>),
) {
    let by = maglev_core::state::Requester { who: "an operator".to_owned(), ..Default::default() };
    let answer = handle.operate(command, by).await;
    if process.has_exited() {
        return;
    }
    match answer {
        Ok(Ok(trouble)) => {
            let persisted = if trouble.is_empty() { "persisted" } else { "not persisted" };
            sim.trace(&format!("answer {target:?}: done, {persisted}"));
            sim.with(|world| {
                if world.expected_overrides.apply(target, trouble.is_empty()) {
                    world.tolerate_target(target);
                }
            });
        }
        Ok(Err(refused)) => {
            sim.trace(&format!("answer {target:?}: {refused:?}"));
            sim.with(|world| world.expected_overrides.reject(target));
        }
        Err(_) => {}
    }
}
