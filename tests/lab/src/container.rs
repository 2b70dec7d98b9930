//! Machines with a systemd of their own: containers that boot Debian, for what only a whole machine can show.
//!
//! Each boot is fresh and takes about a second. What a machine needs of this one is asked for before; where something is
//! missing the test fails and says what, unless `SKIP_CONTAINER=1` leaves such tests out.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a machine cannot do ends the test that asked for it, there and then"
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

/// What a container cannot be booted without.
const PROGRAMS: [&str; 4] = ["systemd-nspawn", "nsenter", "setpriv", "ip"];

/// Whether the test called `name` is to be left out. Says so in the form in which skipped tests are counted.
///
/// # Panics
/// It is not to be left out, and cannot run here.
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
