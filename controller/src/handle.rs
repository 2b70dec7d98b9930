//! How the rest of `maglevd` speaks to the task that owns the core's state.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use maglev_core::config::Config;
use maglev_core::event::Event;
use maglev_core::state::{By, Command, OperateError, Reason, State};
use maglev_core::time::Now;
use maglev_core::view::View;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;

use crate::overrides::PersistStatus;
use crate::vpp::{TrafficCounters, VppReading};

/// How many events a subscriber may lag behind before it loses the oldest.
pub const EVENT_BACKLOG: usize = 4096;

/// How long an operator waits for the disk, at most.
const PERSIST_TIMEOUT: Duration = Duration::from_secs(3);

/// What is asked of the task that owns the state.
#[derive(Debug)]
pub enum DriverRequest {
    /// All that is so at the moment.
    StateSnapshot(oneshot::Sender<Arc<StateSnapshot>>),
    /// Put this configuration in force, as somebody asked.
    Reload(Arc<Config>, String),
    /// What VPP has, read now. Dropped without an answer if there is no VPP.
    ReadVpp(oneshot::Sender<VppReading>),
    /// Compare everything with what VPP has, as somebody asked.
    Resync(String),
    /// An operator's command, answered by the number of what is to be on disk then.
    Operate(Command, By, oneshot::Sender<Result<u64, OperateError>>),
}

/// What can be asked about, by its whole name.
#[derive(Clone, Debug)]
pub enum NamedItem {
    /// A backend.
    Backend(String),
    /// A frontend.
    Frontend(String),
}

impl NamedItem {
    fn explain(&self, state: &State, now: Now) -> Option<Vec<Reason>> {
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

/// All that is so at one moment. It is shown from here, in the time of whoever asks: the task that owns the state only
/// parts with a clone of it.
#[derive(Debug)]
pub struct StateSnapshot {
    /// The moment.
    pub at: Now,
    /// The state, as it was then.
    pub state: State,
    /// Made for the first who asks for it, and shared with all others.
    view: OnceLock<Arc<View>>,
}

impl StateSnapshot {
    /// What is so in `state`.
    #[must_use]
    pub const fn new(state: State, at: Now) -> Self {
        Self { at, state, view: OnceLock::new() }
    }

    /// One that shows `view`, whatever is so in `state`.
    #[cfg(test)]
    pub fn showing(view: Arc<View>, state: State) -> Self {
        Self { at: view.at, state, view: view.into() }
    }

    /// Everything that can be shown.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(self.view.get_or_init(|| Arc::new(self.state.view(self.at))))
    }

    fn view_of(&self, subject: &NamedItem) -> Arc<View> {
        let whole = self.view.get().cloned();
        whole.unwrap_or_else(|| Arc::new(subject.view(&self.state, self.at)))
    }
}

/// A cheap handle on the task that owns the state.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<DriverRequest>,
    events: broadcast::Sender<Arc<Event>>,
    counters: watch::Sender<Option<Arc<TrafficCounters>>>,
    persisted: watch::Sender<PersistStatus>,
    /// Of reading VPP.
    turn: Arc<Semaphore>,
}

/// The turn of whoever reads VPP. The next one begins when this is dropped.
pub type VppReadPermit = OwnedSemaphorePermit;

/// The task that owns the state has ended: the daemon is going down.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("maglevd is shutting down")]
pub struct ShuttingDown;

impl Handle {
    /// A handle, and the end on which its requests arrive.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<DriverRequest>) {
        let (requests, receiver) = mpsc::channel(64);
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let (counters, _) = watch::channel(None);
        let (persisted, _) = watch::channel(PersistStatus::default());
        (Self { requests, events, counters, persisted, turn: Arc::new(Semaphore::new(1)) }, receiver)
    }

    /// Everything that can be shown, at this moment.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn view(&self) -> Result<Arc<View>, ShuttingDown> {
        let snapshot = self.snapshot().await?;
        // It fails only if the runtime goes down.
        spawn_blocking(move || snapshot.view()).await.map_err(|_| ShuttingDown)
    }

    /// As [`Self::view`], but of what is asked about alone, as far as it is there: it costs the same however much else
    /// there is.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn view_of(&self, subject: &NamedItem) -> Result<Arc<View>, ShuttingDown> {
        Ok(self.snapshot().await?.view_of(subject))
    }

    /// All that is so at this moment.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn snapshot(&self) -> Result<Arc<StateSnapshot>, ShuttingDown> {
        let (answer, snapshot) = oneshot::channel();
        self.requests.send(DriverRequest::StateSnapshot(answer)).await.map_err(|_| ShuttingDown)?;
        snapshot.await.map_err(|_| ShuttingDown)
    }

    /// Puts a configuration in force, as `who` asked.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn reload(&self, config: Arc<Config>, who: String) -> Result<(), ShuttingDown> {
        self.requests.send(DriverRequest::Reload(config, who)).await.map_err(|_| ShuttingDown)
    }

    /// Carries out an operator's command, and waits until it is on disk, but not for ever. The answer says why a restart
    /// would forget it; it is empty if it would not.
    ///
    /// # Errors
    /// [`ShuttingDown`]; or, inside, why the command was not carried out.
    pub async fn operate(
        &self,
        command: Command,
        by: By,
    ) -> Result<Result<String, OperateError>, ShuttingDown> {
        let (answer, done) = oneshot::channel();
        self.requests.send(DriverRequest::Operate(command, by, answer)).await.map_err(|_| ShuttingDown)?;
        Ok(match done.await.map_err(|_| ShuttingDown)? {
            Ok(number) => Ok(self.keep(number).await),
            Err(error) => Err(error),
        })
    }

    async fn keep(&self, number: u64) -> String {
        let mut persisted = self.persisted.subscribe();
        // That it is too late is told by what is known then.
        let _ = tokio::time::timeout(
            PERSIST_TIMEOUT,
            persisted.wait_for(|persisted| persisted.attempted >= number),
        )
        .await;
        let persisted = persisted.borrow();
        match persisted.error.as_str() {
            _ if persisted.number >= number => String::new(),
            "" => "the overrides have not been written down yet".into(),
            trouble => trouble.into(),
        }
    }

    /// Why a restart would forget the newest overrides; empty if it would not, as far as is known.
    #[must_use]
    pub fn unkept(&self) -> String {
        self.persisted.borrow().error.clone()
    }

    /// What is on disk, and when that changes.
    #[cfg(test)]
    pub fn persisted(&self) -> watch::Receiver<PersistStatus> {
        self.persisted.subscribe()
    }

    /// Says what is on disk.
    pub fn set_persisted(&self, persisted: PersistStatus) {
        self.persisted.send_replace(persisted);
    }

    /// Why something is as it is, the conclusion first; `None` if there is no such thing.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn explain(&self, subject: NamedItem) -> Result<Option<Vec<Reason>>, ShuttingDown> {
        let snapshot = self.snapshot().await?;
        let explain = move || subject.explain(&snapshot.state, snapshot.at);
        spawn_blocking(explain).await.map_err(|_| ShuttingDown)
    }

    /// What VPP has, read now; `None` if there is no VPP to be read. It is read for one at a time, in whose turn what is to be
    /// made of it is made: each reading has VPP's workers stand still, and what changes weights waits behind it.
    ///
    /// It needs no bound of its own: each of its calls ends within the client's limit, and a VPP whose answers only drip
    /// leaves the ping of every second unanswered behind them, which ends the connection, and the reading with it.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn read_vpp(&self) -> Result<Option<(VppReading, VppReadPermit)>, ShuttingDown> {
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| ShuttingDown)?;
        let (answer, reading) = oneshot::channel();
        self.requests.send(DriverRequest::ReadVpp(answer)).await.map_err(|_| ShuttingDown)?;
        // The turn lasts as long as the reading, whether or not somebody still waits for it.
        let read = tokio::spawn(async move { Some((reading.await.ok()?, turn)) });
        // It fails only if the runtime goes down.
        read.await.map_err(|_| ShuttingDown)
    }

    /// Has everything compared with what VPP has, and mended, as `who` asked.
    ///
    /// # Errors
    /// [`ShuttingDown`].
    pub async fn resync(&self, who: String) -> Result<(), ShuttingDown> {
        self.requests.send(DriverRequest::Resync(who)).await.map_err(|_| ShuttingDown)
    }

    /// How much traffic VPP has seen, as of the last reading; `None` while VPP is away, or does not tell.
    #[must_use]
    pub fn counters(&self) -> Option<Arc<TrafficCounters>> {
        self.counters.borrow().clone()
    }

    /// Says how much traffic VPP has seen, or that it is not known.
    pub fn set_counters(&self, counters: Option<TrafficCounters>) {
        self.counters.send_replace(counters.map(Arc::new));
    }

    /// What happens from now on. A receiver that lags by more than [`EVENT_BACKLOG`] loses the oldest, and is told.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Tells everyone who watches.
    pub fn publish(&self, event: Event) {
        // Nobody watching is no fault.
        let _ = self.events.send(Arc::new(event));
    }
}

#[cfg(test)]
mod tests {
    use maglev_core::dataplane::Actual;

    use super::*;

    /// Each reading has VPP's workers stand still, and a change of a weight waits behind it.
    #[tokio::test(start_paused = true)]
    async fn vpp_is_read_for_one_at_a_time_whoever_leaves() {
        let (handle, mut requests) = Handle::new();
        let ask = || {
            let handle = handle.clone();
            tokio::spawn(async move { handle.read_vpp().await.unwrap().is_some() })
        };
        let asked = [ask(), ask(), ask()];
        let Some(DriverRequest::ReadVpp(first)) = requests.recv().await else { panic!("nothing is read") };
        // Who has left is still being read for.
        asked[0].abort();
        let next = tokio::time::timeout(PERSIST_TIMEOUT, requests.recv()).await;
        assert!(next.is_err(), "{next:?}");
        drop(first);
        for _ in 1..asked.len() {
            let Some(DriverRequest::ReadVpp(answer)) = requests.recv().await else {
                panic!("nothing is read")
            };
            answer.send(VppReading { actual: Actual::default(), flows: Default::default() }).unwrap();
        }
        for one in asked.into_iter().skip(1) {
            assert!(one.await.unwrap());
        }
    }
}
