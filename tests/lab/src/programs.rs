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
    let directory = caller.parent().unwrap_or(Path::new("."));
    let built =
        if directory.ends_with("deps") { directory.with_file_name(name) } else { directory.join(name) };
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
    fn missing_program_error_names_build_command() {
        let error = program("no-such-program").unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("make build"), "{error}");
    }
}
