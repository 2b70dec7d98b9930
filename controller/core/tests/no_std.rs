//! The core cannot do IO: neither the crate nor any of its dependencies uses `std`.
//!
//! `#![no_std]` covers the crate's own code. This test covers the dependencies, with the features that they have in a
//! workspace without other crates. In the real one, cargo unifies them with those of other crates.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates of the reduced workspace.
const OURS: [&str; 3] = ["controller/core", "ipc", "time"];
/// Dependencies, each of them `no_std` without its feature `std`.
const NO_STD: [&str; 12] = [
    "maglev-core",
    "maglev-ipc",
    "maglev-time",
    "regex-automata",
    "regex-syntax",
    "rustls-pki-types",
    "rustls-webpki",
    "serde",
    "serde_core",
    "thiserror",
    "untrusted",
    "zeroize",
];
/// Procedural macros and their dependencies. They run in the compiler and are not linked.
const MACROS: [&str; 6] = ["proc-macro2", "quote", "serde_derive", "syn", "thiserror-impl", "unicode-ident"];

/// Writes a workspace of [`OURS`] with empty sources and without dev-dependencies.
fn reduced_workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let reduced = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no_std");
    for member in OURS {
        let manifest = fs::read_to_string(root.join(member).join("Cargo.toml")).unwrap();
        let manifest = manifest.split("[dev-dependencies]").next().unwrap();
        let directory = reduced.join(member);
        fs::create_dir_all(directory.join("src")).unwrap();
        fs::write(directory.join("src/lib.rs"), "").unwrap();
        fs::write(directory.join("Cargo.toml"), manifest).unwrap();
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let members =
        |line: &str| if line.starts_with("members = ") { format!("members = {OURS:?}") } else { line.into() };
    let manifest: Vec<_> = manifest.lines().map(members).collect();
    fs::write(reduced.join("Cargo.toml"), manifest.join("\n")).unwrap();
    fs::copy(root.join("Cargo.lock"), reduced.join("Cargo.lock")).unwrap();
    reduced
}

#[test]
fn core_and_its_dependencies_are_no_std() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--no-dedupe"])
        .args(["--prefix", "none", "--format", "{p} features={f}"])
        .current_dir(reduced_workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected: BTreeSet<_> = NO_STD.into_iter().chain(MACROS).collect();
    let mut found = BTreeSet::new();
    for line in String::from_utf8(output.stdout).unwrap().lines().filter(|line| !line.is_empty()) {
        let name = line.split(' ').next().unwrap();
        let features = line.rsplit_once("features=").unwrap().1;
        let has_std = features.split(',').any(|feature| feature == "std");
        assert!(!has_std || MACROS.contains(&name), "feature std: {line}");
        found.insert(name.to_owned());
    }
    assert!(found.iter().map(String::as_str).eq(expected), "dependencies changed: {found:?}");
}
