//! Paths of the programs under test.

use std::path::{Path, PathBuf};
use std::{env, io};

/// Returns the path of program `name` in the caller's build: the caller's directory, or its parent if the caller is a test in
/// `deps`.
///
/// # Errors
/// If the program is not built. The error names the build command.
pub fn program(name: &str) -> io::Result<PathBuf> {
    let caller = env::current_exe()?;
    let folder = caller.parent().unwrap_or(Path::new("."));
    let built = if folder.ends_with("deps") { folder.with_file_name(name) } else { folder.join(name) };
    if built.is_file() {
        return Ok(built);
    }
    let problem = format!("{} is not there: run `make build` first", built.display());
    Err(io::Error::new(io::ErrorKind::NotFound, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_built_is_asked_for_by_name() {
        let error = program("no-such-program").unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("make build"), "{error}");
    }
}
