//! Giving up privilege, for good, before the first byte from outside is read.
//!
//! What is opened before stays open: raw sockets, the listening socket. What is kept: nothing. A fault in here is
//! always fatal, for a prober that only believes that it has no privilege is worse than none.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, User, geteuid, getresuid, setgroups, setresgid, setresuid};

/// Who runs the prober that was started as root, in this order; the last is a number, should there be no such user.
const UNPRIVILEGED: [&str; 2] = ["maglevd-prober", "nobody"];
const NOBODY: u32 = 65534;

/// Why privilege could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused a step.
    #[error("cannot {0}: {1}")]
    Step(&'static str, #[source] io::Error),
    /// Privilege is still there after it was given up.
    #[error("still holds privilege after giving it up: {0}")]
    Remains(String),
}

/// Gives up root, every capability in every set, and the way back to them.
///
/// The bounding set is emptied where `CAP_SETPCAP` permits it; without it, `no_new_privs` and the other, empty
/// sets see to it that nothing in it can be gained.
///
/// # Errors
/// A step failed, or had no effect.
pub fn give_up() -> Result<(), Error> {
    clear_bounding_set()?;
    if geteuid().is_root() {
        become_nobody().map_err(step("become an unprivileged user"))?;
    }
    clear(CapSet::Ambient, "clear the ambient capabilities")?;
    clear(CapSet::Effective, "drop the effective capabilities")?;
    clear(CapSet::Permitted, "drop the permitted capabilities")?;
    clear(CapSet::Inheritable, "drop the inheritable capabilities")?;
    prctl::set_no_new_privs().map_err(step("set no_new_privs"))?;
    // No other process of this user may trace us, and no core file shows what we hold.
    prctl::set_dumpable(false).map_err(step("make the process undumpable"))?;
    verify()
}

fn clear_bounding_set() -> Result<(), Error> {
    const WHAT: &str = "empty the capability bounding set";
    if !has(CapSet::Effective, Capability::CAP_SETPCAP)? {
        return Ok(());
    }
    for capability in read(CapSet::Bounding)? {
        caps::drop(None, CapSet::Bounding, capability).map_err(|error| failed(WHAT, &error))?;
    }
    Ok(())
}

fn become_nobody() -> Result<(), Errno> {
    let users = UNPRIVILEGED.iter().filter_map(|name| User::from_name(name).ok().flatten());
    let ids = users.map(|user| (user.uid, user.gid)).find(|(uid, _)| !uid.is_root());
    let (uid, gid) = ids.unwrap_or((Uid::from_raw(NOBODY), Gid::from_raw(NOBODY)));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

/// Reads back what the kernel holds of us.
fn verify() -> Result<(), Error> {
    for set in [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable, CapSet::Ambient] {
        let left = read(set)?;
        if !left.is_empty() {
            return Err(Error::Remains(format!("{set:?} {left:?}")));
        }
    }
    let users = getresuid().map_err(step("read the user"))?;
    if [users.real, users.effective, users.saved].iter().any(|uid| uid.is_root()) {
        return Err(Error::Remains("user root".to_owned()));
    }
    if !prctl::get_no_new_privs().map_err(step("read no_new_privs"))? {
        return Err(Error::Remains("no_new_privs is not set".to_owned()));
    }
    Ok(())
}

fn clear(set: CapSet, what: &'static str) -> Result<(), Error> {
    caps::clear(None, set).map_err(|error| failed(what, &error))
}

fn has(set: CapSet, capability: Capability) -> Result<bool, Error> {
    caps::has_cap(None, set, capability).map_err(|error| failed("read the capabilities", &error))
}

fn read(set: CapSet) -> Result<CapsHashSet, Error> {
    caps::read(None, set).map_err(|error| failed("read the capabilities", &error))
}

fn failed(what: &'static str, error: &caps::errors::CapsError) -> Error {
    Error::Step(what, io::Error::other(error.to_string()))
}

fn step(what: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Step(what, errno.into())
}
