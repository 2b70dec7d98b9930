//! Users that the daemons become when root starts them.

use std::fs;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, setgroups, setresgid, setresuid};

/// User and group of `maglevd` without an account of that name. Distributions and systemd assign no account from 65520 to
/// 65533. `nobody` would not do: a process of the same user may send signals.
const CONTROLLER_ID: u32 = 65533;

/// User and group of the prober without an account of that name.
const PROBER_ID: u32 = 65532;

/// Ordinary user of a daemon.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceUser {
    /// Name of the account, if there is one.
    pub name: Option<&'static str>,
    /// User.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
}

impl ServiceUser {
    /// Returns the user of `maglevd`. `None` in a user namespace that maps no such user: root is an ordinary user of the host
    /// there.
    #[must_use]
    pub fn controller() -> Option<Self> {
        Self::find("maglevd", CONTROLLER_ID)
    }

    /// Returns the user of the prober, or `None` as [`Self::controller`].
    #[must_use]
    pub fn prober() -> Option<Self> {
        Self::find("maglevd-prober", PROBER_ID)
    }

    fn find(name: &'static str, fallback: u32) -> Option<Self> {
        let account = User::from_name(name).ok().flatten().filter(|user| !user.uid.is_root());
        let account = account.map(|user| Self { name: Some(name), uid: user.uid, gid: user.gid });
        let unnamed = Self { name: None, uid: Uid::from_raw(fallback), gid: Gid::from_raw(fallback) };
        [account, Some(unnamed)].into_iter().flatten().find(Self::is_mapped)
    }

    /// Returns true if this user namespace has this user. An unreadable map counts as the host's.
    fn is_mapped(&self) -> bool {
        let maps = |map: &str, id: u32| fs::read_to_string(map).map_or(true, |map| contains(&map, id));
        maps("/proc/self/uid_map", self.uid.as_raw()) && maps("/proc/self/gid_map", self.gid.as_raw())
    }

    /// Changes this process to the user, with these supplementary groups. The system calls need `CAP_SETUID` and `CAP_SETGID`,
    /// and take all capabilities away.
    ///
    /// # Errors
    /// Error of the system call.
    pub fn switch(&self, groups: &[Gid]) -> Result<(), Errno> {
        setgroups(groups)?;
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)
    }
}

/// Returns the group of this name, if it exists.
#[must_use]
pub fn group(name: &str) -> Option<Gid> {
    Some(Group::from_name(name).ok()??.gid)
}

/// Returns true if the map of a user namespace, lines of inner id, outer id and length, has `id` inside.
fn contains(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let fields: Vec<u64> = line.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
        matches!(fields[..], [inside, _, length] if (inside..inside + length).contains(&u64::from(id)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_contains_ids_of_its_lines() {
        let host = "         0          0 4294967295\n";
        assert!(contains(host, 0) && contains(host, CONTROLLER_ID));
        let one = "         0       1000          1\n";
        assert!(contains(one, 0) && !contains(one, PROBER_ID));
        let two = "0 1000 1\n1 100000 65536\n";
        assert!(contains(two, PROBER_ID) && !contains(two, 65537));
        assert!(!contains("", 0) && !contains("0 1 2 3\nx", 0));
    }

    #[test]
    fn daemons_have_different_users() {
        let (controller, prober) = (ServiceUser::controller().unwrap(), ServiceUser::prober().unwrap());
        assert_ne!(controller.uid, prober.uid);
        assert!(!controller.uid.is_root() && !prober.uid.is_root());
    }
}
