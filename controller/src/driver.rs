//! The task that owns the core's state: it waits for one thing, tells the core, and does what the core says.

use std::sync::{Arc, Weak};
use std::time::Duration;

use maglev_core::config::Config;
use maglev_core::event::Deed;
use maglev_core::overrides::Overrides;
use maglev_core::state::{Input, Output, State};
use maglev_core::time::Mono;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::handle::{DriverRequest, Handle, StateSnapshot};
use crate::metrics::{Metrics, SyncScope};
use crate::overrides::PendingWrite;
use crate::service_manager::Pulse;
use crate::{log, prober, vpp};

/// How many batches of inputs may wait. The prober's hold thousands of outcomes each, and whoever has taken it over may send
/// them without end: what waits here must not fill the memory.
pub const INPUT_BACKLOG: usize = 64;

/// The task that owns the core's state.
pub struct Driver<C> {
    clock: C,
    state: State,
    outputs: Vec<Output>,
    /// The newest, for as long as nothing has changed and somebody holds it. Whoever lets go of it last takes it apart,
    /// which is not to be done here.
    snapshot: Weak<StateSnapshot>,
    handle: Handle,
    metrics: Arc<Metrics>,
    inputs: mpsc::Receiver<Vec<Input>>,
    requests: mpsc::Receiver<DriverRequest>,
    prober: mpsc::UnboundedSender<prober::ProberCommand>,
    netns: watch::Sender<Option<String>>,
    vpp: Option<mpsc::UnboundedSender<vpp::VppCommand>>,
    keep: watch::Sender<PendingWrite>,
    pulse: Pulse,
}

/// The channels on which the driver hears and speaks.
pub struct DriverChannels {
    /// From the links.
    pub inputs: mpsc::Receiver<Vec<Input>>,
    /// From whoever asks.
    pub requests: mpsc::Receiver<DriverRequest>,
    /// To the prober's link.
    pub prober: mpsc::UnboundedSender<prober::ProberCommand>,
    /// The network namespace that probes are to run in.
    pub netns: watch::Sender<Option<String>>,
    /// To VPP's link; `None` when no VPP is to be programmed.
    pub vpp: Option<mpsc::UnboundedSender<vpp::VppCommand>>,
    /// To whoever writes down the overrides. It has those of the last run, which are on disk.
    pub keep: watch::Sender<PendingWrite>,
    /// To the service manager.
    pub pulse: Pulse,
}

impl<C: Clock> Driver<C> {
    /// The driver at the start of a configuration.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        handle: Handle,
        metrics: Arc<Metrics>,
        channels: DriverChannels,
        clock: C,
    ) -> Self {
        let DriverChannels { inputs, requests, prober, netns, vpp, keep, pulse } = channels;
        let mut outputs = Vec::new();
        let overrides = Arc::clone(&keep.borrow().1);
        metrics.sync_to_config(&config);
        let state = State::new(config, overrides, vpp.is_some(), clock.now(), &mut outputs);
        let mut driver = Self {
            clock,
            state,
            outputs,
            snapshot: Weak::new(),
            handle,
            metrics,
            inputs,
            requests,
            prober,
            netns,
            vpp,
            keep,
            pulse,
        };
        driver.dispatch(SyncScope::All);
        driver
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let wake = sleep(Duration::ZERO);
        tokio::pin!(wake);
        // When the timer is to end. It is set anew only when that changes, which outcomes seldom do.
        let mut set = None;
        loop {
            // Here, so that no flood of inputs keeps it from being said, and nothing else says it.
            self.pulse.turn(|| self.state.summary().to_string());
            let at = self.state.wake_at();
            if set != Some(at) {
                set = Some(at);
                wake.as_mut().reset(Instant::now() + self.until(at));
            }
            let pulse = pulse_due(self.pulse.next());
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
                () = pulse => {}
            }
        }
    }

    fn until(&self, at: Option<Mono>) -> Duration {
        const LONG: Duration = Duration::from_secs(3600);
        at.map_or(LONG, |at| at - self.clock.now().mono)
    }

    /// What a prober that never stops talking would otherwise hold up for ever: what is due, and who asks.
    fn run_overdue(&mut self) {
        if self.until(self.state.wake_at()).is_zero() {
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
            | Input::Listed(..)
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
            DriverRequest::StateSnapshot(answer) => {
                let new = || Arc::new(StateSnapshot::new(self.state.clone(), self.clock.now()));
                let snapshot = self.snapshot.upgrade().unwrap_or_else(new);
                self.snapshot = Arc::downgrade(&snapshot);
                // Whoever asked may have gone since.
                let _ = answer.send(snapshot);
            }
            DriverRequest::Reload(config, who) => {
                self.feed(Input::Asked(who, Deed::Reload));
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
                self.feed(Input::Asked(who, Deed::Sync));
                self.feed(Input::Resync);
            }
            DriverRequest::Operate(command, by, answer) => {
                self.snapshot = Weak::new();
                let result = self.state.operate(&command, &by, self.clock.now(), &mut self.outputs);
                self.dispatch(SyncScope::Vip);
                let _ = answer.send(result.map(|()| self.keep.borrow().0));
            }
        }
    }

    /// Has the overrides written down if they are others than before. They are whole each time, so whoever writes may skip
    /// some.
    fn keep_overrides(&mut self) {
        let now: &Arc<Overrides> = self.state.overrides();
        if !Arc::ptr_eq(&self.keep.borrow().1, now) {
            self.keep.send_modify(|(number, wanted)| (*number, *wanted) = (*number + 1, Arc::clone(now)));
        }
    }

    /// Does what the core says. A link that is gone takes nothing, and the daemon is going down.
    fn dispatch(&mut self, scope: SyncScope) {
        self.keep_overrides();
        for output in self.outputs.drain(..) {
            match output {
                Output::Checks(set) => _ = self.prober.send(prober::ProberCommand::Checks(set)),
                Output::Pace(check, interval) => {
                    _ = self.prober.send(prober::ProberCommand::Pace(check, interval))
                }
                Output::Event(event) => {
                    log::event(&event);
                    self.metrics.event(&event);
                    self.pulse.changed();
                    self.handle.publish(event);
                }
                Output::ReadAll
                | Output::List
                | Output::ReadServers(_)
                | Output::ReadVip(_)
                | Output::SetConf(_)
                | Output::Run(_) => {
                    if let Some(vpp) = &self.vpp {
                        let _ = vpp.send(vpp::VppCommand::Do(output, scope));
                    }
                }
            }
        }
    }
}

async fn pulse_due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
