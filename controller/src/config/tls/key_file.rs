//! The file of the API's private key, which no other account may read.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use maglev_ipc::check::MAX_BUNDLE;
use nix::unistd::{Gid, Group};

/// Reads a private key.
///
/// # Errors
/// The file is unreadable, or other accounts may read it.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let (file, metadata) = super::super::open(path, MAX_BUNDLE).map_err(|error| error.to_string())?;
    if let Some(readers) = readers(metadata.mode(), metadata.uid(), || members(metadata.gid())) {
        return Err(format!(
            "{readers} may read it: `chown root:maglevd` and `chmod 640` it, and let the group have no members"
        ));
    }
    super::super::read_open(file, MAX_BUNDLE).map_err(|error| error.to_string())
}

/// Returns who may read a file of this mode and owner apart from the owner and maglevd. A group is one of a service if the file
/// is root's, and the group has no members: PostgreSQL's rule for its key, but for the members.
fn readers(mode: u32, owner: u32, members: impl FnOnce() -> Vec<String>) -> Option<String> {
    if mode & 0o007 != 0 {
        return Some(format!("every account of this host (mode {:o})", mode & 0o777));
    }
    if mode & 0o070 == 0 {
        return None;
    }
    if owner != 0 || mode & 0o020 != 0 {
        return Some(format!("its group (mode {:o})", mode & 0o777));
    }
    let members = members();
    (!members.is_empty()).then(|| format!("the members of its group ({})", members.join(", ")))
}

/// Returns the accounts that have this group beside their own. An unknown group has none.
fn members(gid: u32) -> Vec<String> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.mem).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_owner_or_group_of_service_may_read() {
        let alice = || vec!["alice".to_owned()];
        for (mode, owner) in [(0o600, 990), (0o400, 0), (0o640, 0), (0o440, 0)] {
            assert_eq!(readers(mode, owner, Vec::new), None, "{mode:o} {owner}");
        }
        for (mode, owner, words) in [
            (0o644, 0, "every account of this host (mode 644)"),
            (0o604, 990, "every account of this host (mode 604)"),
            (0o640, 990, "its group (mode 640)"),
            (0o660, 0, "its group (mode 660)"),
        ] {
            assert_eq!(readers(mode, owner, Vec::new).as_deref(), Some(words));
        }
        assert_eq!(readers(0o640, 0, alice).as_deref(), Some("the members of its group (alice)"));
        assert_eq!(readers(0o600, 990, alice), None);
    }

    #[test]
    fn world_readable_key_is_refused_with_cure() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path), Ok(b"secret".to_vec()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path).unwrap_err().contains("chmod 640"));
    }
}
