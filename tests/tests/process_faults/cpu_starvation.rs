//! Starvation of CPU time.

use std::fs;
use std::path::PathBuf;

use maglev_lab::container::cgroups::Cgroups;
use maglev_proto::v1::BackendState;
use nix::unistd::{Pid, geteuid};

use crate::fixtures::{BACKENDS, ProcessFixture, Recovery, assert_nothing_went_down, until};

/// A version 1 control group, in which a limit can be set from outside.
pub struct ControlGroup {
    directory: PathBuf,
    _groups: Cgroups,
}

impl ControlGroup {
    /// Returns a group with the control `file`, or `None` if test `name` must be skipped.
    pub fn new(name: &str, file: &str) -> Option<Self> {
        if !geteuid().is_root() {
            println!("SKIP {name}: needs root");
            return None;
        }
        let groups = Cgroups::new();
        let directory = groups.directories().iter().find(|directory| directory.join(file).exists()).cloned();
        if directory.is_none() {
            println!("SKIP {name}: needs control groups with {file}");
        }
        Some(Self { directory: directory?, _groups: groups })
    }

    pub fn set(&self, file: &str, value: impl ToString) {
        fs::write(self.directory.join(file), value.to_string()).unwrap();
    }

    pub fn take(&self, pid: Pid) {
        self.set("cgroup.procs", pid);
    }
}

#[test]
fn starved_prober_reports_lateness_and_keeps_health() {
    const QUOTA: &str = "cpu.cfs_quota_us";
    let name = "starved_prober_reports_lateness_and_keeps_health";
    let Some(group) = ControlGroup::new(name, QUOTA) else { return };
    let fixture = ProcessFixture::new();
    let config = fixture.config_with("interval: 20ms, timeout: 300ms, rise: 1, fall: 1");
    let mut maglevd = fixture.setup(&config).start();
    maglevd.until_up(&BACKENDS);
    fixture.until_weights(20, 10, 0);
    let written = fixture.writes();

    // A thousandth of one processor: one millisecond, then a pause longer than any timeout.
    group.set("cpu.cfs_period_us", 1_000_000);
    group.set(QUOTA, 1_000);
    group.take(fixture.prober.pid());
    // Probes that start too late, and probes that are skipped because their time is over.
    let late = || {
        let scrape = fixture.scrape();
        let within = scrape.value("maglev_probe_lateness_seconds_bucket", &["le=\"0.25\""]);
        let put_off = scrape.value("maglev_prober_probes_delayed_total", &["reason=\"stall\""]);
        scrape.value("maglev_probe_lateness_seconds_count", &[]) - within + put_off
    };
    until("late probes to be reported", late, |&late| late >= 5.0);
    assert_nothing_went_down(&maglevd.process);
    assert_eq!(fixture.writes(), written);
    fixture.servers.http[0].answer(503);
    let mut recovery = Recovery::new();
    recovery.time(|| {
        group.set(QUOTA, -1);
        maglevd.until_backend("a", BackendState::Down);
        fixture.until_weights(0, 10, 0);
    });
    assert_eq!(fixture.writes().len(), written.len() + 1);
    recovery.print("prober with a thousandth of a processor");
}
