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
