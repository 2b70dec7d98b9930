//! Root file system of a machine: a small Debian, rebuilt weekly.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Maximum age, which bounds the delay of Debian's fixes.
const AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Program that builds it.
const MAKER: &str = "mmdebstrap";

/// A Debian root file system.
#[derive(Clone, Copy, Debug)]
pub struct DebianSpec<'a> {
    /// Name of its directory.
    pub name: &'a str,
    /// Release.
    pub suite: &'a str,
    /// Packages beyond the essential ones.
    pub packages: &'a [&'a str],
}

/// A read-only Debian root file system. A shared lock prevents its replacement until drop.
pub struct Rootfs {
    path: PathBuf,
    _lock: File,
}

impl Rootfs {
    /// Returns a cached file system, or builds a new one. The cache is `MAGLEV_ROOTFS` or `target/rootfs`.
    ///
    /// # Panics
    /// If none exists and the build fails.
    #[must_use]
    pub fn of(debian: DebianSpec<'_>) -> Self {
        let directory = env::var_os("MAGLEV_ROOTFS").map_or_else(|| target().join("rootfs"), PathBuf::from);
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(debian.name);
        let lock = File::create(path.with_extension("lock")).unwrap();
        lock.lock_shared().unwrap();
        if !is_current(&path, debian) {
            // Another process may have built it meanwhile.
            lock.unlock().unwrap();
            lock.lock().unwrap();
            if !is_current(&path, debian) {
                make(&path, debian);
            }
            lock.unlock().unwrap();
            lock.lock_shared().unwrap();
        }
        Self { path, _lock: lock }
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the `target` directory of the caller's build.
pub(super) fn target() -> PathBuf {
    let caller = env::current_exe().unwrap();
    let profile =
        caller.ancestors().find(|directory| directory.ends_with("debug") || directory.ends_with("release"));
    profile.and_then(Path::parent).expect("a test lies below the target directory").to_owned()
}

/// True if the directory exists with these packages and is recent enough.
fn is_current(path: &Path, debian: DebianSpec<'_>) -> bool {
    let stamp = stamp(path);
    let made = fs::metadata(&stamp).and_then(|stamp| stamp.modified());
    let age = made.ok().and_then(|made| SystemTime::now().duration_since(made).ok());
    path.is_dir()
        && fs::read_to_string(&stamp).is_ok_and(|packages| packages == debian.packages.join(","))
        && age.is_some_and(|age| age < AGE)
}

/// Returns the stamp file, which lists the packages and whose age is the age of the directory.
fn stamp(path: &Path) -> PathBuf {
    path.with_extension("packages")
}

fn make(path: &Path, debian: DebianSpec<'_>) {
    if let Some(missing) = crate::missing(&[MAKER]) {
        panic!("no Debian can be made for a container: {missing}; SKIP_CONTAINER=1 leaves these tests out");
    }
    let new = path.with_extension("new");
    remove(&new);
    let packages = debian.packages.join(",");
    let mut command = Command::new(MAKER);
    command.args(["--quiet", "--variant=minbase"]);
    if !packages.is_empty() {
        command.arg(format!("--include={packages}"));
    }
    let made = command.arg(debian.suite).arg(&new).stdin(Stdio::null()).output().unwrap();
    if !made.status.success() {
        let text = String::from_utf8_lossy(&made.stderr);
        assert!(is_usable(path, &packages), "{command:?} failed:\n{text}");
        eprintln!("reusing the outdated {}, because {command:?} failed:\n{text}", path.display());
        return;
    }
    remove(path);
    fs::rename(&new, path).unwrap();
    fs::write(stamp(path), packages).unwrap();
}

/// True if an outdated directory can serve when the network is down.
fn is_usable(path: &Path, packages: &str) -> bool {
    path.is_dir() && fs::read_to_string(stamp(path)).is_ok_and(|there| there == packages)
}

fn remove(path: &Path) {
    if path.exists() {
        fs::remove_dir_all(path).unwrap();
    }
}
