//! Reads the configuration. The only place that knows YAML.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use maglev_core::config::{Config, Problem, check, file};
use maglev_ipc::check::MAX_BUNDLE;
use nix::fcntl::OFlag;

mod aliases;
mod nesting;
#[cfg(test)]
mod tests;
pub mod tls;

pub use tls::TlsConfig;

/// The largest file that is read, and the most that aliases may make of one: over a hundred times what 1,000
/// frontends take.
const MAX_FILE: usize = 16 << 20;

/// A file, and what it names.
#[derive(Debug)]
pub struct LoadedConfig {
    /// What the file means.
    pub config: Config,
    /// What TLS takes, if it is to be spoken over TCP.
    pub tls: Option<TlsConfig>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: {why}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// The text is not YAML, or not of the shape that a configuration has.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong, and with which key.
        message: String,
    },
    /// The configuration is well-formed and cannot be meant.
    #[error("{}: {}", path.display(), listed(problems))]
    Semantic {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong; not empty.
        problems: Vec<Problem>,
    },
}

/// Reads and checks the file at `path`, and the files that it names.
///
/// # Errors
/// [`LoadError`].
pub fn load(path: &Path) -> Result<LoadedConfig, LoadError> {
    let bytes = read(path, MAX_FILE).map_err(|why| LoadError::Read { path: path.to_owned(), why })?;
    let file = parse(&bytes).map_err(|SyntaxError { line, column, message }| LoadError::Parse {
        path: path.to_owned(),
        line,
        column,
        message,
    })?;
    let config = check(&file, &mut read_bundle);
    let tls = file.maglev.api.tls.as_ref().map_or(Ok(None), tls::load);
    match (config, tls) {
        (Ok(config), Ok(tls)) => Ok(LoadedConfig { config, tls }),
        (config, tls) => {
            let problems = [config.err(), tls.err()].into_iter().flatten().flatten().collect();
            Err(LoadError::Semantic { path: path.to_owned(), problems })
        }
    }
}

/// The exit code that `error` deserves, and what to say: one line for each thing that is wrong.
#[must_use]
pub fn report(error: &LoadError) -> (u8, Vec<String>) {
    match error {
        LoadError::Read { .. } | LoadError::Parse { .. } => (1, vec![one_line(&error.to_string())]),
        LoadError::Semantic { path, problems } => {
            let line = |problem: &Problem| one_line(&format!("{}: {problem}", path.display()));
            (2, problems.iter().map(line).collect())
        }
    }
}

/// What is wrong with a text, and where.
#[derive(Debug)]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong, and with which key.
    pub message: String,
}

/// The configuration as it is written in `bytes`; whether it makes sense is for [`check`] to say.
///
/// # Errors
/// The bytes are not YAML, or not of the shape that a configuration has, or more than one may be.
pub fn parse(bytes: &[u8]) -> Result<file::File, SyntaxError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| fault_at(bytes, error.valid_up_to(), "not UTF-8 text".into()))?;
    let says_nothing = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(says_nothing) {
        return Err(fault_at(bytes, 0, "the file is empty: a configuration starts with `maglev:`".into()));
    }
    if let Some(offset) = nesting::too_deep(bytes) {
        return Err(fault_at(bytes, offset, "nested too deeply".into()));
    }
    // Without an asterisk there is no alias, and the file weighs what its length says.
    let weighed =
        if text.contains('*') { aliases::weigh(text, aliases::allowance(text.len())) } else { Ok(()) };
    let file = weighed.and_then(|()| serde_yaml::from_str(text));
    file.map_err(|error| match error.location() {
        Some(at) => SyntaxError { line: at.line(), column: at.column(), message: without_place(&error, &at) },
        None => fault_at(bytes, 0, error.to_string()),
    })
}

/// The position of `offset` in `bytes`, which are UTF-8 up to there.
fn fault_at(bytes: &[u8], offset: usize, message: String) -> SyntaxError {
    let before = String::from_utf8_lossy(&bytes[..offset]);
    let line = before.rsplit('\n').next().unwrap_or_default();
    SyntaxError { line: before.matches('\n').count() + 1, column: line.chars().count() + 1, message }
}

/// The library's message, without the place that it ends in or, for errors of syntax, has in its middle.
fn without_place(error: &serde_yaml::Error, at: &serde_yaml::Location) -> String {
    let said = error.to_string().replacen(&format!(" at line {} column {}", at.line(), at.column()), "", 1);
    // Whoever writes configurations need not know Rust.
    match said.strip_suffix("expected i64") {
        Some(before) => format!("{before}expected a whole number"),
        None => said,
    }
}

fn read_bundle(path: &str) -> Result<Vec<u8>, String> {
    read(Path::new(path), MAX_BUNDLE).map_err(|error| error.to_string())
}

/// The contents of a regular file of at most `max` bytes. What else can be opened may never end, or never start.
fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let too_large = || io::Error::other(format!("larger than {max} bytes"));
    let max = u64::try_from(max).unwrap_or(u64::MAX);
    if metadata.len() > max {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // One more than allowed tells a file that has grown since from one that just fits.
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= max) { Ok(bytes) } else { Err(too_large()) }
}

/// `text` without anything that would end the line or move the cursor: names from the file are quoted in it.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}
