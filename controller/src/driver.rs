//! Driver: the task that owns the core's state. It waits for one event, feeds it to the core, and carries out the
//! outputs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use maglev_core::config::Config;
use maglev_core::event::{AuditAction, Event};
use maglev_core::overrides::Overrides;
use maglev_core::ownership::OwnedVips;
use maglev_core::state::{Input, Output, State};
use maglev_core::time::MonoTime;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::handle::{DriverRequest, StateSnapshot};
use crate::log::EventLog;
use crate::metrics::{Metrics, SyncScope};
use crate::overrides::PendingWrite;
use crate::service_manager::DriverStatus;
use crate::vpp::IndexChange;
use crate::{prober, vpp};

/// Maximum number of queued input batches. A compromised prober can send batches of thousands of outcomes without
/// end; this bounds the memory.
pub const INPUT_BACKLOG: usize = 64;

/// Task that owns the core's state.
pub struct Driver<C> {
    clock: C,
    state: State,
    outputs: Vec<Output>,
    /// Newest snapshot while the state is unchanged and a reader holds it. Weak, so that a reader frees a large
    /// snapshot and not the driver's thread.
    snapshot: Weak<StateSnapshot>,
    events: broadcast::Sender<Arc<Event>>,
    index_changes: broadcast::Sender<IndexChange>,
    metrics: Arc<Metrics>,
    inputs: mpsc::Receiver<Vec<Input>>,
    requests: mpsc::Receiver<DriverRequest>,
    prober: mpsc::UnboundedSender<prober::ProberCommand>,
    netns: watch::Sender<Option<String>>,
    vpp: Option<mpsc::UnboundedSender<vpp::VppCommand>>,
    pending_write: watch::Sender<PendingWrite>,
    owned_vips: watch::Sender<OwnedVips>,
    driver_status: DriverStatus,
    log: EventLog,
}

/// Channels of the driver.
pub struct DriverChannels {
    /// Inputs from the links.
    pub inputs: mpsc::Receiver<Vec<Input>>,
    /// Requests from clients.
    pub requests: mpsc::Receiver<DriverRequest>,
    /// Events, for subscribers.
    pub events: broadcast::Sender<Arc<Event>>,
    /// Commands to the prober's link.
    pub prober: mpsc::UnboundedSender<prober::ProberCommand>,
    /// Network namespace in which probes run.
    pub netns: watch::Sender<Option<String>>,
    /// Commands to VPP's link; `None` without VPP.
    pub vpp: Option<mpsc::UnboundedSender<vpp::VppCommand>>,
    /// Changes that invalidate cached indexes of VPP's counters.
    pub index_changes: broadcast::Sender<IndexChange>,
    /// Overrides to persist. Starts with those of the last run, which are on disk.
    pub pending_write: watch::Sender<PendingWrite>,
    /// VIPs that are ours in VPP, to be saved. Starts with those of the last run.
    pub owned_vips: watch::Sender<OwnedVips>,
    /// Notifier of the service manager.
    pub driver_status: DriverStatus,
}

impl<C: Clock> Driver<C> {
    /// Starts the core with a configuration.
    #[must_use]
    pub fn new(config: Arc<Config>, metrics: Arc<Metrics>, channels: DriverChannels, clock: C) -> Self {
        let DriverChannels {
            inputs,
            requests,
            events,
            prober,
            netns,
            vpp,
            index_changes,
            pending_write,
            owned_vips,
            driver_status,
        } = channels;
        let mut outputs = Vec::new();
        let overrides = Arc::clone(&pending_write.borrow().1);
        metrics.sync_to_config(&config);
        let mut state = State::new(config, overrides, vpp.is_some(), clock.now(), &mut outputs);
        state.restore_ownership(owned_vips.borrow().clone());
        let mut driver = Self {
            clock,
            state,
            outputs,
            snapshot: Weak::new(),
            events,
            index_changes,
            metrics,
            inputs,
            requests,
            prober,
            netns,
            vpp,
            pending_write,
            owned_vips,
            driver_status,
            log: EventLog::default(),
        };
        driver.dispatch(SyncScope::All);
        driver
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let wake = sleep(Duration::ZERO);
        tokio::pin!(wake);
        // Deadline of the timer, kept to reset it only on a change; outcomes seldom change it.
        let mut set = None;
        loop {
            // The watchdog is fed here only, before each wait, so a flood of inputs cannot starve it.
            self.driver_status.poll(|| self.state.summary().to_string());
            self.log.report(Duration::from_nanos(self.clock.now().mono.0));
            let at = self.state.wake_at();
            if set != Some(at) {
                set = Some(at);
                wake.as_mut().reset(Instant::now() + self.time_until(at));
            }
            let notification = notification_due(self.driver_status.next_deadline());
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(inputs) = self.inputs.recv() => {
                    self.feed_all(inputs);
                    self.run_overdue();
                }
                Some(request) = self.requests.recv() => self.answer(request),
                () = &mut wake => {
                    set = None;
                    self.feed(Input::Tick);
                }
                () = notification => {}
            }
        }
    }

    fn time_until(&self, at: Option<MonoTime>) -> Duration {
        const LONG: Duration = Duration::from_secs(3600);
        at.map_or(LONG, |at| at - self.clock.now().mono)
    }

    /// Runs overdue timers and one request, so that a flood from the prober cannot starve them.
    fn run_overdue(&mut self) {
        if self.time_until(self.state.wake_at()).is_zero() {
            self.feed(Input::Tick);
        }
        if let Ok(request) = self.requests.try_recv() {
            self.answer(request);
        }
    }

    fn feed_all(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            self.feed(input);
        }
    }

    fn feed(&mut self, input: Input) {
        let scope = match input {
            Input::AllRead(_)
            | Input::VipsListed(..)
            | Input::ServersRead(..)
            | Input::VipRead(..)
            | Input::Reload(_) => SyncScope::All,
            _ => SyncScope::Vip,
        };
        self.snapshot = Weak::new();
        self.state.handle(input, self.clock.now(), &mut self.outputs);
        self.dispatch(scope);
    }

    fn answer(&mut self, request: DriverRequest) {
        match request {
            DriverRequest::Snapshot(answer) => {
                let new = || Arc::new(StateSnapshot::new(self.state.clone(), self.clock.now()));
                let snapshot = self.snapshot.upgrade().unwrap_or_else(new);
                self.snapshot = Arc::downgrade(&snapshot);
                // The requester may have gone.
                let _ = answer.send(snapshot);
            }
            DriverRequest::Reload(config, who) => {
                self.feed(Input::Audit(who, AuditAction::Reload));
                self.netns.send_if_modified(|netns| {
                    let changed = *netns != config.netns;
                    netns.clone_from(&config.netns);
                    changed
                });
                self.feed(Input::Reload(Arc::clone(&config)));
                self.metrics.sync_to_config(&config);
            }
            DriverRequest::ReadVpp(answer) => {
                if let Some(vpp) = &self.vpp {
                    let _ = vpp.send(vpp::VppCommand::Read(answer));
                }
            }
            DriverRequest::Resync(who) => {
                self.feed(Input::Audit(who, AuditAction::Sync));
                self.feed(Input::Resync);
            }
            DriverRequest::Operate(command, by, answer) => {
                self.snapshot = Weak::new();
                let result = self.state.operate(&command, &by, self.clock.now(), &mut self.outputs);
                self.dispatch(SyncScope::Vip);
                let _ = answer.send(result.map(|()| self.pending_write.borrow().0));
            }
        }
    }

    /// Sends changed overrides to the persister. Each update is complete, so the persister may skip some.
    fn persist_overrides(&mut self) {
        let now: &Arc<Overrides> = self.state.overrides();
        if !Arc::ptr_eq(&self.pending_write.borrow().1, now) {
            self.pending_write
                .send_modify(|(number, wanted)| (*number, *wanted) = (*number + 1, Arc::clone(now)));
        }
    }

    /// Sends changed VIPs to the writer.
    fn persist_ownership(&self) {
        let now = self.state.owned_vips();
        if !now.is_unchanged(&self.owned_vips.borrow()) {
            self.owned_vips.send_replace(now);
        }
    }

    /// Carries out the core's outputs. A send fails only during shutdown.
    fn dispatch(&mut self, scope: SyncScope) {
        self.persist_overrides();
        self.persist_ownership();
        for output in self.outputs.drain(..) {
            match output {
                Output::SetChecks(set) => _ = self.prober.send(prober::ProberCommand::Checks(set)),
                Output::SetInterval(check, interval) => {
                    _ = self.prober.send(prober::ProberCommand::Pace(check, interval));
                }
                Output::Event(event) => {
                    self.log.write(&event, Duration::from_nanos(self.clock.now().mono.0));
                    self.metrics.count_event(&event);
                    self.driver_status.changed();
                    // Both fail without subscribers.
                    if let Some(change) = IndexChange::of(&event.kind) {
                        let _ = self.index_changes.send(change);
                    }
                    let _ = self.events.send(Arc::new(event));
                }
                Output::ReadAll
                | Output::ListVips
                | Output::ReadServers(_)
                | Output::ReadVip(_)
                | Output::SetConf(_)
                | Output::Apply(_) => {
                    if let Some(vpp) = &self.vpp {
                        let _ = vpp.send(vpp::VppCommand::Do(output, scope));
                    }
                }
            }
        }
    }
}

async fn notification_due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
