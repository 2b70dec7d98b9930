//! The sources of this repository as data, for tests that hold the tree to its own rules.
//!
//! * [`Repository`] lists the files under version control.
//! * [`modules::Crate`] parses one crate into modules and the references between them.
//! * [`prose`] counts words and patterns in comments and documents.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub mod modules;
pub mod prose;

/// The crates that are shipped, as directories from the root. The rules about names and cycles apply to these.
pub const PRODUCT: [&str; 10] = [
    "ipc",
    "ipc/link",
    "time",
    "sandbox",
    "systemd/notify",
    "prober",
    "controller/core",
    "controller/vpp",
    "controller",
    "maglevc",
];

/// A checkout of this repository.
#[derive(Debug)]
pub struct Repository {
    root: PathBuf,
    files: Vec<String>,
}

impl Repository {
    /// Lists the files that git tracks. Returns `None` where this is not a checkout, as in a source archive.
    #[must_use]
    pub fn open() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let listed = Command::new("git").arg("-C").arg(&root).args(["ls-files", "-z"]).output().ok()?;
        let listed = String::from_utf8(listed.stdout).ok()?;
        let files: Vec<String> = listed.split_terminator('\0').map(str::to_owned).collect();
        files.iter().any(|file| file == "Cargo.toml").then_some(Self { root, files })
    }

    /// The directory of the checkout.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The tracked files whose names end in `suffix`, with their contents. A file that was removed but not yet committed
    /// is left out.
    pub fn texts<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a str, String)> {
        let files = self.files.iter().filter(move |file| file.ends_with(suffix));
        files.filter_map(|file| Some((file.as_str(), fs::read_to_string(self.root.join(file)).ok()?)))
    }
}
