//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::{env, io};

/// The program `name` of the build that the caller belongs to: it lies beside the caller, or beside the folder `deps` if
/// the caller is a test.
///
/// # Errors
/// It is not built; the error says how to.
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
