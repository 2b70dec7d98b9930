//! The configuration file, read anew: on a signal, or when an operator asks.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tracing::{error, info};

use crate::access::AccessControl;
use crate::clock;
use crate::config::{self, LoadError, LoadedConfig};
use crate::handle::{Handle, ShuttingDown};
use crate::metrics::Metrics;

/// Reads the configuration file anew. Clones share the file and the turn.
#[derive(Clone)]
pub struct Reloader {
    path: PathBuf,
    handle: Handle,
    metrics: Arc<Metrics>,
    access: AccessControl,
    /// One reload at a time, so that the file that was read last is the one in force.
    turn: Arc<Mutex<()>>,
}

impl Reloader {
    /// For the file at `path`.
    #[must_use]
    pub fn new(path: PathBuf, handle: Handle, metrics: Arc<Metrics>, access: AccessControl) -> Self {
        Self { path, handle, metrics, access, turn: Arc::default() }
    }

    /// Who may call what.
    #[must_use]
    pub const fn access(&self) -> &AccessControl {
        &self.access
    }

    /// What the file says now.
    ///
    /// # Errors
    /// [`ShuttingDown`]; or, inside, what is wrong with the file.
    pub async fn load(&self) -> Result<Result<LoadedConfig, LoadError>, ShuttingDown> {
        let path = self.path.clone();
        // It fails only if the runtime goes down.
        spawn_blocking(move || config::load(&path)).await.map_err(|_| ShuttingDown)
    }

    /// Puts what the file says now in force, as `who` asked; if it is wrong anywhere, what is in force stays, whole.
    ///
    /// # Errors
    /// [`ShuttingDown`]; or, inside, what is wrong with the file.
    pub async fn reload(&self, who: String) -> Result<Result<(), LoadError>, ShuttingDown> {
        let _turn = self.turn.lock().await;
        let loaded = self.load().await?;
        self.metrics.reload(loaded.is_ok(), clock::now());
        match loaded {
            Ok(loaded) => {
                info!(config = %self.path.display(), "reloading");
                let access = self.access.clone();
                let prepared = spawn_blocking(move || (access.prepare(&loaded), loaded.config)).await;
                let (policy, config) = prepared.map_err(|_| ShuttingDown)?;
                // First, so that they are in force when somebody hears of the new configuration.
                self.access.set(policy);
                self.handle.reload(Arc::new(config), who).await.map(Ok)
            }
            Err(fault) => {
                for line in config::report(&fault).1 {
                    error!("not reloaded: {line}");
                }
                Ok(Err(fault))
            }
        }
    }
}
