//! Sandboxes of the two daemons: the system calls, files and ports that each may use after its setup.
//!
//! An attacker who takes over a process through its input stays inside two layers. Both are irreversible and independent of
//! systemd:
//!
//! * a seccomp filter of its own, with the allowed system calls and their arguments;
//! * a Landlock domain, with the allowed files and ports.
//!
//! [`prober`] and [`controller`] hold the two lists, as data in groups with reasons. Each process calls `enter` once, while it
//! has one thread and after it has opened and bound everything that the sandbox forbids.
//!
//! ```no_run
//! let report = maglev_sandbox::prober::enter()?;
//! // Such as "seccomp 70 calls, Landlock ABI 6".
//! println!("sandbox: {report}");
//! # Ok::<(), maglev_sandbox::Error>(())
//! ```

mod both;
pub mod controller;
mod descriptors;
mod files;
mod filter;
pub mod prober;
pub mod service_user;

use std::fmt;

pub use descriptors::close_inherited;
pub use service_user::ServiceUser;

use landlock::{LandlockStatus, RestrictionStatus, RulesetError};

/// Reason for a failed setup of the sandbox. The process must exit.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The architecture is neither x86-64 nor arm64.
    #[error("seccomp: no filter for this architecture: {0}")]
    Compile(#[from] seccompiler::BackendError),
    /// The kernel rejects a filter.
    #[error("seccomp: {0}")]
    Install(#[from] seccompiler::Error),
    /// The kernel has Landlock and rejects the rules. A kernel without Landlock is not an error.
    #[error("Landlock: {0}")]
    Landlock(#[from] RulesetError),
}

/// Summary of the sandbox in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SandboxReport {
    /// Number of allowed system calls, including those limited to certain arguments.
    pub calls: usize,
    /// Version of the kernel's Landlock ABI, if it has Landlock.
    pub landlock: Option<i32>,
}

impl SandboxReport {
    fn new(calls: usize, status: &RestrictionStatus) -> Self {
        let landlock = match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => Some(effective_abi as i32),
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
        };
        Self { calls, landlock }
    }
}

impl fmt::Display for SandboxReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seccomp {} calls, ", self.calls)?;
        match self.landlock {
            Some(abi) => write!(f, "Landlock ABI {abi}"),
            None => write!(f, "no Landlock in this kernel"),
        }
    }
}
