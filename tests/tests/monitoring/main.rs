//! Monitoring of the daemons: alert rules, runbooks and the dashboard.

#![cfg(test)]

mod dashboard;
mod live;
mod rules;

use std::fs;
use std::path::PathBuf;

/// Returns the path of a file in docs.
fn doc(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", name].iter().collect()
}

fn text(name: &str) -> String {
    fs::read_to_string(doc(name)).unwrap()
}
