//! Reads the configuration. Only this module knows YAML.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use maglev_core::config::{Config, Problem, check, file};
use maglev_ipc::check::MAX_BUNDLE;
use maglev_ipc::text::is_unprintable;
use nix::fcntl::OFlag;

mod aliases;
mod nesting;
mod syntax;
#[cfg(test)]
mod tests;
pub mod tls;

pub use tls::TlsConfig;

/// Maximum size of a file, aliases expanded: over 100 times that of 1,000 frontends.
const MAX_FILE: usize = 16 << 20;

/// Configuration, and the files that it names.
#[derive(Debug)]
pub struct LoadedConfig {
    /// Checked configuration.
    pub config: Config,
    /// TLS configuration, if set.
    pub tls: Option<TlsConfig>,
}

impl LoadedConfig {
    /// Returns the warnings about a valid configuration, for its author.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let of_tls = self.tls.iter().flat_map(|tls| &tls.warnings);
        of_tls.map(|(key, warning)| format!("maglev.api.tls.{key}: {warning}"))
    }
}

/// Error that prevents a configuration from loading.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is unreadable.
    #[error("{}: {why}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        why: io::Error,
    },
    /// The text is not YAML, or does not have the shape of a configuration.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// Message that names the key.
        message: String,
    },
    /// The configuration is well-formed but invalid.
    #[error("{}: {}", path.display(), join_problems(problems))]
    Semantic {
        /// Path of the file.
        path: PathBuf,
        /// All problems; not empty.
        problems: Vec<Problem>,
    },
}

/// Reads and checks the file at `path`, and the files that it names.
///
/// # Errors
/// [`LoadError`].
pub fn load(path: &Path) -> Result<LoadedConfig, LoadError> {
    load_with(path, read)
}

/// Like [`load`], and also reads a pipe, such as `/dev/stdin`.
///
/// # Errors
/// [`LoadError`].
pub fn load_from_any(path: &Path) -> Result<LoadedConfig, LoadError> {
    load_with(path, |path, max| {
        let is_pipe = path.metadata()?.file_type().is_fifo();
        if is_pipe { read_open(File::open(path)?, max) } else { read(path, max) }
    })
}

fn load_with(
    path: &Path,
    read: impl FnOnce(&Path, usize) -> io::Result<Vec<u8>>,
) -> Result<LoadedConfig, LoadError> {
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

/// Returns the exit code for `error`, and one line per problem.
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

/// Error in a text, with its position.
#[derive(Debug)]
pub struct SyntaxError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Message that names the key.
    pub message: String,
}

/// Parses the configuration in `bytes`; [`check`] validates it.
///
/// # Errors
/// The bytes are not YAML, do not have the shape of a configuration, or exceed a bound.
pub fn parse(bytes: &[u8]) -> Result<file::File, SyntaxError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| error_at(bytes, error.valid_up_to(), "not UTF-8 text".into()))?;
    let is_blank = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(is_blank) {
        return Err(error_at(bytes, 0, "the file is empty: a configuration starts with `maglev:`".into()));
    }
    if let Some(offset) = nesting::find_excess_nesting(bytes) {
        return Err(error_at(bytes, offset, "nested too deeply".into()));
    }
    if let Some((offset, c)) = syntax::find_forbidden_character(text) {
        let message = format!("control character U+{:04X}: YAML is text", u32::from(c));
        return Err(error_at(bytes, offset, message));
    }
    // A text without an asterisk has no alias; its length bounds its weight.
    let bounded = if text.contains('*') {
        aliases::check_weight(text, aliases::max_weight(text.len()))
    } else {
        Ok(())
    };
    let file = bounded.and_then(|()| serde_yaml::from_str(text));
    file.map_err(|error| syntax_error(text, &error))
}

/// Locates an error of the parser, and says it in the words of the file's author.
fn syntax_error(text: &str, error: &serde_yaml::Error) -> SyntaxError {
    let said = error.to_string();
    if said.contains("more than one document") {
        let offset = syntax::find_second_document(text).unwrap_or_default();
        return error_at(text.as_bytes(), offset, "a second document: a configuration is one".into());
    }
    let duplicate = said.contains("duplicate field").then(|| syntax::find_duplicate_key(text)).flatten();
    let Some(at) = duplicate.as_ref().unwrap_or(error).location() else {
        return error_at(text.as_bytes(), 0, said);
    };
    let rest = text.as_bytes().get(at.index()..).unwrap_or_default();
    let message = syntax::in_plain_words(without_position(error), rest);
    SyntaxError { line: at.line(), column: at.column(), message }
}

/// Returns an error at `offset` of `bytes`, which are UTF-8 up to there.
fn error_at(bytes: &[u8], offset: usize, message: String) -> SyntaxError {
    let before = String::from_utf8_lossy(&bytes[..offset]);
    let line = before.rsplit('\n').next().unwrap_or_default();
    SyntaxError { line: before.matches('\n').count() + 1, column: line.chars().count() + 1, message }
}

/// Returns the parser's message without the position in it.
fn without_position(error: &serde_yaml::Error) -> String {
    let said = error.to_string();
    match error.location() {
        Some(at) => said.replacen(&format!(" at line {} column {}", at.line(), at.column()), "", 1),
        None => said,
    }
}

fn read_bundle(path: &str) -> Result<Vec<u8>, String> {
    read(Path::new(path), MAX_BUNDLE).map_err(|error| error.to_string())
}

/// Reads a regular file of at most `max` bytes.
fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let (file, _) = open(path, max)?;
    read_open(file, max)
}

/// Opens a regular file of at most `max` bytes. Opening or reading any other kind may block for ever.
fn open(path: &Path, max: usize) -> io::Result<(File, Metadata)> {
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.len() > u64::try_from(max).unwrap_or(u64::MAX) {
        return Err(too_large(max));
    }
    Ok((file, metadata))
}

/// Reads at most `max` bytes of an open file.
fn read_open(file: File, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there are more.
    file.take(u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() <= max { Ok(bytes) } else { Err(too_large(max)) }
}

fn too_large(max: usize) -> io::Error {
    io::Error::other(format!("larger than {max} bytes"))
}

/// Escapes control and invisible characters of `text`, which quotes names from the file, so that it stays one line.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

fn join_problems(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}
