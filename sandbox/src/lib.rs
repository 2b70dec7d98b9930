//! What each process of vpp-maglev may ask of the kernel once it is set up.
//!
//! Whoever takes over a process with what it reads from outside finds a seccomp filter of that process's own, which
//! knows system calls and their arguments, and a Landlock domain, which knows files and ports. Neither can be taken
//! off again, and both hold with systemd and without.
//!
//! [`prober`] and [`controller`] are the two lists; what is in them is data, in groups that say why.

mod both;
pub mod controller;
mod files;
mod filter;
pub mod prober;

use std::fmt;

use landlock::{LandlockStatus, RestrictionStatus, RulesetError};

/// Why a process is not confined. It must not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lists are written for x86-64 and arm64.
    #[error("seccomp: no filter for this architecture: {0}")]
    Compile(#[from] seccompiler::BackendError),
    /// The kernel does not take a filter.
    #[error("seccomp: {0}")]
    Install(#[from] seccompiler::Error),
    /// The kernel has Landlock and does not take what is asked. One that has no Landlock is no error.
    #[error("Landlock: {0}")]
    Landlock(#[from] RulesetError),
}

/// What is in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Report {
    /// How many system calls are allowed, some of them with certain arguments only.
    pub calls: usize,
    /// The version of Landlock's ABI, if this kernel has Landlock.
    pub landlock: Option<i32>,
}

impl Report {
    fn new(calls: usize, status: &RestrictionStatus) -> Self {
        let landlock = match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => Some(effective_abi as i32),
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
        };
        Self { calls, landlock }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seccomp {} calls, ", self.calls)?;
        match self.landlock {
            Some(abi) => write!(f, "Landlock ABI {abi}"),
            None => write!(f, "no Landlock in this kernel"),
        }
    }
}
