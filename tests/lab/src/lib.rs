//! A lab for whole programs: daemons as processes, hosts as network namespaces, servers to probe, and faults of all of them.
//!
//! No wait is for a fixed time. Each waits for an event, and panics after [`PATIENCE`] with the last observed state.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure ends the test at once"
)]

use std::time::Duration;
use std::{env, io};

pub mod certificates;
pub mod container;
pub mod controller;
pub mod dataplane;
pub mod fake_peer;
pub mod faulty_link;
pub mod fixtures;
pub mod host;
pub mod hostile_client;
pub mod hostile_server;
pub mod http_server;
pub mod maglevd;
pub mod many_frontends;
pub mod metrics;
pub mod nginx;
pub mod openssl;
pub mod packet;
pub mod packets;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod scripted_prober;
pub mod servers;
pub mod service_manager;
pub mod shared_value;
pub mod test_dir;
pub mod topology;
pub mod vpp_observer;

/// Timeout of every wait. Only failing tests reach it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Repeats `call` while signals interrupt it. With a timeout set, even an ignored signal causes `EINTR`.
///
/// # Errors
/// Those of the call.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// True if test `name` must be skipped because root or one of `programs` is missing. Prints the skip line that the test runner
/// counts.
#[must_use]
pub fn skip(name: &str, programs: &[&str]) -> bool {
    let Some(why) = missing(programs) else { return false };
    println!("SKIP {name}: {why}");
    true
}

/// Same as [`skip`] for tests that do not need root.
#[must_use]
pub fn skip_without(name: &str, programs: &[&str]) -> bool {
    let missing = first_missing(programs);
    if let Some(program) = missing {
        println!("SKIP {name}: needs {program}");
    }
    missing.is_some()
}

/// Returns the missing requirement as text.
pub(crate) fn missing(programs: &[&str]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    first_missing(programs).map(|program| format!("needs {program}"))
}

fn first_missing<'a>(programs: &[&'a str]) -> Option<&'a str> {
    programs.iter().copied().find(|program| !is_installed(program))
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
