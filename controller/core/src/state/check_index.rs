//! Which backend a check belongs to.

use alloc::collections::BTreeMap;
use core::num::NonZeroU32;

use maglev_ipc::CheckId;

/// How many numbers are found together.
const PAGE: usize = 64;

/// Which backend a check belongs to. Checks are numbered one after the other, so those that are there lie close together:
/// each outcome finds its own with a look at a small map, and at one place in a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks(BTreeMap<u32, [Option<NonZeroU32>; PAGE]>);

impl Checks {
    /// The index of the check's backend.
    pub fn get(&self, check: CheckId) -> Option<usize> {
        let (page, at) = place(check);
        let found = self.0.get(&page)?[at]?;
        usize::try_from(found.get() - 1).ok()
    }

    /// From now on the check belongs to the backend at `index`.
    pub fn insert(&mut self, check: CheckId, index: usize) {
        let (page, at) = place(check);
        let one_more = u32::try_from(index).ok().and_then(|index| NonZeroU32::MIN.checked_add(index));
        self.0.entry(page).or_insert([None; PAGE])[at] = one_more;
    }

    /// The check is no more.
    pub fn remove(&mut self, check: CheckId) {
        let (page, at) = place(check);
        let Some(found) = self.0.get_mut(&page) else { return };
        found[at] = None;
        if found.iter().all(Option::is_none) {
            self.0.remove(&page);
        }
    }
}

const fn place(check: CheckId) -> (u32, usize) {
    (check.0 / PAGE as u32, check.0 as usize % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_found_until_they_are_no_more_and_leave_nothing_behind() {
        let mut checks = Checks::default();
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
