//! Control groups of one machine, in every mounted hierarchy.
//!
//! systemd instances in a shared group would kill each other's services.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Prefix of all machines' groups, followed by the process id of the test.
const PREFIX: &str = "maglev-test-";

/// The groups of one machine. Drop kills their processes and removes them.
pub struct Cgroups {
    name: String,
    folders: Vec<PathBuf>,
}

impl Cgroups {
    /// Creates groups below those of this process. Groups of killed tests are removed first.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it has an effect")]
    pub fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", process::id());
        let parents = ours();
        sweep(&parents);
        let folders = parents.iter().map(|parent| parent.join(&name)).collect();
        let groups = Self { name, folders };
        for folder in &groups.folders {
            fs::create_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            // A new cpuset group has no processors.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (from, to) = (folder.with_file_name(file), folder.join(file));
                if to.exists() && from.exists() {
                    fs::write(to, fs::read(from).unwrap()).unwrap();
                }
            }
        }
        groups
    }

    /// Returns the name of the groups, which is unique.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the directories of the groups.
    #[must_use]
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.folders.iter().for_each(|folder| remove(folder));
    }
}

/// Returns the groups of this process.
fn ours() -> Vec<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let found = lines.filter_map(|(controllers, group)| {
        let mount = mounts.lines().find_map(|line| mount_point(line, controllers))?;
        Some(Path::new(mount).join(group.trim_start_matches('/')))
    });
    found.filter(|folder| folder.is_dir()).collect()
}

/// Returns the mount point if a line of mountinfo mounts the hierarchy of these controllers. No controllers mean version 2.
fn mount_point<'a>(line: &'a str, controllers: &str) -> Option<&'a str> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut file_system = file_system.split(' ');
    let is_it = match file_system.next()? {
        "cgroup2" => controllers.is_empty(),
        "cgroup" => {
            let options = file_system.next_back()?;
            !controllers.is_empty() && controllers.split(',').all(|it| options.split(',').any(|o| o == it))
        }
        _ => false,
    };
    if is_it { mount.split(' ').nth(4) } else { None }
}

/// Removes groups of tests that no longer run.
fn sweep(parents: &[PathBuf]) {
    for entry in parents.iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path());
        }
    }
}

/// Kills the processes of a group and of its descendants, and removes the groups. Errors are ignored.
fn remove(folder: &Path) {
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid > 1) {
        // The process may have exited already.
        _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hierarchy_is_found_where_it_is_mounted() {
        let first = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct";
        let named = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd";
        let second = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(mount_point(first, "cpu,cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(mount_point(named, "name=systemd"), Some("/sys/fs/cgroup/systemd"));
        assert_eq!(mount_point(second, ""), Some("/sys/fs/cgroup"));
        assert_eq!(
            [mount_point(first, ""), mount_point(named, "cpu"), mount_point(second, "cpu")],
            [None; 3]
        );
    }
}
