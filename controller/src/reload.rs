//! Reload of the configuration file, on a signal or an operator's request.

use std::path::PathBuf;
use std::sync::Arc;

use maglev_core::config::Problem;
use maglev_core::state::PlanNote;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use crate::access::AccessControl;
use crate::clock;
use crate::config::{self, LoadError, LoadedConfig};
use crate::handle::{Handle, ShuttingDown};
use crate::metrics::Metrics;

/// Number of overrides that a reload warns about.
const MAX_WARNINGS: usize = 100;

/// Returns the problem of a reload that must keep overrides.
fn lost_override(note: &PlanNote) -> Problem {
    Problem { path: "maglev".into(), message: note.to_string() }
}

/// Reloader of the configuration file. Clones share the lock.
#[derive(Clone)]
pub struct Reloader {
    path: PathBuf,
    handle: Handle,
    metrics: Arc<Metrics>,
    access: AccessControl,
    /// Serializes reloads, so that the file read last is in force.
    lock: Arc<Mutex<()>>,
}

/// Logs what is valid and yet wrong.
pub fn warn_about(loaded: &LoadedConfig) {
    for warning in loaded.warnings() {
        warn!("{warning}");
    }
}

impl Reloader {
    /// Creates a reloader of the file at `path`.
    #[must_use]
    pub fn new(path: PathBuf, handle: Handle, metrics: Arc<Metrics>, access: AccessControl) -> Self {
        Self { path, handle, metrics, access, lock: Arc::default() }
    }

    /// Returns the access rules.
    #[must_use]
    pub const fn access(&self) -> &AccessControl {
        &self.access
    }

    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ShuttingDown`]; inside, the error in the file.
    async fn load(&self) -> Result<Result<LoadedConfig, LoadError>, ShuttingDown> {
        let path = self.path.clone();
        // Joining fails only when the runtime shuts down.
        spawn_blocking(move || config::load(&path)).await.map_err(|_| ShuttingDown)
    }

    /// Reads and checks the file, also against the configuration in force.
    ///
    /// # Errors
    /// As [`Self::load`]; inside, also a reload that should be refused.
    pub async fn check(&self) -> Result<Result<LoadedConfig, LoadError>, ShuttingDown> {
        let loaded = self.load().await?;
        let snapshot = self.handle.snapshot().await?;
        Ok(loaded.and_then(|loaded| match snapshot.state.reload_objection(&loaded.config, clock::now()) {
            Some(problem) => Err(LoadError::Semantic { path: self.path.clone(), problems: vec![problem] }),
            None => Ok(loaded),
        }))
    }

    /// Puts the file in force, as requested by `who`, and returns warnings. On any error the running configuration stays,
    /// complete. With `keep_overrides`, an override that would lose its object is an error.
    ///
    /// # Errors
    /// [`ShuttingDown`]; inside, the error in the file.
    pub async fn reload(
        &self,
        who: String,
        keep_overrides: bool,
    ) -> Result<Result<Vec<String>, LoadError>, ShuttingDown> {
        let _turn = self.lock.lock().await;
        let mut loaded = self.check().await?;
        let mut warnings = Vec::new();
        if let Ok(LoadedConfig { config, .. }) = &loaded {
            let notes = self.handle.snapshot().await?.state.override_notes(config);
            warnings = notes.iter().take(MAX_WARNINGS).map(ToString::to_string).collect();
            let lost = notes.iter().filter(|note| matches!(note, PlanNote::OverrideLost { .. }));
            let problems: Vec<_> = lost.take(MAX_WARNINGS).map(lost_override).collect();
            if keep_overrides && !problems.is_empty() {
                loaded = Err(LoadError::Semantic { path: self.path.clone(), problems });
            }
        }
        self.metrics.record_reload(loaded.is_ok(), clock::now());
        match loaded {
            Ok(loaded) => {
                info!(config = %self.path.display(), "reloading");
                warn_about(&loaded);
                warnings.iter().for_each(|warning| warn!("{warning}"));
                let access = self.access.clone();
                let prepared = spawn_blocking(move || (access.resolve_policy(&loaded), loaded.config)).await;
                let (policy, config) = prepared.map_err(|_| ShuttingDown)?;
                // First, so that the rules are in force before anyone sees the new configuration.
                self.access.set(policy);
                self.handle.reload(Arc::new(config), who).await.map(|()| Ok(warnings))
            }
            Err(fault) => {
                for line in config::report(&fault).1 {
                    error!("reload failed: {line}");
                }
                Ok(Err(fault))
            }
        }
    }
}
