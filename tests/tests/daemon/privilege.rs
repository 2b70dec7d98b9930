//! What privilege `maglevd --prober spawn` keeps, read from /proc, and that its probers have enough. All of these need
//! root, to give and to take away.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use maglev_lab::host::Host;
use maglev_lab::maglevd::Setup;
use maglev_lab::place::Place;
use maglev_lab::process::child_of;
use maglev_lab::programs::program;
use maglev_lab::skip;
use maglev_proto::v1::BackendState;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
const NET_RAW: [&str; 4] = ["--inh-caps", "-all,+net_raw", "--ambient-caps", "-all,+net_raw"];

/// CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_RAW and CAP_SYS_ADMIN.
const OF_ROOT: &str = "00000000002021c0";
/// CAP_NET_RAW.
const RAW: &str = "0000000000002000";
const NONE: &str = "0000000000000000";

/// Backends that answer an echo request, which takes a raw socket.
fn config(backends: &[&str]) -> String {
    let backend = |name: &&str| format!("{name}: {{ address: 127.0.0.1, healthcheck: ping }}");
    format!(
        "maglev:
  healthchecks: {{ ping: {{ type: icmp, interval: 100ms, timeout: 90ms }} }}
  backends: {{ {} }}
  frontends: {{}}
",
        backends.iter().map(backend).collect::<Vec<_>>().join(", ")
    )
}

/// What each thread of a process has: the permitted, effective, inheritable and ambient sets, and `no_new_privs`.
fn privilege(process: Pid) -> Vec<[String; 5]> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(Result::unwrap);
    let of_thread = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap();
        ["CapPrm", "CapEff", "CapInh", "CapAmb", "NoNewPrivs"].map(|key| value(&status, key))
    };
    threads.map(of_thread).collect()
}

fn value(status: &str, key: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
    line.unwrap().to_owned()
}

fn bounding_set(process: Pid) -> String {
    value(&fs::read_to_string(format!("/proc/{process}/status")).unwrap(), "CapBnd")
}

/// Copies of the programs where `nobody` finds them, in a place of `nobody`'s own.
fn programs(place: &Place) -> PathBuf {
    chown(place.path("."), Some(65534), None).unwrap();
    for name in ["maglevd", "maglevd-prober"] {
        // Another process copies, as a program that is open for writing cannot be run.
        let copied = Command::new("cp").arg(program(name).unwrap()).arg(place.path(name)).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(place.path(name), Permissions::from_mode(0o755)).unwrap();
    }
    place.path("maglevd")
}

/// Starts `maglevd` and has it start two probers, one after the other. Returns what the process that starts them holds.
fn probes(place: &Place, setup: Setup<'_>, wrapper: &[&str]) -> ([String; 5], String) {
    let mut maglevd = setup.flag("--prober", "spawn").wrapped(wrapper).start();
    maglevd.until_backend("a", BackendState::Up);
    let ours = privilege(maglevd.process.pid());
    assert!(ours.len() > 1);
    for thread in ours {
        assert_eq!(thread, [NONE, NONE, NONE, NONE, "1"]);
    }
    let spawner = maglevd.process.child();
    let kept = privilege(spawner);
    assert_eq!(kept.len(), 1);

    let first = child_of(spawner);
    assert_eq!(privilege(first), [[NONE, NONE, NONE, NONE, "1"]]);
    kill(first, Signal::SIGKILL).unwrap();
    maglevd.until_prober(false);
    maglevd.reload(place, &config(&["a", "b"]));
    maglevd.until_backend("b", BackendState::Up);
    assert_ne!(child_of(spawner), first);
    (kept.concat().try_into().unwrap(), bounding_set(spawner))
}

#[test]
fn root_keeps_what_a_prober_needs_of_root_and_nothing_else() {
    if skip("root_keeps_what_a_prober_needs_of_root_and_nothing_else", &[]) {
        return;
    }
    let place = Place::new();
    let (kept, bounding) = probes(&place, Setup::new(&place, &config(&["a"])), &[]);
    assert_eq!(kept, [OF_ROOT, NONE, NONE, NONE, "1"]);
    assert_eq!(bounding, OF_ROOT);
}

#[test]
fn the_prober_of_root_enters_the_namespace_of_a_later_configuration() {
    if skip("the_prober_of_root_enters_the_namespace_of_a_later_configuration", &["ip"]) {
        return;
    }
    let (place, host) = (Place::new(), Host::new("elsewhere"));
    let mut maglevd = Setup::new(&place, &config(&["a"])).flag("--prober", "spawn").start();
    maglevd.until_backend("a", BackendState::Up);
    let elsewhere = format!("{}  healthchecker: {{ netns: {} }}\n", config(&["a", "b"]), host.name());
    maglevd.reload(&place, &elsewhere);
    maglevd.until_backend("b", BackendState::Up);
    let namespace = |process: Pid| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
    let prober = child_of(maglevd.process.child());
    assert_ne!(namespace(prober), namespace(maglevd.process.pid()));
    assert_eq!(privilege(prober), [[NONE, NONE, NONE, NONE, "1"]]);
}

#[test]
fn root_without_a_prober_to_start_keeps_nothing() {
    if skip("root_without_a_prober_to_start_keeps_nothing", &[]) {
        return;
    }
    let place = Place::new();
    let maglevd = Setup::new(&place, &config(&["a"])).start();
    for thread in privilege(maglevd.process.pid()) {
        assert_eq!(thread, [NONE, NONE, NONE, NONE, "1"]);
    }
    assert_eq!(bounding_set(maglevd.process.pid()), NONE);
}

#[test]
fn an_ambient_capability_is_handed_on_and_in_force_for_nobody_else() {
    if skip("an_ambient_capability_is_handed_on_and_in_force_for_nobody_else", &["setpriv"]) {
        return;
    }
    let place = Place::new();
    let setup = Setup::new(&place, &config(&["a"])).program(programs(&place));
    let (kept, _) = probes(&place, setup, &[&NOBODY[..], &NET_RAW].concat());
    assert_eq!(kept, [RAW, NONE, RAW, RAW, "1"]);
}

#[test]
fn a_prober_has_the_capability_of_its_file() {
    if skip("a_prober_has_the_capability_of_its_file", &["setpriv", "setcap"]) {
        return;
    }
    let place = Place::new();
    let maglevd = programs(&place);
    let given =
        Command::new("setcap").arg("cap_net_raw+ep").arg(place.path("maglevd-prober")).status().unwrap();
    assert!(given.success());
    let setup = Setup::new(&place, &config(&["a"])).program(maglevd);
    let (kept, _) = probes(&place, setup, &NOBODY);
    assert_eq!(kept, [NONE, NONE, NONE, NONE, "0"]);
}
