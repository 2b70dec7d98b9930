//! Landlock: files and ports. What an older kernel does not know of it is left out, without an error.

use std::env;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};

use crate::Error;

/// What is asked for. A later version has rights of its own, and this code would have to grant those it needs.
const KNOWN: ABI = ABI::V7;

/// No file, no port to listen on, nobody else's signals and abstract sockets. Connections by TCP go anywhere: who the
/// backends are is not known yet.
pub(crate) fn nothing() -> Result<RestrictionStatus, Error> {
    let ruleset = ruleset(AccessNet::BindTcp.into())?;
    // A source address without a port.
    Ok(ruleset.add_rule(NetPort::new(0, AccessNet::BindTcp))?.restrict_self()?)
}

/// Every file may be read, none run, and only those below `writable` changed. No port, nobody else's signals and
/// abstract sockets.
pub(crate) fn reading(writable: Option<&Path>) -> Result<RestrictionStatus, Error> {
    let mut ruleset = ruleset(AccessNet::from_all(KNOWN))?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(KNOWN) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    for (path, access) in [(Some(Path::new("/")), read), (writable, write)] {
        // A folder that is not there cannot be written to either way.
        if let Some(folder) = path.and_then(|path| PathFd::new(path).ok()) {
            ruleset = ruleset.add_rule(PathBeneath::new(folder, access))?;
        }
    }
    Ok(ruleset.restrict_self()?)
}

fn ruleset(net: BitFlags<AccessNet>) -> Result<RulesetCreated, Error> {
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(KNOWN))?.handle_access(net)?;
    Ok(ruleset.scope(scope())?.create()?)
}

/// A service manager that is told through an abstract socket stays within reach.
fn scope() -> BitFlags<Scope> {
    let is_abstract = env::var_os("NOTIFY_SOCKET").is_some_and(|path| path.as_bytes().starts_with(b"@"));
    if is_abstract { Scope::Signal.into() } else { Scope::from_all(KNOWN) }
}
