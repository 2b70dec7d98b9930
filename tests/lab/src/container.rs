//! Machines with their own systemd: containers that boot Debian, for tests that need a whole machine.
//!
//! Each boot is fresh and takes about a second. If the host lacks a requirement, the test fails and names it.
//! `SKIP_CONTAINER=1` skips such tests.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure ends the test at once"
)]

use std::env;

pub mod cgroups;
pub mod dockerfile;
pub mod image;
#[cfg(target_arch = "x86_64")]
pub mod inject;
pub mod inside;
pub mod machine;
pub mod package;
pub mod rootfs;
pub mod vpp;

/// Programs required to boot a container.
const PROGRAMS: [&str; 4] = ["systemd-nspawn", "nsenter", "setpriv", "ip"];

/// True if test `name` must be skipped. Prints the skip line that the test runner counts.
///
/// # Panics
/// If the test must run but this host cannot boot a container.
#[must_use]
pub fn skip(name: &str) -> bool {
    if env::var_os("SKIP_CONTAINER").is_some_and(|skip| skip == "1") {
        println!("SKIP {name}: SKIP_CONTAINER=1");
        return true;
    }
    if let Some(missing) = crate::missing(&PROGRAMS) {
        panic!("no container can be booted here: {missing}; SKIP_CONTAINER=1 leaves these tests out");
    }
    false
}
