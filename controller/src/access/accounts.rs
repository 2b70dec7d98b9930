//! Users and groups of the system, as visible in this user namespace.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use maglev_core::config::Account;
use nix::unistd::{Gid, Group, Uid, User};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// ID of every user and group that a user namespace does not map.
const OVERFLOW_ID: u32 = 65534;

/// Maximum number of concurrent lookups. A directory server that hangs occupies no more threads.
const MAX_LOOKUPS: usize = 4;

/// Maximum time to wait for a name; after that the number is shown.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Users and groups of the system.
#[derive(Clone, Debug)]
pub struct AccountDirectory {
    /// True if other accounts' IDs are indistinguishable, as under `PrivateUsers=yes`.
    pub hidden: bool,
    lookups: Arc<Semaphore>,
}

impl AccountDirectory {
    /// Reads the ID map of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        // An unreadable map counts as hidden, so no account is mistaken for another.
        Self::with_map(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
    }

    /// Returns a directory with hidden accounts, as under `PrivateUsers=yes`.
    #[cfg(test)]
    pub fn with_hidden_accounts() -> Self {
        Self::with_map("0 0 1\n")
    }

    fn with_map(uid_map: &str) -> Self {
        Self { hidden: !is_identity(uid_map), lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }

    /// Returns true if `id` may stand for any unmapped account.
    #[must_use]
    pub const fn is_hidden(&self, id: u32) -> bool {
        self.hidden && id == OVERFLOW_ID
    }

    /// Formats a user as `alice (uid 1000)`.
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
        let user = timeout(LOOKUP_TIMEOUT, found).await.ok()?.ok()?.ok()??;
        Some(user.name)
    }
}

/// Returns the ID of a user. Blocks on the system's user database.
///
/// # Errors
/// Message that names the missing user.
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

/// Returns the ID of a group. Blocks on the system's group database.
///
/// # Errors
/// Message that names the missing group.
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

/// Returns true if the map is the identity.
fn is_identity(uid_map: &str) -> bool {
    uid_map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_identity_map_shows_accounts() {
        assert!(!AccountDirectory::with_map("         0          0 4294967295\n").hidden);
        for partial in ["", "0 0 1\n998 998 1\n", "0 100000 65536\n", "0 0 65536"] {
            let accounts = AccountDirectory::with_map(partial);
            assert!(accounts.is_hidden(65534) && !accounts.is_hidden(0), "{partial}");
        }
    }

    #[tokio::test]
    async fn peer_description_falls_back_to_uid() {
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
