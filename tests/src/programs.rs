//! Where the built programs are.

use std::env;
use std::path::PathBuf;

/// The program `name` of the build that the running test is part of.
///
/// # Panics
/// It is not there.
#[must_use]
#[expect(clippy::expect_used, clippy::panic, reason = "without the programs there is nothing to test")]
pub fn program(name: &str) -> PathBuf {
    let test = env::current_exe().expect("the running test's own path");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("a test is in target/PROFILE/deps");
    let program = folder.join(name);
    if !program.exists() {
        panic!("{} is not built: run `cargo build --workspace` first", program.display());
    }
    program
}
