//! `maglevd`: its tasks are the real ones; what is simulated is that somebody starts and ends them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use maglevd::handle::Handle;
use maglevd::overrides;
use maglevd::service_manager::Pulse;
use maglevd::tasks::{self, Environment, TaskConfig};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::process::Process;
use super::site::{Clocks, Site};
use super::wishes::Subject;
use super::{prober, vpp};

/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// A `maglevd` that runs.
pub struct Running {
    /// The process.
    pub process: Arc<Process>,
    /// What its clients have.
    pub handle: Handle,
    tasks: JoinSet<()>,
    listener: JoinHandle<()>,
    stop: CancellationToken,
}

impl Running {
    /// Starts one, with what is in the file and on the disk.
    pub fn start(site: &Arc<Site>) -> Self {
        let process = Process::new();
        let (config, disk) = site.with(|world| (Arc::clone(&world.config), world.disk.mount(&process)));
        let (store, overrides) = overrides::open(disk, PathBuf::from("state"));
        match site.with(|world| world.wishes.found(&overrides)) {
            Ok(changed) => changed.into_iter().for_each(|subject| site.with(|w| w.changes(subject))),
            Err(wrong) => site.violated(&wrong),
        }
        let (stop, mut set) = (CancellationToken::new(), JoinSet::new());
        let begin = TaskConfig {
            config,
            overrides,
            metrics: Arc::clone(&site.metrics),
            stats: PathBuf::new(),
            pulse: Pulse::default(),
        };
        let outside = Environment {
            clock: Clocks(Arc::clone(site)),
            prober: prober::Way { site: Arc::clone(site), process: Arc::clone(&process) },
            vpp: Some(vpp::Way { site: Arc::clone(site), process: Arc::clone(&process) }),
            store,
        };
        let handle = tasks::start(begin, outside, &mut set, stop.clone());
        let listener = tokio::spawn(listen(Arc::clone(site), handle.clone()));
        Self { process, handle, tasks: set, listener, stop }
    }

    /// Ends it without a word.
    pub fn kill(mut self, site: &Site) {
        self.process.die();
        self.complain(site);
        self.tasks.abort_all();
        self.listener.abort();
        site.with(|world| {
            world.wishes.lost();
            // The next one does not know whose they are.
            world.retired.clear();
        });
    }

    /// Ends it as a service manager would.
    pub async fn stop(mut self, site: &Site) {
        self.stop.cancel();
        let process = Arc::clone(&self.process);
        let all = async { while self.tasks.join_next().await.is_some_and(|end| end.is_ok()) {} };
        tokio::select! {
            biased;
            () = process.death() => {}
            ended = timeout(GRACE, all) => if ended.is_err() {
                site.violated("maglevd does not end");
            },
        }
        self.kill(site);
    }

    /// A task that ended was to go on.
    pub fn complain(&mut self, site: &Site) {
        while let Some(end) = self.tasks.try_join_next() {
            match end {
                Err(error) if error.is_panic() => {
                    site.violated(&format!("a task of maglevd panicked: {error}"));
                }
                Ok(()) if !self.stop.is_cancelled() && !self.process.is_dead() => {
                    site.violated("a task of maglevd ended by itself");
                }
                _ => {}
            }
        }
    }
}

/// Hears what it tells whoever watches.
async fn listen(site: Arc<Site>, handle: Handle) {
    let mut events = handle.events();
    drop(handle);
    loop {
        match events.recv().await {
            Ok(event) => site.heard(&event),
            Err(RecvError::Lagged(events)) => site.violated(&format!("{events} events were missed")),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Puts a question of an operator, and waits for the answer.
pub async fn operate(
    site: Arc<Site>,
    subject: Subject,
    command: maglev_core::state::OperatorCommand,
    (handle, process): (Handle, Arc<Process>),
) {
    let by = maglev_core::state::Requester { who: "an operator".to_owned(), ..Default::default() };
    let answer = handle.operate(command, by).await;
    if process.is_dead() {
        return;
    }
    match answer {
        Ok(Ok(trouble)) => {
            let kept = if trouble.is_empty() { "kept" } else { "not kept" };
            site.tell(&format!("answer {subject:?}: done, {kept}"));
            site.with(|world| {
                if world.wishes.done(subject, trouble.is_empty()) {
                    world.changes(subject);
                }
            });
        }
        Ok(Err(refused)) => {
            site.tell(&format!("answer {subject:?}: {refused:?}"));
            site.with(|world| world.wishes.refused(subject));
        }
        Err(_) => {}
    }
}
