//! Too little processor time.

use std::fs;
use std::path::PathBuf;

use maglev_lab::container::cgroups::Cgroups;
use maglev_proto::v1::BackendState;
use nix::unistd::{Pid, geteuid};

use crate::fixtures::{BACKENDS, Recovery, Stage, nothing_went_down, until};

/// A control group of the first version, which can be told limits from outside.
pub struct Group {
    folder: PathBuf,
    _groups: Cgroups,
}

impl Group {
    /// With what `file` is about, unless the test called `name` is to be skipped.
    pub fn new(name: &str, file: &str) -> Option<Self> {
        if !geteuid().is_root() {
            println!("SKIP {name}: needs root");
            return None;
        }
        let groups = Cgroups::new();
        let folder = groups.folders().iter().find(|folder| folder.join(file).exists()).cloned();
        if folder.is_none() {
            println!("SKIP {name}: needs control groups with {file}");
        }
        Some(Self { folder: folder?, _groups: groups })
    }

    pub fn set(&self, file: &str, value: impl ToString) {
        fs::write(self.folder.join(file), value.to_string()).unwrap();
    }

    pub fn take(&self, pid: Pid) {
        self.set("cgroup.procs", pid);
    }
}

#[test]
fn a_prober_without_time_is_late_and_says_so_and_takes_nothing_down() {
    const QUOTA: &str = "cpu.cfs_quota_us";
    let name = "a_prober_without_time_is_late_and_says_so_and_takes_nothing_down";
    let Some(group) = Group::new(name, QUOTA) else { return };
    let stage = Stage::new();
    let config = stage.config_with("interval: 20ms, timeout: 300ms, rise: 1, fall: 1");
    let mut maglevd = stage.setup(&config).start();
    maglevd.until_up(&BACKENDS);
    stage.until_weights(10, 5, 0);
    let written = stage.writes();

    // A thousandth of one processor: a moment, and then nothing for longer than any probe may take.
    group.set("cpu.cfs_period_us", 1_000_000);
    group.set(QUOTA, 1_000);
    group.take(stage.prober.pid());
    // Probes that start too late, and those that do not start at all as the time for them is over.
    let late = || {
        let scrape = stage.scrape();
        let within = scrape.value("maglev_probe_lateness_seconds_bucket", &["le=\"0.25\""]);
        let put_off = scrape.value("maglev_prober_dropped_total", &["reason=\"stall\""]);
        scrape.value("maglev_probe_lateness_seconds_count", &[]) - within + put_off
    };
    until("lateness to be told", late, |&late| late >= 5.0);
    nothing_went_down(&maglevd.process);
    assert_eq!(stage.writes(), written);
    stage.farm.sites[0].answer(503);
    let mut recovery = Recovery::new();
    recovery.time(|| {
        group.set(QUOTA, -1);
        maglevd.until_backend("a", BackendState::Down);
        stage.until_weights(0, 5, 0);
    });
    assert_eq!(stage.writes().len(), written.len() + 1);
    recovery.tell("prober with a thousandth of a processor");
}
