//! Giving up privilege, for good, while there is one thread.
//!
//! `maglevd` needs none once it listens. The process that starts probers keeps what a prober needs at its start, ready
//! to be handed on, and in force for nobody. A fault in here is always fatal, for a process that only believes that it has
//! no privilege is worse than none.

use std::collections::HashSet;
use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::geteuid;

/// What a prober needs for its raw sockets.
const RAW_SOCKETS: Capability = Capability::CAP_NET_RAW;

/// What a prober that is started as root needs besides: to become somebody else, to leave nothing in the bounding set, and
/// to enter the network namespace that it is told.
const OF_ROOT: [Capability; 4] =
    [Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_SETPCAP, Capability::CAP_SYS_ADMIN];

/// Why privilege could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused a step.
    #[error("cannot {0}: {1}")]
    Step(&'static str, #[source] io::Error),
    /// Privilege is still there after it was given up.
    #[error("still holds privilege after giving it up: {0:?} {1:?}")]
    Remains(CapSet, CapsHashSet),
}

/// Gives up every capability in every set, and the way back to them.
///
/// The bounding set is emptied where `CAP_SETPCAP` permits it; without it, `no_new_privs` and the other, empty sets see
/// to it that nothing in it can be gained.
///
/// # Errors
/// A step failed, or had no effect.
pub fn give_up() -> Result<(), Error> {
    keep(&HashSet::new(), false)?;
    forbid_more()
}

/// Gives up all but what a prober needs at its start. Nothing of that is in force in this process.
///
/// # Errors
/// A step failed, or had no effect.
pub fn keep_for_probers() -> Result<(), Error> {
    let root = geteuid().is_root();
    let of_root = OF_ROOT.into_iter().filter(|_| root);
    let useful: CapsHashSet = of_root.chain([RAW_SOCKETS]).collect();
    let kept: CapsHashSet = read(CapSet::Permitted)?.intersection(&useful).copied().collect();
    // What root starts has all that is permitted; what others start has what is ambient.
    keep(&kept, !root)?;
    if root || kept.contains(&RAW_SOCKETS) {
        return forbid_more();
    }
    // The prober's file may have the capability that we do not have, and no_new_privs would take it away.
    Ok(())
}

/// Leaves `kept` permitted, and nothing in force; what is started has it if it is `ambient`.
fn keep(kept: &CapsHashSet, ambient: bool) -> Result<(), Error> {
    let (none, to_inherit) = (HashSet::new(), if ambient { kept.clone() } else { HashSet::new() });
    shrink_bounding_set(kept)?;
    set(CapSet::Inheritable, &to_inherit, "shrink the inheritable capabilities")?;
    set(CapSet::Effective, &none, "drop the effective capabilities")?;
    set(CapSet::Permitted, kept, "shrink the permitted capabilities")?;
    set(CapSet::Ambient, &to_inherit, "shrink the ambient capabilities")?;
    for (set, wanted) in [
        (CapSet::Permitted, kept),
        (CapSet::Effective, &none),
        (CapSet::Inheritable, &to_inherit),
        (CapSet::Ambient, &to_inherit),
    ] {
        let found = read(set)?;
        if found != *wanted {
            return Err(Error::Remains(set, found));
        }
    }
    Ok(())
}

/// Where `CAP_SETPCAP` permits it.
fn shrink_bounding_set(kept: &CapsHashSet) -> Result<(), Error> {
    if !read(CapSet::Effective)?.contains(&Capability::CAP_SETPCAP) {
        return Ok(());
    }
    for capability in read(CapSet::Bounding)?.difference(kept) {
        caps::drop(None, CapSet::Bounding, *capability)
            .map_err(|error| failed("shrink the capability bounding set", &error))?;
    }
    Ok(())
}

/// No program that is started from here on has more than we have.
fn forbid_more() -> Result<(), Error> {
    prctl::set_no_new_privs().map_err(|errno: Errno| Error::Step("set no_new_privs", errno.into()))
}

/// What is so already is not asked for: a service manager that leaves us nothing forbids the call as well.
fn set(which: CapSet, to: &CapsHashSet, what: &'static str) -> Result<(), Error> {
    if read(which)? == *to {
        return Ok(());
    }
    caps::set(None, which, to).map_err(|error| failed(what, &error))
}

fn read(set: CapSet) -> Result<CapsHashSet, Error> {
    caps::read(None, set).map_err(|error| failed("read the capabilities", &error))
}

fn failed(what: &'static str, error: &caps::errors::CapsError) -> Error {
    Error::Step(what, io::Error::other(error.to_string()))
}
