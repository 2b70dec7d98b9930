//! Override file: JSON, one override per line, replaced atomically.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maglev_core::Name;
use maglev_core::overrides::{
    MAX, MAX_REASON, MAX_WHO, Override, OverrideKind, OverrideMeta, Overrides, sanitize,
};
use maglev_core::time::WallTime;
use maglev_proto::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::disk::Disk;

/// Version written. Newer ones are not read.
const VERSION: u64 = 1;

/// Maximum size of the file: the maximum number of overrides, each of maximum length.
const MAX_FILE: u64 = 192 << 20;

const NAME: &str = "overrides.json";

/// Reason to move a file aside before the next write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Quarantine {
    /// The contents are invalid.
    Corrupt,
    /// A later release wrote the file.
    Newer(u64),
    /// The file was unreadable, so its contents are unknown.
    Unread,
}

impl Quarantine {
    fn label(self) -> String {
        match self {
            Self::Corrupt => "corrupt".to_owned(),
            Self::Newer(version) => format!("version-{version}"),
            Self::Unread => "unread".to_owned(),
        }
    }
}

/// Store of overrides.
#[derive(Debug)]
pub struct OverrideStore<D> {
    disk: D,
    directory: PathBuf,
    quarantine: Option<Quarantine>,
}

impl<D: Disk> OverrideStore<D> {
    /// Locks `directory`, creates it if its parent exists, and loads the overrides from it. Other errors are logged, and
    /// the store starts empty. The next write moves an unusable file aside instead of replacing it.
    ///
    /// # Errors
    /// Another process has the lock: the last one to write would overwrite the overrides of the other.
    pub fn open(disk: D, directory: PathBuf) -> io::Result<(Self, Overrides)> {
        let mut store = Self { disk, directory, quarantine: None };
        match store.disk.claim_dir(&store.directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                return Err(with_path(&error, &store.directory));
            }
            Err(error) => {
                error!(directory = %store.directory.display(), %error, "cannot use the directory of the overrides");
            }
            Ok(()) => {}
        }
        let overrides = store.load();
        Ok((store, overrides))
    }

    fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    fn load(&mut self) -> Overrides {
        let path = self.path();
        let shown = path.display();
        match self.disk.read(&path, MAX_FILE) {
            Ok(None) => return Overrides::default(),
            Ok(Some(bytes)) => match parse(&bytes) {
                Ok(overrides) => {
                    // The previous run may have crashed before its directory entry was durable.
                    if let Err(error) = self.disk.sync_dir(&self.directory) {
                        error!(file = %shown, %error, "cannot sync the directory of the overrides: they may not survive a power loss");
                    }
                    return overrides;
                }
                Err(FileError::Newer(version)) => {
                    error!(
                        file = %shown, version,
                        "a later release wrote the overrides: none is in force; the next override moves the file aside"
                    );
                    self.quarantine = Some(Quarantine::Newer(version));
                }
                Err(FileError::Corrupt(error)) => {
                    error!(file = %shown, error, "invalid overrides file: no override is in force");
                    self.quarantine = Some(Quarantine::Corrupt);
                    if let Err(error) = self.move_aside() {
                        error!(file = %shown, %error, "cannot move the invalid overrides file aside");
                    }
                }
            },
            Err(error) => {
                error!(file = %shown, %error, "cannot read the overrides: no override is in force");
                self.quarantine = Some(Quarantine::Unread);
            }
        }
        Overrides::default()
    }

    /// Replaces the file atomically.
    ///
    /// # Errors
    /// The path, and the system's error; the previous file is unchanged.
    pub fn save(&mut self, overrides: &Overrides) -> io::Result<()> {
        self.disk.claim_dir(&self.directory).map_err(|error| with_path(&error, &self.directory))?;
        self.replace_file(overrides).map_err(|error| with_path(&error, &self.path()))
    }

    fn replace_file(&mut self, overrides: &Overrides) -> io::Result<()> {
        self.move_aside()?;
        self.disk.replace(&self.directory, NAME, render(overrides).as_bytes())
    }

    /// Renames an unusable file to a free name.
    fn move_aside(&mut self) -> io::Result<()> {
        let Some(quarantine) = self.quarantine else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let name = format!("{NAME}.{}-{now}", quarantine.label());
        let mut to = self.directory.join(&name);
        for number in 1..1000 {
            if !self.disk.exists(&to) {
                break;
            }
            to = self.directory.join(format!("{name}.{number}"));
        }
        match self.disk.rename(&self.path(), &to) {
            Ok(()) => {
                warn!(file = %self.path().display(), to = %to.display(), "overrides file moved aside");
                self.disk.sync_dir(&self.directory)?;
            }
            // The file has already been removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.quarantine = None;
        Ok(())
    }
}

/// Adds the path, which the system's errors lack.
fn with_path(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Reason for which a file is unusable.
#[derive(Debug, Eq, PartialEq)]
pub enum FileError {
    /// Invalid contents; with the reason.
    Corrupt(String),
    /// Written by a later release, in this version.
    Newer(u64),
}

/// Field that every version has.
#[derive(Deserialize)]
struct FileVersion {
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileContents {
    #[serde(rename = "version")]
    _version: u64,
    overrides: Vec<FileEntry>,
}

/// One override in the file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    kind: String,
    backend: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frontend: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u8>,
    #[serde(default)]
    who: String,
    at: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

/// Parses a file.
///
/// # Errors
/// [`FileError`]; a single bad entry rejects the whole file.
pub fn parse(bytes: &[u8]) -> Result<Overrides, FileError> {
    let corrupt = |error: serde_json::Error| FileError::Corrupt(error.to_string());
    let FileVersion { version } = serde_json::from_slice(bytes).map_err(corrupt)?;
    if version > VERSION {
        return Err(FileError::Newer(version));
    }
    if version < VERSION {
        return Err(FileError::Corrupt(format!("unknown version {version}")));
    }
    let contents: FileContents = serde_json::from_slice(bytes).map_err(corrupt)?;
    let mut overrides = Overrides::default();
    for (number, line) in (1..).zip(contents.overrides) {
        overrides.insert(line.read().map_err(|why| FileError::Corrupt(format!("override {number}: {why}")))?);
    }
    match overrides.len() {
        0..=MAX => Ok(overrides),
        len => Err(FileError::Corrupt(format!("{len} overrides are more than the {MAX} that are allowed"))),
    }
}

impl FileEntry {
    fn read(self) -> Result<Override, String> {
        let kind = match (self.kind.as_str(), self.weight) {
            ("disabled", None) => OverrideKind::Disabled,
            ("enabled", None) => OverrideKind::Enabled,
            ("paused", None) => OverrideKind::Paused,
            ("weight", Some(weight @ 0..=100)) => OverrideKind::Weight(weight),
            ("weight", Some(weight)) => return Err(format!("weight {weight} is not within 0 to 100")),
            ("weight", None) => return Err("`weight` is missing".to_owned()),
            (kind @ ("disabled" | "enabled" | "paused"), Some(_)) => {
                return Err(format!("`{kind}` takes no `weight`"));
            }
            (kind, _) => return Err(format!("unknown kind `{kind}`")),
        };
        let slot = match (kind, self.frontend, self.pool) {
            (OverrideKind::Weight(_), Some(frontend), Some(pool)) => Some((name(&frontend), name(&pool))),
            (OverrideKind::Weight(_), ..) => return Err("a weight needs `frontend` and `pool`".to_owned()),
            (_, None, None) => None,
            (kind, ..) => return Err(format!("`{}` takes no `frontend` and no `pool`", kind.as_str())),
        };
        let meta = OverrideMeta {
            who: sanitize(&self.who, MAX_WHO),
            at: parse_time(&self.at)?,
            reason: sanitize(&self.reason, MAX_REASON),
            expires: self.expires.map(|text| parse_time(&text)).transpose()?,
        };
        Ok(Override { backend: name(&self.backend), slot, kind, meta: Arc::new(meta) })
    }

    fn of(persisted: &Override) -> Self {
        let (frontend, pool) = persisted.slot.as_ref().map(|(f, p)| (f.to_string(), p.to_string())).unzip();
        let weight = match persisted.kind {
            OverrideKind::Weight(weight) => Some(weight),
            OverrideKind::Disabled | OverrideKind::Enabled | OverrideKind::Paused => None,
        };
        Self {
            kind: persisted.kind.as_str().to_owned(),
            backend: persisted.backend.to_string(),
            frontend,
            pool,
            weight,
            who: persisted.meta.who.clone(),
            at: format_time(persisted.meta.at),
            reason: persisted.meta.reason.clone(),
            expires: persisted.meta.expires.map(format_time),
        }
    }
}

/// Sanitizes a name. Valid configurations have no name beyond 64 bytes.
fn name(text: &str) -> Name {
    sanitize(text, 64).into()
}

/// Formats a file with these overrides.
#[must_use]
pub fn render(overrides: &Overrides) -> String {
    let mut text = format!("{{\n\"version\": {VERSION},\n\"overrides\": [");
    for (number, persisted) in overrides.list().enumerate() {
        // Serialization cannot fail: all keys are strings, and so is the writer.
        let line = serde_json::to_string(&FileEntry::of(&persisted)).unwrap_or_default();
        let _ = write!(text, "{}\n  {line}", if number == 0 { "" } else { "," });
    }
    text.push_str("\n]\n}\n");
    text
}

/// Formats a time in UTC (RFC 3339).
pub(crate) fn format_time(at: WallTime) -> String {
    Timestamp::from(UNIX_EPOCH + Duration::from_nanos(at.0)).to_string()
}

/// Parses a time in UTC (RFC 3339).
pub(crate) fn parse_time(text: &str) -> Result<WallTime, String> {
    let wrong = || format!("invalid time `{text}`, expected e.g. 2026-11-22T12:00:00Z");
    let at = SystemTime::try_from(text.parse::<Timestamp>().map_err(|_| wrong())?).map_err(|_| wrong())?;
    let since = at.duration_since(UNIX_EPOCH).map_err(|_| wrong())?;
    Ok(WallTime(u64::try_from(since.as_nanos()).map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests;
