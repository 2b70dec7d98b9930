//! The files of a machine: a small Debian, made once a week and kept.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// How old one may be. What Debian has mended since is then missing for so long at most.
const AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What makes one.
const MAKER: &str = "mmdebstrap";

/// A Debian to be had.
#[derive(Clone, Copy, Debug)]
pub struct Debian<'a> {
    /// What its folder is called.
    pub name: &'a str,
    /// The release.
    pub suite: &'a str,
    /// What it has beside the essential packages.
    pub packages: &'a [&'a str],
}

/// A folder with a Debian in it, which nobody writes to, and nobody replaces until this is dropped.
pub struct Rootfs {
    path: PathBuf,
    _lock: File,
}

impl Rootfs {
    /// The one that was made before, or else a new one. They are kept in `MAGLEV_ROOTFS`, or in `target/rootfs`.
    ///
    /// # Panics
    /// There is none, and none can be made.
    #[must_use]
    pub fn of(debian: Debian<'_>) -> Self {
        let folder = env::var_os("MAGLEV_ROOTFS").map_or_else(|| target().join("rootfs"), PathBuf::from);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(debian.name);
        let lock = File::create(path.with_extension("lock")).unwrap();
        lock.lock_shared().unwrap();
        if !is_good(&path, debian) {
            // Whoever comes second finds it made.
            lock.unlock().unwrap();
            lock.lock().unwrap();
            if !is_good(&path, debian) {
                make(&path, debian);
            }
            lock.unlock().unwrap();
            lock.lock_shared().unwrap();
        }
        Self { path, _lock: lock }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The folder `target` of the build that the caller belongs to.
pub(super) fn target() -> PathBuf {
    let caller = env::current_exe().unwrap();
    let profile = caller.ancestors().find(|folder| folder.ends_with("debug") || folder.ends_with("release"));
    profile.and_then(Path::parent).expect("a test is in the folder of its build").to_owned()
}

/// Whether that folder is there, of these packages, and not too old.
fn is_good(path: &Path, debian: Debian<'_>) -> bool {
    let stamp = stamp(path);
    let made = fs::metadata(&stamp).and_then(|stamp| stamp.modified());
    let age = made.ok().and_then(|made| SystemTime::now().duration_since(made).ok());
    path.is_dir()
        && fs::read_to_string(&stamp).is_ok_and(|packages| packages == debian.packages.join(","))
        && age.is_some_and(|age| age < AGE)
}

/// A file beside the folder, which says what is in it and, by its own age, since when.
fn stamp(path: &Path) -> PathBuf {
    path.with_extension("packages")
}

fn make(path: &Path, debian: Debian<'_>) {
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
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(is_good_but_old(path, &packages), "{command:?} failed:\n{said}");
        eprintln!("{} stays as old as it is, as {command:?} failed:\n{said}", path.display());
        return;
    }
    remove(path);
    fs::rename(&new, path).unwrap();
    fs::write(stamp(path), packages).unwrap();
}

/// Without a network, what is old does as well.
fn is_good_but_old(path: &Path, packages: &str) -> bool {
    path.is_dir() && fs::read_to_string(stamp(path)).is_ok_and(|there| there == packages)
}

fn remove(path: &Path) {
    if path.exists() {
        fs::remove_dir_all(path).unwrap();
    }
}
