//! The system's users and groups, as far as they can be told from here.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use maglev_core::config::Account;
use nix::unistd::{Gid, Group, Uid, User};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// What stands for every user and every group that a user namespace does not know.
const OVERFLOW: u32 = 65534;

/// How many names are looked up at a time: a directory that hangs takes no more threads than that.
const LOOKUPS: usize = 4;

/// How long a name is waited for. Without it there is still the number.
const PATIENCE: Duration = Duration::from_secs(1);

/// The system's users and groups.
#[derive(Clone, Debug)]
pub struct AccountDirectory {
    /// Whether the numbers of others cannot be told apart, as under `PrivateUsers=yes`.
    pub hidden: bool,
    lookups: Arc<Semaphore>,
}

impl AccountDirectory {
    /// As they are seen by this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        // Where the map cannot be read, nobody is taken for somebody else.
        Self::with_map(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
    }

    /// As under `PrivateUsers=yes`.
    #[cfg(test)]
    pub fn hiding() -> Self {
        Self::with_map("0 0 1\n")
    }

    fn with_map(uid_map: &str) -> Self {
        Self { hidden: !is_identity(uid_map), lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }

    /// Whether a user's or a group's number may stand for any other.
    #[must_use]
    pub const fn is_hidden(&self, id: u32) -> bool {
        self.hidden && id == OVERFLOW
    }

    /// The user, as `alice (uid 1000)`.
    pub async fn describe(&self, uid: u32) -> String {
        if self.is_hidden(uid) {
            return "a unix peer (uid hidden)".into();
        }
        if uid == 0 {
            return "root".into();
        }
        match self.name_of(uid).await {
            Some(name) => format!("{name} (uid {uid})"),
            None => format!("uid {uid}"),
        }
    }

    async fn name_of(&self, uid: u32) -> Option<String> {
        let turn = Arc::clone(&self.lookups).try_acquire_owned().ok()?;
        let found = spawn_blocking(move || {
            let found = User::from_uid(Uid::from_raw(uid));
            drop(turn);
            found
        });
        let user = timeout(PATIENCE, found).await.ok()?.ok()?.ok()??;
        Some(user.name)
    }
}

/// The number of a user. May wait for the system's directory of users.
///
/// # Errors
/// There is none of that name, in words.
pub fn user(account: &Account) -> Result<u32, String> {
    match account {
        Account::Id(id) => Ok(*id),
        Account::Name(name) => match User::from_name(name) {
            Ok(Some(user)) => Ok(user.uid.as_raw()),
            Ok(None) => Err(format!("no user is named `{name}`")),
            Err(errno) => Err(format!("user `{name}` cannot be looked up: {errno}")),
        },
    }
}

/// The number of a group. May wait for the system's directory of groups.
///
/// # Errors
/// There is none of that name, in words.
pub fn group(account: &Account) -> Result<u32, String> {
    match account {
        Account::Id(id) => Ok(*id),
        Account::Name(name) => match Group::from_name(name) {
            Ok(Some(group)) => Ok(Gid::as_raw(group.gid)),
            Ok(None) => Err(format!("no group is named `{name}`")),
            Err(errno) => Err(format!("group `{name}` cannot be looked up: {errno}")),
        },
    }
}

/// Whether every number stands for itself.
fn is_identity(uid_map: &str) -> bool {
    uid_map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_map_hides_nobody() {
        assert!(!AccountDirectory::with_map("         0          0 4294967295\n").hidden);
        for partial in ["", "0 0 1\n998 998 1\n", "0 100000 65536\n", "0 0 65536"] {
            let accounts = AccountDirectory::with_map(partial);
            assert!(accounts.is_hidden(65534) && !accounts.is_hidden(0), "{partial}");
        }
    }

    #[tokio::test]
    async fn a_peer_is_described_as_well_as_it_is_known() {
        let open = AccountDirectory::with_map("0 0 4294967295");
        assert_eq!(open.describe(0).await, "root");
        assert_eq!(open.describe(3_000_000_000).await, "uid 3000000000");
        assert_eq!(open.describe(65534).await, "nobody (uid 65534)");
        assert_eq!(AccountDirectory::with_map("0 0 1").describe(65534).await, "a unix peer (uid hidden)");
    }

    #[test]
    fn names_become_numbers() {
        assert_eq!(user(&Account::Name("root".into())), Ok(0));
        assert_eq!(group(&Account::Id(7)), Ok(7));
        assert_eq!(
            user(&Account::Name("no-such-user".into())),
            Err("no user is named `no-such-user`".into())
        );
        assert_eq!(
            group(&Account::Name("no-such-group".into())),
            Err("no group is named `no-such-group`".into())
        );
    }
}
