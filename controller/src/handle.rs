//! How the rest of `maglevd` speaks to the task that owns the core's state.

use std::sync::Arc;
use std::time::Duration;

use maglev_core::config::Config;
use maglev_core::event::Event;
use maglev_core::state::{By, Command, OperateError, Reason, State};
use maglev_core::time::Now;
use maglev_core::view::View;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::overrides::Kept;
use crate::vpp::{Counters, Reading};

/// How many events a subscriber may lag behind before it loses the oldest.
pub const EVENT_BACKLOG: usize = 4096;

/// How long an operator waits for the disk, at most.
const KEEPING: Duration = Duration::from_secs(3);

/// What is asked of the task that owns the state.
#[derive(Debug)]
pub enum Request {
    /// Everything that can be shown.
    View(oneshot::Sender<Arc<View>>),
    /// Put this configuration in force, as somebody asked.
    Reload(Arc<Config>, String),
    /// Why something is as it is; `None` if there is no such thing.
    Explain(Subject, oneshot::Sender<Option<Vec<Reason>>>),
    /// A copy of the state, to try things on.
    Copy(oneshot::Sender<Box<State>>),
    /// What VPP has, read now. Dropped without an answer if there is no VPP.
    ReadVpp(oneshot::Sender<Reading>),
    /// Compare everything with what VPP has, as somebody asked.
    Resync(String),
    /// An operator's command, answered by the number of what is to be on disk then.
    Operate(Command, By, oneshot::Sender<Result<u64, OperateError>>),
}

/// What can be explained, by its whole name.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A backend.
    Backend(String),
    /// A frontend.
    Frontend(String),
}

impl Subject {
    /// The reasons, the conclusion first; `None` if there is no such thing.
    pub fn explain(&self, state: &State, now: Now) -> Option<Vec<Reason>> {
        match self {
            Self::Backend(name) => state.explain_backend(name, now),
            Self::Frontend(name) => state.explain_frontend(name, now),
        }
    }
}

/// A cheap handle on the task that owns the state.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    events: broadcast::Sender<Arc<Event>>,
    counters: watch::Sender<Option<Arc<Counters>>>,
    kept: watch::Sender<Kept>,
}

/// The task that owns the state has ended: the daemon is going down.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("maglevd is shutting down")]
pub struct Gone;

impl Handle {
    /// A handle, and the end on which its requests arrive.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(64);
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let (counters, _) = watch::channel(None);
        let (kept, _) = watch::channel(Kept::default());
        (Self { requests, events, counters, kept }, receiver)
    }

    /// Everything that can be shown, at this moment.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn view(&self) -> Result<Arc<View>, Gone> {
        let (answer, view) = oneshot::channel();
        self.requests.send(Request::View(answer)).await.map_err(|_| Gone)?;
        view.await.map_err(|_| Gone)
    }

    /// Puts a configuration in force, as `who` asked.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn reload(&self, config: Arc<Config>, who: String) -> Result<(), Gone> {
        self.requests.send(Request::Reload(config, who)).await.map_err(|_| Gone)
    }

    /// Carries out an operator's command, and waits until it is on disk, but not for ever. The answer says why a restart
    /// would forget it; it is empty if it would not.
    ///
    /// # Errors
    /// [`Gone`]; or, inside, why the command was not carried out.
    pub async fn operate(&self, command: Command, by: By) -> Result<Result<String, OperateError>, Gone> {
        let (answer, done) = oneshot::channel();
        self.requests.send(Request::Operate(command, by, answer)).await.map_err(|_| Gone)?;
        Ok(match done.await.map_err(|_| Gone)? {
            Ok(number) => Ok(self.keep(number).await),
            Err(error) => Err(error),
        })
    }

    async fn keep(&self, number: u64) -> String {
        let mut kept = self.kept.subscribe();
        // That it is too late is told by what is known then.
        let _ = tokio::time::timeout(KEEPING, kept.wait_for(|kept| kept.tried >= number)).await;
        let kept = kept.borrow();
        match kept.trouble.as_str() {
            _ if kept.number >= number => String::new(),
            "" => "the overrides have not been written down yet".into(),
            trouble => trouble.into(),
        }
    }

    /// Why a restart would forget the newest overrides; empty if it would not, as far as is known.
    #[must_use]
    pub fn unkept(&self) -> String {
        self.kept.borrow().trouble.clone()
    }

    /// What is on disk, and when that changes.
    #[cfg(test)]
    pub fn kept(&self) -> watch::Receiver<Kept> {
        self.kept.subscribe()
    }

    /// Says what is on disk.
    pub fn set_kept(&self, kept: Kept) {
        self.kept.send_replace(kept);
    }

    /// Why something is as it is, the conclusion first; `None` if there is no such thing.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn explain(&self, subject: Subject) -> Result<Option<Vec<Reason>>, Gone> {
        let (answer, reasons) = oneshot::channel();
        self.requests.send(Request::Explain(subject, answer)).await.map_err(|_| Gone)?;
        reasons.await.map_err(|_| Gone)
    }

    /// A copy of the state, to try things on.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn copy(&self) -> Result<Box<State>, Gone> {
        let (answer, state) = oneshot::channel();
        self.requests.send(Request::Copy(answer)).await.map_err(|_| Gone)?;
        state.await.map_err(|_| Gone)
    }

    /// What VPP has, read now; `None` if there is no VPP to be read.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn read_vpp(&self) -> Result<Option<Reading>, Gone> {
        let (answer, reading) = oneshot::channel();
        self.requests.send(Request::ReadVpp(answer)).await.map_err(|_| Gone)?;
        Ok(reading.await.ok())
    }

    /// Has everything compared with what VPP has, and mended, as `who` asked.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn resync(&self, who: String) -> Result<(), Gone> {
        self.requests.send(Request::Resync(who)).await.map_err(|_| Gone)
    }

    /// How much traffic VPP has seen, as of the last reading; `None` while VPP is away, or does not tell.
    #[must_use]
    pub fn counters(&self) -> Option<Arc<Counters>> {
        self.counters.borrow().clone()
    }

    /// Says how much traffic VPP has seen, or that it is not known.
    pub fn set_counters(&self, counters: Option<Counters>) {
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
