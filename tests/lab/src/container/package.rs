//! The Debian package built by `make deb`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::machine::Machine;
use super::rootfs::target;

impl Machine {
    /// Copies the package to the machine and returns its path: `MAGLEV_DEB`, or the newest in `target/deb`.
    ///
    /// # Panics
    /// If no package exists.
    #[must_use]
    pub fn put_package(&self) -> String {
        let package = env::var_os("MAGLEV_DEB").map(PathBuf::from).or_else(|| newest(&target().join("deb")));
        self.put(&package.expect("no package in target/deb: run `make deb` first"))
    }

    /// Installs a package file.
    pub fn install(&self, package: &str) {
        self.run(&format!("apt-get install -y --no-install-recommends {package}"));
    }
}

/// Returns the newest package for this architecture.
fn newest(directory: &Path) -> Option<PathBuf> {
    let end = match env::consts::ARCH {
        "aarch64" => "_arm64.deb",
        _ => "_amd64.deb",
    };
    let packages = fs::read_dir(directory).ok()?.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with("vpp-maglev_") && name.ends_with(end))
    });
    packages.max_by_key(|entry| entry.metadata().and_then(|it| it.modified()).ok()).map(|entry| entry.path())
}
