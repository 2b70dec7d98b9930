//! Dropping all privilege, irrevocably, before the first byte from outside is read.
//!
//! Raw sockets and the listening socket, opened earlier, stay open. A failure is always fatal: a prober that wrongly assumes
//! that it has no privilege is worse than none.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use maglev_sandbox::ServiceUser;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{geteuid, getresuid};

/// Failure to drop privilege.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {0}")]
    Step(&'static str, #[source] io::Error),
    /// The process still has privilege afterwards.
    #[error("still has privilege after dropping it: {0}")]
    Remains(String),
}

/// Drops root and all capabilities of all sets, so that neither can be regained. In a user namespace that maps no other user,
/// root is an ordinary user of the host, and stays.
///
/// Clearing the bounding set needs `CAP_SETPCAP`. Without it, `no_new_privs` and the other, empty sets prevent gaining a
/// capability of the bounding set.
///
/// # Errors
/// A step failed, or had no effect.
pub fn drop_all() -> Result<(), Error> {
    clear_bounding_set()?;
    let user = ServiceUser::prober();
    if let (true, Some(user)) = (geteuid().is_root(), &user) {
        user.switch(&[]).map_err(step("switch to an unprivileged user"))?;
    }
    clear(CapSet::Ambient, "clear the ambient capabilities")?;
    clear(CapSet::Effective, "drop the effective capabilities")?;
    clear(CapSet::Permitted, "drop the permitted capabilities")?;
    clear(CapSet::Inheritable, "drop the inheritable capabilities")?;
    prctl::set_no_new_privs().map_err(step("set no_new_privs"))?;
    // Prevents tracing by other processes of this user, and core dumps.
    prctl::set_dumpable(false).map_err(step("make the process undumpable"))?;
    verify(user.is_some())
}

fn clear_bounding_set() -> Result<(), Error> {
    const WHAT: &str = "clear the capability bounding set";
    if !has(CapSet::Effective, Capability::CAP_SETPCAP)? {
        return Ok(());
    }
    for capability in read(CapSet::Bounding)? {
        caps::drop(None, CapSet::Bounding, capability).map_err(|error| failed(WHAT, &error))?;
    }
    Ok(())
}

/// Reads the credentials back from the kernel. Root is a failure where there are `other_users`.
fn verify(other_users: bool) -> Result<(), Error> {
    for set in [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable, CapSet::Ambient] {
        let left = read(set)?;
        if !left.is_empty() {
            return Err(Error::Remains(format!("{set:?} {left:?}")));
        }
    }
    let users = getresuid().map_err(step("read the user"))?;
    if other_users && [users.real, users.effective, users.saved].iter().any(|uid| uid.is_root()) {
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
