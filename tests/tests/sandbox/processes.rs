//! Confinement of the real processes, read from /proc.

use std::fs;
use std::process::Command;

use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::process::{Process, child_of};
use maglev_lab::programs::program;
use maglev_lab::skip;
use maglev_lab::test_dir::TestDir;
use maglev_proto::v1::BackendState;
use nix::unistd::Pid;

const CONFIG: &str = "
maglev:
  vpp: { lb: { ipv4-src-address: 192.0.2.1 } }
  healthchecks: { nobody: { type: tcp, port: 9, interval: 100ms, timeout: 50ms } }
  backends: { a: { address: 127.0.0.1, healthcheck: nobody } }
  frontends: { web: { address: 192.0.2.80, pools: [ { name: all, backends: { a: {} } } ] } }
";

/// Returns `NoNewPrivs` and `Seccomp` of each thread.
fn confinement(process: Pid) -> Vec<(String, String)> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(Result::unwrap);
    threads
        .map(|thread| {
            let status = fs::read_to_string(thread.path().join("status")).unwrap();
            let value = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
                line.unwrap().to_owned()
            };
            (value("NoNewPrivs"), value("Seccomp"))
        })
        .collect()
}

#[test]
fn daemons_are_confined_and_spawner_is_not() {
    let dir = TestDir::new();
    let mut maglevd = MaglevdSetup::new(&dir, CONFIG).flag("--prober", "spawn").start();
    let line = maglevd.process.line(0, "sandbox: ");
    assert!(line.contains("seccomp ") && line.contains("Landlock"), "{line}");
    // The prober sends its hello before it is confined, and probes afterwards.
    maglevd.until_backend("a", BackendState::Down);
    let spawner = maglevd.process.child();
    let in_force = ("1".to_owned(), "2".to_owned());
    let ours = confinement(maglevd.process.pid());
    assert!(ours.len() > 1 && ours.iter().all(|thread| *thread == in_force), "{ours:?}");
    assert_eq!(confinement(child_of(spawner)), [in_force]);
    // The spawner's children must be able to open raw sockets.
    assert_eq!(confinement(spawner)[0].1, "0");
}

#[test]
fn sandbox_off_disables_both_and_logs() {
    let dir = TestDir::new();
    let mut maglevd =
        MaglevdSetup::new(&dir, CONFIG).flag("--prober", "spawn").flag("--sandbox", "off").start();
    maglevd.process.line(0, "sandbox: off");
    maglevd.until_backend("a", BackendState::Down);
    let prober = child_of(maglevd.process.child());
    assert_eq!(confinement(prober)[0].1, "0");
    assert!(confinement(maglevd.process.pid()).iter().all(|(_, filter)| filter == "0"));
}

/// A shell leaves a descriptor of a file of root to the daemons that it starts.
#[test]
fn inherited_descriptors_reach_no_daemon() {
    let dir = TestDir::new();
    let secret = dir.write("secret", "");
    let script = format!("exec 9<{}; exec \"$@\"", secret.display());
    let setup = MaglevdSetup::new(&dir, CONFIG).flag("--prober", "spawn");
    let mut maglevd = setup.wrapped(&["sh", "-c", &script, "sh"]).start();
    maglevd.until_backend("a", BackendState::Down);
    let spawner = maglevd.process.child();
    for process in [maglevd.process.pid(), spawner, child_of(spawner)] {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
        let open: Vec<_> = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect();
        assert!(!open.is_empty() && !open.contains(&secret), "{process}: {open:?}");
    }
}

#[test]
fn prober_runs_in_namespace_of_one_user() {
    if skip("prober_runs_in_namespace_of_one_user", &["unshare"]) {
        return;
    }
    let dir = TestDir::new();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user"]).arg(program("maglevd-prober").unwrap());
    let prober = Process::spawn("maglevd-prober", command.arg("--socket").arg(dir.path("prober.sock")));
    prober.line(0, "ready version=");
    assert_eq!(confinement(prober.pid()), [("1".to_owned(), "2".to_owned())]);
}
