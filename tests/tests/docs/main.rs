//! Documentation against programs: README, the guides, the manual pages, and the package contents. `docs/contributing.md`
//! describes the conventions.

#![cfg(test)]

mod codes;
mod console;
mod fences;
mod flags;
mod grammar;
mod keys;
mod links;
mod mentions;
mod metrics;
mod package;
mod reliability;

use std::collections::BTreeSet;

/// Asserts that documentation and program list the same names.
fn assert_same(what: &str, documented: &BTreeSet<String>, there: &BTreeSet<String>) {
    let [superfluous, missing] =
        [documented.difference(there), there.difference(documented)].map(Vec::from_iter);
    assert!(
        superfluous.is_empty() && missing.is_empty(),
        "{what}: documented but missing in the program: {superfluous:?}; in the program but undocumented: {missing:?}"
    );
}
