//! The inventory of `docs/security.md` lists every `unsafe` in the tree, and nothing else.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Returns the files of the inventory. Each row must state one place.
fn inventory(root: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let section = text.split("\n## `unsafe`\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.map(|row| {
        assert!(row.contains(", once |"), "one row per place: {row}");
        row.split('`').next().unwrap().to_owned()
    });
    rows.collect()
}

/// Returns the sources under version control.
fn sources(root: &Path) -> Vec<String> {
    let listed = Command::new("git").arg("-C").arg(root).args(["ls-files", "*.rs"]).output();
    let listed = listed.expect("git").stdout;
    String::from_utf8(listed).unwrap().lines().map(str::to_owned).collect()
}

/// Counts unsafe blocks and declarations in a file. Comments and lints do not count.
fn places(text: &str) -> usize {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let words = code.flat_map(|line| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect::<Vec<_>>()
    });
    words.filter(|word| word == "unsafe").count()
}

/// True if a file allows the `unsafe_code` lint.
fn allows_lint(text: &str) -> bool {
    let mut lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.any(|line| line.contains("unsafe_code") && !line.contains("forbid"))
}

#[test]
fn unsafe_inventory_is_complete() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let inventory = inventory(&root);
    let sources = sources(&root);
    if sources.is_empty() {
        return println!("SKIP unsafe_inventory_is_complete: this is no checkout of git");
    }
    let mut found = BTreeSet::new();
    for source in sources.iter().filter(|source| !source.ends_with("tests/unsafe_code.rs")) {
        let text = fs::read_to_string(root.join(source)).unwrap();
        let count = places(&text);
        assert!(count <= 1, "{source} has {count} unsafe places; the inventory allows one per file");
        assert_eq!(count == 1, allows_lint(&text), "{source}: the lint may be allowed for unsafe code only");
        if count == 1 {
            found.insert(source.clone());
        }
    }
    assert_eq!(found, inventory, "sources and docs/security.md differ");
}

#[test]
fn every_crate_denies_unsafe_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let workspace = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(workspace.contains("\nunsafe_code = \"deny\"\n"));
    let members = workspace.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    for member in members.trim_end_matches(']').split(", ") {
        let manifest = root.join(member.trim_matches('"')).join("Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        assert!(text.contains("[lints]\nworkspace = true\n"), "{}", manifest.display());
    }
}
