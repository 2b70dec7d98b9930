//! Where the shell remembers what was typed.

use std::env;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// How many lines are remembered.
pub const MAX_LINES: usize = 1_000;

/// The file. None if the user has no place for it.
pub fn file() -> Option<PathBuf> {
    let absolute = |variable| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let folder = state.join("maglevc");
    // Without it, the file cannot be written either; and then nothing is remembered.
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    Some(folder.join("history"))
}
