//! Client handle of the driver, the task that owns the core's state.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use maglev_core::config::Config;
use maglev_core::event::Event;
use maglev_core::state::{ExplanationLine, OperateError, OperatorCommand, Requester, State};
use maglev_core::time::Now;
use maglev_core::view::{View, VppView};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::published::{PersistStatus, TrafficCounters, VppReading};
use crate::readings::{ReadingBudget, ReadingError, ReadingFreshness, SharedReading, VppReadings};

/// Maximum number of events that a subscriber may lag behind before it loses the oldest.
pub const EVENT_BACKLOG: usize = 4096;

/// Maximum number of queued requests.
const REQUEST_BACKLOG: usize = 64;

/// Maximum time that an operator's call waits for the disk.
const PERSIST_TIMEOUT: Duration = Duration::from_secs(3);

/// Request to the driver.
#[derive(Debug)]
pub enum DriverRequest {
    /// Return a snapshot.
    Snapshot(oneshot::Sender<Arc<StateSnapshot>>),
    /// Put a configuration in force; with the requester.
    Reload(Arc<Config>, String),
    /// Read VPP's state. Without VPP the driver drops the sender.
    ReadVpp(oneshot::Sender<VppReading>),
    /// Verify everything in VPP; with the requester.
    Resync(String),
    /// Execute an operator's command. The answer is the number of the write that persists it.
    Operate(OperatorCommand, Requester, oneshot::Sender<Result<u64, OperateError>>),
}

/// Backend or frontend, by its full name.
#[derive(Clone, Debug)]
pub enum NamedItem {
    /// Backend.
    Backend(String),
    /// Frontend.
    Frontend(String),
}

impl NamedItem {
    fn explain(&self, state: &State, now: Now) -> Option<Vec<ExplanationLine>> {
        match self {
            Self::Backend(name) => state.explain_backend(name, now),
            Self::Frontend(name) => state.explain_frontend(name, now),
        }
    }

    fn view(&self, state: &State, now: Now) -> View {
        match self {
            Self::Backend(name) => state.view_of_backend(name, now),
            Self::Frontend(name) => state.view_of_frontend(name, now),
        }
    }
}

/// State at one moment. Readers render it on their own time; the driver only clones the state.
#[derive(Debug)]
pub struct StateSnapshot {
    /// Time of the snapshot.
    pub at: Now,
    /// State at that time.
    pub state: State,
    /// Rendered by the first reader, and shared with the others.
    view: OnceLock<Arc<View>>,
}

impl StateSnapshot {
    /// Wraps `state`.
    #[must_use]
    pub const fn new(state: State, at: Now) -> Self {
        Self { at, state, view: OnceLock::new() }
    }

    /// Returns a snapshot with a given view.
    #[cfg(test)]
    pub fn showing(view: Arc<View>, state: State) -> Self {
        Self { at: view.at, state, view: view.into() }
    }

    /// Returns the view of everything.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(self.view.get_or_init(|| Arc::new(self.state.view(self.at))))
    }

    /// Returns the view of VPP.
    pub fn vpp(&self) -> VppView {
        self.view.get().map_or_else(|| self.state.vpp_view(), |view| view.vpp.clone())
    }

    fn view_of(&self, subject: &NamedItem) -> Arc<View> {
        let whole = self.view.get().cloned();
        whole.unwrap_or_else(|| Arc::new(subject.view(&self.state, self.at)))
    }
}

/// Reader of snapshots, for tasks that need nothing else of the driver.
#[derive(Clone, Debug)]
pub struct StateReader(mpsc::Sender<DriverRequest>);

impl StateReader {
    /// Returns a snapshot of the current state.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn snapshot(&self) -> Result<Arc<StateSnapshot>, ShuttingDown> {
        let (answer, snapshot) = oneshot::channel();
        self.0.send(DriverRequest::Snapshot(answer)).await.map_err(|_| ShuttingDown)?;
        snapshot.await.map_err(|_| ShuttingDown)
    }
}

/// Cheap, cloneable handle for the clients of the driver: gRPC, the metrics endpoint and reloads.
#[derive(Clone, Debug)]
pub struct Handle {
    state: StateReader,
    events: broadcast::Sender<Arc<Event>>,
    counters: watch::Receiver<Option<Arc<TrafficCounters>>>,
    persist_status: watch::Receiver<PersistStatus>,
    readings: VppReadings,
}

/// Other ends of a handle's channels, one for each task that answers or publishes.
#[derive(Debug)]
pub struct HandleEnds {
    /// Requests, for the driver.
    pub requests: mpsc::Receiver<DriverRequest>,
    /// Events, published by the driver.
    pub events: broadcast::Sender<Arc<Event>>,
    /// Traffic counters, published by VPP's link.
    pub counters: watch::Sender<Option<Arc<TrafficCounters>>>,
    /// Persist status, published by the persister.
    pub persist_status: watch::Sender<PersistStatus>,
    /// Budget for readings of VPP, charged by VPP's link.
    pub reading_budget: Arc<ReadingBudget>,
}

/// Error of a request after the driver has ended: the daemon is shutting down.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("maglevd is shutting down")]
pub struct ShuttingDown;

impl Handle {
    /// Returns a handle, and the other ends of its channels.
    #[must_use]
    pub fn new() -> (Self, HandleEnds) {
        let (requests, receiver) = mpsc::channel(REQUEST_BACKLOG);
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let (counters_sender, counters) = watch::channel(None);
        let (status_sender, persist_status) = watch::channel(PersistStatus::default());
        let readings = VppReadings::default();
        let ends = HandleEnds {
            requests: receiver,
            events: events.clone(),
            counters: counters_sender,
            persist_status: status_sender,
            reading_budget: Arc::clone(readings.budget()),
        };
        (Self { state: StateReader(requests), events, counters, persist_status, readings }, ends)
    }

    /// Returns the part of the handle that only reads state.
    #[must_use]
    pub fn state(&self) -> StateReader {
        self.state.clone()
    }

    async fn request(&self, request: DriverRequest) -> Result<(), ShuttingDown> {
        self.state.0.send(request).await.map_err(|_| ShuttingDown)
    }

    /// Returns the view of everything.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn view(&self) -> Result<Arc<View>, ShuttingDown> {
        let snapshot = self.snapshot().await?;
        // Joining fails only when the runtime shuts down.
        spawn_blocking(move || snapshot.view()).await.map_err(|_| ShuttingDown)
    }

    /// Like [`Self::view`], but guarantees only the item `subject`. The cost does not depend on the number of other
    /// items.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn view_of(&self, subject: &NamedItem) -> Result<Arc<View>, ShuttingDown> {
        Ok(self.snapshot().await?.view_of(subject))
    }

    /// Returns a snapshot of the current state.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn snapshot(&self) -> Result<Arc<StateSnapshot>, ShuttingDown> {
        self.state.snapshot().await
    }

    /// Puts a configuration in force, as requested by `requester`.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn reload(&self, config: Arc<Config>, requester: String) -> Result<(), ShuttingDown> {
        self.request(DriverRequest::Reload(config, requester)).await
    }

    /// Executes an operator's command, and waits up to a bound until it is on disk. Returns the persist error, or an
    /// empty string once it is on disk.
    ///
    /// # Errors
    /// [`ShuttingDown`]; inside, the core's rejection.
    pub async fn operate(
        &self,
        command: OperatorCommand,
        by: Requester,
    ) -> Result<Result<String, OperateError>, ShuttingDown> {
        let (answer, done) = oneshot::channel();
        self.request(DriverRequest::Operate(command, by, answer)).await?;
        Ok(match done.await.map_err(|_| ShuttingDown)? {
            Ok(number) => Ok(self.wait_until_persisted(number).await),
            Err(error) => Err(error),
        })
    }

    /// Waits until the write `number` was attempted. Returns the reason for which a restart would lose it, if any.
    async fn wait_until_persisted(&self, number: u64) -> String {
        let mut status = self.persist_status.clone();
        let attempted = status.wait_for(|status| status.attempted >= number);
        // On timeout, report the current status.
        let _ = tokio::time::timeout(PERSIST_TIMEOUT, attempted).await;
        let status = status.borrow();
        match status.error.as_str() {
            _ if status.number >= number => String::new(),
            "" => "the overrides are not persisted yet".into(),
            error => error.into(),
        }
    }

    /// Returns the reason for which a restart would lose the newest overrides; empty if none is known.
    #[must_use]
    pub fn persist_error(&self) -> String {
        self.persist_status.borrow().error.clone()
    }

    /// Explains the state of an item, conclusion first; `None` if it is not configured.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn explain(&self, subject: NamedItem) -> Result<Option<Vec<ExplanationLine>>, ShuttingDown> {
        let snapshot = self.snapshot().await?;
        let explain = move || subject.explain(&snapshot.state, snapshot.at);
        spawn_blocking(explain).await.map_err(|_| ShuttingDown)
    }

    /// Returns a reading of VPP, shared with others as far as `freshness` permits.
    ///
    /// No timeout is needed. The client bounds each call, and a VPP that only trickles answers misses its pings,
    /// which ends the connection and the reading.
    ///
    /// # Errors
    /// [`ShuttingDown`]; inside, [`ReadingError`].
    pub async fn read_vpp(
        &self,
        freshness: ReadingFreshness,
    ) -> Result<Result<Arc<SharedReading>, ReadingError>, ShuttingDown> {
        let turn = self.readings.turn().await;
        let snapshot = self.snapshot().await?;
        let Some(reads) = snapshot.state.vpp_reads() else { return Ok(Err(ReadingError::NotConnected)) };
        match turn.find(freshness, reads) {
            Ok(None) => {}
            Ok(Some(found)) => return Ok(Ok(found)),
            Err(error) => return Ok(Err(error)),
        }
        let observed = snapshot.state.actual();
        drop(snapshot);
        let (began, (answer, reading)) = (Instant::now(), oneshot::channel());
        self.request(DriverRequest::ReadVpp(answer)).await?;
        Ok(turn.complete(began, reads, observed, reading).await)
    }

    /// Verifies and repairs everything in VPP, as requested by `requester`.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn resync(&self, requester: String) -> Result<(), ShuttingDown> {
        self.request(DriverRequest::Resync(requester)).await
    }

    /// Returns the newest traffic counters; `None` while VPP is away or they are unreadable.
    #[must_use]
    pub fn counters(&self) -> Option<Arc<TrafficCounters>> {
        self.counters.borrow().clone()
    }

    /// Subscribes to events. A receiver that lags by more than [`EVENT_BACKLOG`] loses the oldest, and learns the
    /// number.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Publishes an event to all subscribers.
    #[cfg(test)]
    pub fn publish(&self, event: Event) {
        let _ = self.events.send(Arc::new(event));
    }
}
