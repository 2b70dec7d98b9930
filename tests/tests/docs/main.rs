//! What the documents say is so: README, the guides, the manual pages, and what the package brings. `docs/contributing.md` says how
//! they are read.

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

/// Says what pages tell of that is not there, and what is there and not told of.
fn assert_same(what: &str, told: &BTreeSet<String>, there: &BTreeSet<String>) {
    let [superfluous, missing] = [told.difference(there), there.difference(told)].map(Vec::from_iter);
    assert!(
        superfluous.is_empty() && missing.is_empty(),
        "{what}: told of, and not there: {superfluous:?}; there, and not told of: {missing:?}"
    );
}
