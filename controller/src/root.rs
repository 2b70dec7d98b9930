//! Start as root: `maglevd` becomes an ordinary user once its sockets are open.
//!
//! It opens some files later: the configuration at a reload, with the certificates and keys that it names, VPP's sockets whenever VPP
//! restarts, and its state. If only root can open one of them, `maglevd` stays root, and logs which. It never keeps a capability.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use maglev_sandbox::{ServiceUser, service_user};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::{
    AccessFlags, Gid, faccessat, getegid, geteuid, getgrouplist, getgroups, setegid, seteuid, setgroups,
};
use tracing::{info, warn};

use crate::flags::{Flags, ProberAddress};
use crate::{config, privilege};

/// Group of VPP's sockets.
const VPP_GROUP: &str = "vpp";

/// Becomes an ordinary user if root has started this process, and if that user can open all later files.
///
/// # Errors
/// Only part of the change has happened, so the process must exit.
pub fn leave(flags: &Flags, prober: &ProberAddress) -> anyhow::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    // Without another user in this user namespace, root is an ordinary user of the host.
    let Some(user) = ServiceUser::controller() else { return Ok(()) };
    let who = user.name.map_or_else(|| format!("uid {}", user.uid), |name| format!("user {name}"));
    let groups = groups(&user, flags);
    if let Some(obstacle) = attempt(&user, &groups, || find_obstacle(flags, prober))? {
        let action = "let that user open it, or start maglevd as another user";
        warn!("stays root, because {who} {obstacle}: {action}");
        return Ok(());
    }
    create_state_dir(&flags.state_dir(), &user).context("state directory")?;
    privilege::clear_bounding_set()?;
    user.switch(&groups).with_context(|| format!("cannot change to {who}"))?;
    info!("started as root, continues as {who}");
    Ok(())
}

/// Returns the groups of the user, and those that may open VPP's sockets.
fn groups(user: &ServiceUser, flags: &Flags) -> Vec<Gid> {
    let name = user.name.and_then(|name| CString::new(name).ok());
    let own = name.and_then(|name| getgrouplist(&name, user.gid).ok()).unwrap_or_else(|| vec![user.gid]);
    let of_socket = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        let for_group = metadata.mode() & 0o020 != 0 && metadata.gid() != 0;
        for_group.then(|| Gid::from_raw(metadata.gid()))
    };
    let sockets = [&flags.vpp_api_addr, &flags.vpp_stats_addr].into_iter().filter_map(of_socket);
    let vpp = service_user::group(VPP_GROUP).filter(|_| flags.uses_vpp());
    let mut groups: Vec<_> = own.into_iter().chain(vpp).chain(sockets).collect();
    groups.sort_unstable_by_key(|group| group.as_raw());
    groups.dedup();
    groups
}

/// Runs `work` as `user`, which file permissions apply to, and returns to root. If this process may not change its user,
/// returns that as the obstacle.
fn attempt(
    user: &ServiceUser,
    groups: &[Gid],
    work: impl FnOnce() -> Option<String>,
) -> anyhow::Result<Option<String>> {
    let (root, own_gid, own_groups) = (geteuid(), getegid(), getgroups()?);
    let begun = setgroups(groups).and_then(|()| setegid(user.gid)).and_then(|()| seteuid(user.uid));
    let result = match begun {
        Ok(()) => work(),
        Err(errno) => {
            Some(format!("is out of reach without CAP_SETUID and CAP_SETGID ({})", describe(errno)))
        }
    };
    seteuid(root).context("cannot return to root")?;
    setegid(own_gid).context("cannot return to root's group")?;
    if getgroups()? != own_groups {
        setgroups(&own_groups).context("cannot return to root's groups")?;
    }
    Ok(result)
}

/// Returns the first file that the current effective user cannot open, and the reason.
fn find_obstacle(flags: &Flags, prober: &ProberAddress) -> Option<String> {
    if let Err(error) = config::load(&flags.config) {
        return Some(format!("cannot read the configuration: {}", config::report(&error).1.join("; ")));
    }
    let prober = match prober {
        ProberAddress::Socket(path) => Some(path),
        ProberAddress::Spawn(_) => None,
    };
    for socket in [&flags.vpp_api_addr, &flags.vpp_stats_addr].into_iter().chain(prober) {
        match access(socket, AccessFlags::W_OK) {
            // Its owner will create it, VPP for its group.
            Err(Errno::ENOENT) if prober == Some(socket) || service_user::group(VPP_GROUP).is_some() => {}
            Err(errno) if !socket.as_os_str().is_empty() => return Some(cannot_open(socket, errno)),
            Ok(()) | Err(_) => {}
        }
    }
    find_in_state_dir(&flags.state_dir())
}

/// Returns an unusable state directory, or a file in it that cannot be read. Files are replaced, so they need not be writable.
fn find_in_state_dir(directory: &Path) -> Option<String> {
    match access(directory, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK) {
        // Root creates it.
        Err(Errno::ENOENT) => return None,
        Err(errno) => return Some(cannot_open(directory, errno)),
        Ok(()) => {}
    }
    let files = fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut unreadable = files.filter_map(|path| {
        let errno = access(&path, AccessFlags::R_OK).err()?;
        Some(cannot_open(&path, errno))
    });
    unreadable.next()
}

/// Creates the state directory for `user`, unless it exists or there is to be none.
fn create_state_dir(path: &Path, user: &ServiceUser) -> io::Result<()> {
    if path.as_os_str().is_empty() || DirBuilder::new().mode(0o750).create(path).is_err() {
        // The store reports a directory that cannot be created.
        return Ok(());
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let directory: File = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    fchown(&directory, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
}

/// Checks `path` for the effective user. The system call without flags checks the real one.
fn access(path: &Path, mode: AccessFlags) -> Result<(), Errno> {
    faccessat(AT_FDCWD, path, mode, AtFlags::AT_EACCESS)
}

fn cannot_open(path: &Path, errno: Errno) -> String {
    format!("cannot open {}: {}", path.display(), describe(errno))
}

fn describe(errno: Errno) -> String {
    errno.desc().to_lowercase()
}
