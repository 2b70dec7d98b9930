//! What operators watch the daemons with: the rules for alerts, their runbooks, and the dashboard.

#![cfg(test)]

mod dashboard;
mod live;
mod rules;

use std::fs;
use std::path::PathBuf;

/// A file of the documentation.
fn doc(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", name].iter().collect()
}

fn text(name: &str) -> String {
    fs::read_to_string(doc(name)).unwrap()
}
