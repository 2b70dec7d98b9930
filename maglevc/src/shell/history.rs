//! The history file of the shell.

use std::env;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// Number of lines in the history.
pub const MAX_LINES: usize = 1_000;

/// Returns the path; `None` if the user has no home directory.
pub fn file() -> Option<PathBuf> {
    let absolute = |variable| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let directory = state.join("maglevc");
    // If this fails, saving the history fails too.
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    Some(directory.join("history"))
}
