//! Persists operators' overrides. The driver's overrides are the desired state; the file follows at once, or by
//! retries after an error.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use maglev_core::overrides::Overrides;
use maglev_time::TokenBucket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::metrics::Metrics;
use crate::published::PersistStatus;
use crate::retry::RetryState;

mod disk;
pub mod file;

pub use disk::{Disk, SystemDisk};
pub use file::OverrideStore;

/// Writes at one a second in a burst after a quiet minute: each operator waits for the disk, and a script may disable a
/// rack of servers at once.
const BURST: Duration = Duration::from_secs(60);

/// Overrides to write, with the number of the write.
pub type PendingWrite = (u64, Arc<Overrides>);

/// Persist error of a daemon without a state directory.
pub const NOT_PERSISTED: &str = "maglevd runs without --state-dir: a restart loses overrides";

/// Opens the store in `directory`; no store if the path is empty.
///
/// # Errors
/// Another process has the directory. Other errors are logged.
pub fn open<D: Disk>(disk: D, directory: PathBuf) -> io::Result<(Option<OverrideStore<D>>, Arc<Overrides>)> {
    if directory.as_os_str().is_empty() {
        return Ok((None, Arc::default()));
    }
    let (store, overrides) = OverrideStore::open(disk, directory)?;
    if !overrides.is_empty() {
        info!(overrides = overrides.len(), "restored the overrides of the last run");
    }
    Ok((Some(store), Arc::new(overrides)))
}

/// Task that writes the overrides.
pub struct Persister<D> {
    /// Store; `None` does not persist.
    pub store: Option<OverrideStore<D>>,
    /// Newest overrides to write. Once the sender is dropped, the task writes the last value and ends.
    pub pending: watch::Receiver<PendingWrite>,
    /// Receiver of the status.
    pub status: watch::Sender<PersistStatus>,
    /// Counters of writes.
    pub metrics: Arc<Metrics>,
}

impl<D: Disk> Persister<D> {
    /// Writes until the driver has ended.
    pub async fn run(mut self) {
        let Some(mut store) = self.store.take() else {
            let (attempted, error) = (u64::MAX, NOT_PERSISTED.into());
            self.status.send_replace(PersistStatus { number: 0, attempted, error });
            return;
        };
        let (mut retry, mut pace, mut persisted) =
            (RetryState::default(), WriteLimiter::new(Instant::now()), PersistStatus::default());
        while self.wait_for_write(persisted.number).await {
            self.sleep_until(pace.next(Instant::now())).await;
            let (number, overrides) = self.pending.borrow_and_update().clone();
            let attempt = D::block(move || (store.save(&overrides), store)).await;
            // This fails only when the runtime shuts down.
            let Some((result, used)): Option<(io::Result<()>, _)> = attempt else { return };
            store = used;
            self.metrics.record_save(result.is_ok());
            persisted.attempted = number;
            match result {
                Ok(()) => {
                    let was_behind = !persisted.error.is_empty();
                    persisted = PersistStatus { number, attempted: number, error: String::new() };
                    retry.reset();
                    // Publish before logging, so that readers of the log find the new status.
                    self.status.send_replace(persisted.clone());
                    if was_behind {
                        info!("overrides persisted again");
                    }
                }
                Err(error) => {
                    persisted.error = error.to_string();
                    self.status.send_replace(persisted.clone());
                    if retry.is_new_error(&persisted.error) {
                        warn!(%error, "cannot persist the overrides: a restart would lose them");
                    } else {
                        debug!(%error, "cannot persist the overrides");
                    }
                    if self.pending.has_changed().is_err() {
                        return;
                    }
                    // A new write may succeed at once, for example after disk space was freed.
                    let _ = tokio::time::timeout(retry.pause(), self.pending.changed()).await;
                }
            }
        }
    }

    /// Waits until a write after `number` is pending; returns false once none can be.
    async fn wait_for_write(&mut self, number: u64) -> bool {
        // An error means that the driver has ended; its last value still counts.
        let _ = self.pending.wait_for(|(pending, _)| *pending > number).await;
        self.pending.borrow().0 > number
    }

    /// Waits until `at`, or until the driver ends.
    async fn sleep_until(&self, at: Instant) {
        let mut pending = self.pending.clone();
        let ended = pending.wait_for(|_| false);
        tokio::select! {
            biased;
            _ = ended => {}
            () = sleep_until(at) => {}
        }
    }
}

/// Rate limit of the writes: one a second in the long run.
#[derive(Debug)]
struct WriteLimiter {
    bucket: TokenBucket,
    start: Instant,
}

impl WriteLimiter {
    fn new(now: Instant) -> Self {
        Self { bucket: TokenBucket::new(1, BURST, Duration::ZERO), start: now }
    }

    /// Reserves the next write, and returns its earliest time.
    fn next(&mut self, now: Instant) -> Instant {
        now + self.bucket.reserve(now - self.start)
    }
}

#[cfg(test)]
mod tests;
