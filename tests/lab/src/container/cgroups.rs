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
    directories: Vec<PathBuf>,
}

impl Cgroups {
    /// Creates groups below those of this process. Groups of killed tests are removed first.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it has side effects")]
    pub fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", process::id());
        let parents = own_groups();
        sweep(&parents);
        let directories = parents.iter().map(|parent| parent.join(&name)).collect();
        let groups = Self { name, directories };
        for directory in &groups.directories {
            fs::create_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
            // A new cpuset group has no processors.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (from, to) = (directory.with_file_name(file), directory.join(file));
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
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.directories.iter().for_each(|directory| remove(directory));
    }
}

/// Returns the groups of this process.
fn own_groups() -> Vec<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let found = lines.filter_map(|(controllers, group)| {
        let mount = mounts.lines().find_map(|line| mount_point(line, controllers))?;
        Some(Path::new(mount).join(group.trim_start_matches('/')))
    });
    found.filter(|directory| directory.is_dir()).collect()
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
fn remove(directory: &Path) {
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid > 1) {
        // The process may have exited already.
        _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_of_hierarchies_are_found() {
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
