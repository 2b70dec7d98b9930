//! Saves the VIPs that are ours in VPP, so that one that leaves the configuration while `maglevd` is not running is removed
//! after the next start. The file follows each change, at most once a second.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use maglev_core::ownership::OwnedVips;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::metrics::Metrics;
use crate::overrides::Disk;
use crate::retry::RetryState;

pub mod file;

pub use file::OwnershipStore;

/// Pause after a write. A reload changes the VIPs once, and once more for each VIP that VPP has removed.
const PAUSE: Duration = Duration::from_secs(1);

/// Opens the store in `directory`; no store if the path is empty. Errors are logged.
pub fn open<D: Disk>(disk: D, directory: PathBuf) -> (Option<OwnershipStore<D>>, OwnedVips) {
    if directory.as_os_str().is_empty() {
        return (None, OwnedVips::default());
    }
    let (store, vips) = OwnershipStore::open(disk, directory);
    (Some(store), vips)
}

/// Task that writes the VIPs.
pub struct OwnershipWriter<D> {
    /// Store.
    pub store: OwnershipStore<D>,
    /// Newest VIPs. Once the sender is dropped, the task writes the last value and ends.
    pub pending: watch::Receiver<OwnedVips>,
    /// Result of the last write.
    pub metrics: Arc<Metrics>,
}

impl<D: Disk> OwnershipWriter<D> {
    /// Writes until the driver has ended.
    pub async fn run(self) {
        let Self { mut store, mut pending, metrics } = self;
        let (mut retry, mut is_behind) = (RetryState::default(), false);
        loop {
            let ended = pending.changed().await.is_err();
            // The last value still counts. Writing it again costs nothing.
            let vips = pending.borrow_and_update().clone();
            let attempt = D::block(move || (store.save(&vips), store)).await;
            // This fails only when the runtime shuts down.
            let Some((result, used)) = attempt else { return };
            store = used;
            metrics.record_ownership_save(result.is_ok());
            let pause = match result {
                Ok(()) => {
                    if std::mem::take(&mut is_behind) {
                        info!("VIPs that are ours saved again");
                    }
                    retry.reset();
                    PAUSE
                }
                Err(error) => {
                    is_behind = true;
                    if retry.is_new_error(&error.to_string()) {
                        warn!(%error, "cannot save the VIPs that are ours: one that leaves the configuration during a restart may stay in VPP");
                    } else {
                        debug!(%error, "cannot save the VIPs that are ours");
                    }
                    pending.mark_changed();
                    retry.pause()
                }
            };
            if ended {
                return;
            }
            // Waits on a clone: a change within the pause must stay unseen.
            let mut ended = pending.clone();
            let _ = tokio::time::timeout(pause, ended.wait_for(|_| false)).await;
        }
    }
}
