//! Permanent drop of privilege, while there is one thread.
//!
//! `maglevd` needs no privilege once it listens. The spawner keeps the prober's start-up privilege permitted or
//! ambient, but never effective. Every failure here is fatal: a process that wrongly assumes that it is unprivileged
//! is dangerous.

use std::collections::HashSet;
use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::geteuid;

/// Capability for the prober's raw sockets.
const RAW_SOCKETS: Capability = Capability::CAP_NET_RAW;

/// Further capabilities of a spawner that root started: its probers change their user, empty the bounding set, and
/// enter their network namespace; and it kills them, although they are of another user then.
const ROOT_CAPABILITIES: [Capability; 5] = [
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_KILL,
];

/// Failure to drop privilege.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {0}: {1}")]
    Step(&'static str, #[source] io::Error),
    /// Capabilities remain after dropping them.
    #[error("still holds privilege after giving it up: {0:?} {1:?}")]
    Remains(CapSet, CapsHashSet),
}

/// Drops every capability from every set, and prevents regaining them.
///
/// Empties the bounding set if `CAP_SETPCAP` permits it. Otherwise `no_new_privs` and the other, empty sets prevent
/// gaining anything from it.
///
/// # Errors
/// A step failed or had no effect.
pub fn drop_all() -> Result<(), Error> {
    keep_only(&HashSet::new(), false)?;
    set_no_new_privs()?;
    set_undumpable()
}

/// Drops all capabilities but those of a starting prober, which are not effective in this process.
///
/// # Errors
/// A step failed or had no effect.
pub fn keep_for_probers() -> Result<(), Error> {
    let root = geteuid().is_root();
    let of_root = ROOT_CAPABILITIES.into_iter().filter(|_| root);
    let useful: CapsHashSet = of_root.chain([RAW_SOCKETS]).collect();
    let kept: CapsHashSet = read(CapSet::Permitted)?.intersection(&useful).copied().collect();
    // Children of root inherit permitted capabilities; those of other users inherit ambient ones.
    keep_only(&kept, !root)?;
    set_undumpable()?;
    if root || kept.contains(&RAW_SOCKETS) {
        return set_no_new_privs();
    }
    // The prober's file may have the capability, and `no_new_privs` would suppress it.
    Ok(())
}

/// Calls `kill` with `CAP_KILL` in force, if this process is permitted to have it.
pub fn with_kill<T>(kill: impl FnOnce() -> T) -> T {
    let kept = caps::has_cap(None, CapSet::Permitted, Capability::CAP_KILL).unwrap_or(false);
    // If raising it fails, the kernel refuses the signal, and the caller sees a process that does not exit.
    let raised = kept && caps::raise(None, CapSet::Effective, Capability::CAP_KILL).is_ok();
    let result = kill();
    if raised {
        let _ = caps::drop(None, CapSet::Effective, Capability::CAP_KILL);
    }
    result
}

/// Keeps `kept` permitted and nothing effective; children inherit it if `ambient`.
fn keep_only(kept: &CapsHashSet, ambient: bool) -> Result<(), Error> {
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

/// Empties the bounding set, before a change of user takes away `CAP_SETPCAP`.
///
/// # Errors
/// A step failed.
pub fn clear_bounding_set() -> Result<(), Error> {
    shrink_bounding_set(&HashSet::new())
}

/// Shrinks the bounding set if `CAP_SETPCAP` permits it.
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

/// Sets `no_new_privs`: no child gains more than this process has.
fn set_no_new_privs() -> Result<(), Error> {
    prctl::set_no_new_privs().map_err(|errno: Errno| Error::Step("set no_new_privs", errno.into()))
}

/// Keeps other processes of this user from the memory of this one, and the memory out of core dumps: it holds the key of the
/// API. A new program resets it, so each process does it itself.
fn set_undumpable() -> Result<(), Error> {
    prctl::set_dumpable(false)
        .map_err(|errno: Errno| Error::Step("make the process undumpable", errno.into()))
}

/// Sets a capability set, unless it already matches: a service manager that grants nothing also blocks the system
/// call.
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
