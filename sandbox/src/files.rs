//! Landlock: files and ports. Rights that an older kernel lacks are omitted without an error.

use std::env;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};

use crate::Error;

/// ABI that the rules use. A later one adds rights, and this code would have to grant those that the daemons need.
const KNOWN: ABI = ABI::V7;

/// Forbids all files, listening ports, and signals and abstract sockets of other processes. TCP connections stay
/// unrestricted, because the backends are not known yet.
pub(crate) fn nothing() -> Result<RestrictionStatus, Error> {
    let ruleset = ruleset(AccessNet::BindTcp.into())?;
    // Port 0 is a bind to a source address.
    Ok(ruleset.add_rule(NetPort::new(0, AccessNet::BindTcp))?.restrict_self()?)
}

/// Allows reading of all files, and changes below `writable` only. Forbids execution, all ports, and signals and abstract
/// sockets of other processes.
pub(crate) fn reading(writable: Option<&Path>) -> Result<RestrictionStatus, Error> {
    let mut ruleset = ruleset(AccessNet::from_all(KNOWN))?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(KNOWN) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    for (path, access) in [(Some(Path::new("/")), read), (writable, write)] {
        // A missing directory cannot be written to anyway.
        if let Some(directory) = path.and_then(|path| PathFd::new(path).ok()) {
            ruleset = ruleset.add_rule(PathBeneath::new(directory, access))?;
        }
    }
    Ok(ruleset.restrict_self()?)
}

fn ruleset(net: BitFlags<AccessNet>) -> Result<RulesetCreated, Error> {
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(KNOWN))?.handle_access(net)?;
    Ok(ruleset.scope(scope())?.create()?)
}

/// Returns the scopes to isolate. Abstract sockets stay reachable if the service manager uses one.
fn scope() -> BitFlags<Scope> {
    let is_abstract = env::var_os("NOTIFY_SOCKET").is_some_and(|path| path.as_bytes().starts_with(b"@"));
    if is_abstract { Scope::Signal.into() } else { Scope::from_all(KNOWN) }
}
