//! Keeps operators' overrides on disk. What the driver has in force is the wish, and the file follows it: at once when it
//! can, and again and again when it cannot.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use maglev_core::overrides::Overrides;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::handle::Handle;
use crate::metrics::Metrics;
use crate::retry::RetryState;

mod disk;
pub mod file;

pub use disk::{Disk, SystemDisk};
pub use file::OverrideStore;

/// The file is written this seldom in the long run;
const PACE: Duration = Duration::from_secs(1);

/// but after a quiet minute this many writes may follow one another at once, as each operator waits for theirs, and a rack
/// of servers is to be taken out at the pace of a script.
const BURST: u32 = 60;

/// What is to be on disk, and the number of that wish.
pub type PendingWrite = (u64, Arc<Overrides>);

/// What is on disk.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PersistStatus {
    /// The newest wish that is.
    pub number: u64,
    /// The newest that was tried.
    pub attempted: u64,
    /// Why a restart would forget what is newer than `number`; empty if nobody knows of a reason.
    pub error: String,
}

/// What is said where there is no folder to keep them in.
pub const NOT_PERSISTED: &str = "maglevd runs without --state-dir: a restart forgets overrides";

/// Opens the folder, if there is one to be used.
///
/// # Errors
/// None: whatever is wrong is logged.
pub fn open<D: Disk>(disk: D, folder: PathBuf) -> (Option<OverrideStore<D>>, Arc<Overrides>) {
    if folder.as_os_str().is_empty() {
        return (None, Arc::default());
    }
    let (store, overrides) = OverrideStore::open(disk, folder);
    if !overrides.is_empty() {
        info!(overrides = overrides.len(), "overrides of the last run are in force");
    }
    (Some(store), Arc::new(overrides))
}

/// The task that writes.
pub struct Persister<D> {
    /// Where to; `None` is nowhere.
    pub store: Option<OverrideStore<D>>,
    /// What to write. When its sender is gone, what there is is written, once, and the task ends.
    pub wanted: watch::Receiver<PendingWrite>,
    /// Whom to tell.
    pub handle: Handle,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

impl<D: Disk> Persister<D> {
    /// Writes until nobody wants anything any more.
    pub async fn run(mut self) {
        let Some(mut store) = self.store.take() else {
            return self.handle.set_persisted(PersistStatus {
                number: 0,
                attempted: u64::MAX,
                error: NOT_PERSISTED.into(),
            });
        };
        let (mut retry, mut pace, mut persisted) =
            (RetryState::default(), Pace::new(Instant::now()), PersistStatus::default());
        while self.is_behind(persisted.number).await {
            self.sleep_until(pace.next(Instant::now())).await;
            let (number, overrides) = self.wanted.borrow_and_update().clone();
            let attempt = D::block(move || (store.save(&overrides), store)).await;
            // There is none only if the runtime goes down.
            let Some((result, used)): Option<(io::Result<()>, _)> = attempt else { return };
            store = used;
            self.metrics.saved(result.is_ok());
            persisted.attempted = number;
            match result {
                Ok(()) => {
                    let was_behind = !persisted.error.is_empty();
                    persisted = PersistStatus { number, attempted: number, error: String::new() };
                    retry.reset();
                    // Before the log says so: whoever reads it there finds it true.
                    self.handle.set_persisted(persisted.clone());
                    if was_behind {
                        info!("the overrides are written down again");
                    }
                }
                Err(error) => {
                    persisted.error = format!("the overrides cannot be written down: {error}");
                    self.handle.set_persisted(persisted.clone());
                    if retry.is_new_error(&persisted.error) {
                        warn!(%error, "the overrides cannot be written down, and a restart would forget them");
                    } else {
                        debug!(%error, "the overrides cannot be written down");
                    }
                    if self.wanted.has_changed().is_err() {
                        return;
                    }
                    // Whoever wants something new may know that there is room again.
                    let _ = tokio::time::timeout(retry.pause(), self.wanted.changed()).await;
                }
            }
        }
    }

    /// Waits until something newer than `number` is to be written; `false` if nothing ever will be.
    async fn is_behind(&mut self, number: u64) -> bool {
        // An error is that nobody will want anything new; what was wanted last is still to be seen.
        let _ = self.wanted.wait_for(|(wanted, _)| *wanted > number).await;
        self.wanted.borrow().0 > number
    }

    /// Waits, unless the daemon ends.
    async fn sleep_until(&self, at: Instant) {
        let mut wanted = self.wanted.clone();
        let ended = wanted.wait_for(|_| false);
        tokio::select! {
            biased;
            _ = ended => {}
            () = sleep_until(at) => {}
        }
    }
}

/// When the file may be written next.
#[derive(Debug)]
struct Pace {
    /// When the burst would be used up if no time passed.
    used: Instant,
}

impl Pace {
    const fn new(now: Instant) -> Self {
        Self { used: now }
    }

    /// When one more write may be made, which then counts as made.
    fn next(&mut self, now: Instant) -> Instant {
        self.used = self.used.max(now) + PACE;
        self.used.checked_sub(PACE * BURST).unwrap_or(now).max(now)
    }
}

#[cfg(test)]
mod tests;
