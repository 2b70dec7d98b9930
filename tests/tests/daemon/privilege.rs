//! Privileges that `maglevd --prober spawn` keeps, read from /proc, and proof that its probers have enough. All tests need
//! root, to grant and to drop capabilities.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use maglev_lab::host::Host;
use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::process::{Process, child_of};
use maglev_lab::programs::program;
use maglev_lab::skip;
use maglev_lab::test_dir::TestDir;
use maglev_proto::v1::BackendState;
use maglev_sandbox::ServiceUser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
const NET_RAW: [&str; 4] = ["--inh-caps", "-all,+net_raw", "--ambient-caps", "-all,+net_raw"];

/// CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_RAW and CAP_SYS_ADMIN.
const SPAWNER_CAPS: &str = "00000000002021e0";
/// CAP_NET_RAW.
const RAW: &str = "0000000000002000";
const NONE: &str = "0000000000000000";

/// Returns a configuration of backends checked by ICMP, which needs a raw socket.
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

/// Returns the permitted, effective, inheritable and ambient sets and `no_new_privs` of each thread.
fn privilege(process: Pid) -> Vec<[String; 5]> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(Result::unwrap);
    let of_thread = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap();
        ["CapPrm", "CapEff", "CapInh", "CapAmb", "NoNewPrivs"].map(|key| value(&status, key))
    };
    threads.map(of_thread).collect()
}

/// Reports whether only root may look into a process: then its files in /proc are root's.
fn is_undumpable(process: Pid) -> bool {
    fs::metadata(format!("/proc/{process}/environ")).unwrap().uid() == 0
}

fn value(status: &str, key: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
    line.unwrap().to_owned()
}

fn bounding_set(process: Pid) -> String {
    value(&fs::read_to_string(format!("/proc/{process}/status")).unwrap(), "CapBnd")
}

/// Copies the programs to a directory that belongs to `nobody`.
fn programs(dir: &TestDir) -> PathBuf {
    chown(dir.path("."), Some(65534), None).unwrap();
    for name in ["maglevd", "maglevd-prober"] {
        // `cp` writes the copy, because a program open for writing cannot be executed.
        let copied = Command::new("cp").arg(program(name).unwrap()).arg(dir.path(name)).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(dir.path(name), Permissions::from_mode(0o755)).unwrap();
    }
    dir.path("maglevd")
}

/// Starts `maglevd` and lets it spawn two probers in turn. Returns the capabilities of the spawner.
fn spawner_privileges(dir: &TestDir, setup: MaglevdSetup<'_>, wrapper: &[&str]) -> ([String; 5], String) {
    let mut maglevd = setup.flag("--prober", "spawn").wrapped(wrapper).start();
    maglevd.until_backend("a", BackendState::Up);
    let ours = privilege(maglevd.process.pid());
    assert!(ours.len() > 1);
    for thread in ours {
        assert_eq!(thread, [NONE, NONE, NONE, NONE, "1"]);
    }
    let spawner = maglevd.process.child();
    for process in [maglevd.process.pid(), spawner, child_of(spawner)] {
        assert!(is_undumpable(process), "{process}");
    }
    let kept = privilege(spawner);
    assert_eq!(kept.len(), 1);

    let first = child_of(spawner);
    assert_eq!(privilege(first), [[NONE, NONE, NONE, NONE, "1"]]);
    kill(first, Signal::SIGKILL).unwrap();
    maglevd.until_prober(false);
    maglevd.reload(dir, &config(&["a", "b"]));
    maglevd.until_backend("b", BackendState::Up);
    assert_ne!(child_of(spawner), first);
    (kept.concat().try_into().unwrap(), bounding_set(spawner))
}

#[test]
fn root_keeps_only_spawner_capabilities() {
    if skip("root_keeps_only_spawner_capabilities", &[]) {
        return;
    }
    let dir = TestDir::new();
    let (kept, bounding) = spawner_privileges(&dir, MaglevdSetup::new(&dir, &config(&["a"])), &[]);
    assert_eq!(kept, [SPAWNER_CAPS, NONE, NONE, NONE, "1"]);
    assert_eq!(bounding, SPAWNER_CAPS);
}

/// Returns the real, effective, saved and file-system user.
fn users(process: Pid) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    value(&status, "Uid").split_whitespace().map(|uid| uid.parse().unwrap()).collect()
}

#[test]
fn root_becomes_ordinary_user_that_reloads_and_saves() {
    if skip("root_becomes_ordinary_user_that_reloads_and_saves", &[]) {
        return;
    }
    let (dir, user) = (TestDir::new(), ServiceUser::controller().unwrap().uid.as_raw());
    for restart in [false, true] {
        let mut maglevd = MaglevdSetup::new(&dir, &config(&["a"])).flag("--prober", "spawn").start();
        maglevd.process.line(0, "started as root, continues as");
        maglevd.until_backend("a", if restart { BackendState::Disabled } else { BackendState::Up });
        maglevd.reload(&dir, &config(&["a", "b"]));
        maglevd.until_backend("b", BackendState::Up);
        let spawner = maglevd.process.child();
        let prober = child_of(spawner);
        assert_eq!(users(maglevd.process.pid()), [user; 4]);
        assert_eq!(users(spawner), [0; 4]);
        assert_eq!(users(prober), [ServiceUser::prober().unwrap().uid.as_raw(); 4]);
        assert!(is_undumpable(maglevd.process.pid()) && is_undumpable(prober));
        let disabled = maglevd.maglevc(&["set", "backend", "a", "disable"]);
        assert!(disabled.status.success(), "{disabled:?}");
    }
}

#[test]
fn root_stays_where_only_root_reads_the_file() {
    if skip("root_stays_where_only_root_reads_the_file", &[]) {
        return;
    }
    let dir = TestDir::new();
    let setup = MaglevdSetup::new(&dir, &config(&["a"])).flag("--prober", "spawn");
    fs::set_permissions(dir.path("maglev.yaml"), Permissions::from_mode(0o600)).unwrap();
    let mut maglevd = setup.start();
    let line = maglevd.process.line(0, "stays root");
    assert!(line.contains("maglev.yaml: ") && line.contains("WARN"), "{line}");
    maglevd.until_backend("a", BackendState::Up);
    assert_eq!(users(maglevd.process.pid()), [0; 4]);
    assert!(dir.path("state").exists());
}

/// The prober is another user than the root that killed it.
#[test]
fn stopped_prober_of_root_is_replaced() {
    if skip("stopped_prober_of_root_is_replaced", &[]) {
        return;
    }
    let dir = TestDir::new();
    replace_stopped_prober(MaglevdSetup::new(&dir, &config(&["a"])).flag("--prober", "spawn"));
}

#[test]
fn stopped_prober_of_user_is_replaced() {
    if skip("stopped_prober_of_user_is_replaced", &["setpriv"]) {
        return;
    }
    let dir = TestDir::new();
    let setup = MaglevdSetup::new(&dir, &config(&["a"])).program(programs(&dir));
    replace_stopped_prober(setup.flag("--prober", "spawn").wrapped(&[&NOBODY[..], &NET_RAW].concat()));
}

/// A stopped prober stands for one that has been taken over, and ignores the end of its link.
fn replace_stopped_prober(setup: MaglevdSetup<'_>) {
    let mut maglevd = setup.start();
    maglevd.until_backend("a", BackendState::Up);
    let stopped = child_of(maglevd.process.child());
    kill(stopped, Signal::SIGSTOP).unwrap();
    maglevd.until_prober(false);
    maglevd.until_prober(true);
    assert_ne!(child_of(maglevd.process.child()), stopped);
    assert!(maglevd.process.lines(0).iter().all(|line| !line.contains("restart maglevd")));
}

#[test]
fn spawned_prober_enters_reloaded_netns() {
    if skip("spawned_prober_enters_reloaded_netns", &["ip"]) {
        return;
    }
    let (dir, host) = (TestDir::new(), Host::new("elsewhere"));
    let mut maglevd = MaglevdSetup::new(&dir, &config(&["a"])).flag("--prober", "spawn").start();
    maglevd.until_backend("a", BackendState::Up);
    let elsewhere = format!("{}  healthchecker: {{ netns: {} }}\n", config(&["a", "b"]), host.name());
    maglevd.reload(&dir, &elsewhere);
    maglevd.until_backend("b", BackendState::Up);
    let namespace = |process: Pid| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
    let prober = child_of(maglevd.process.child());
    assert_ne!(namespace(prober), namespace(maglevd.process.pid()));
    assert_eq!(privilege(prober), [[NONE, NONE, NONE, NONE, "1"]]);
}

#[test]
fn root_without_spawner_drops_all_capabilities() {
    if skip("root_without_spawner_drops_all_capabilities", &[]) {
        return;
    }
    let dir = TestDir::new();
    let maglevd = MaglevdSetup::new(&dir, &config(&["a"])).start();
    for thread in privilege(maglevd.process.pid()) {
        assert_eq!(thread, [NONE, NONE, NONE, NONE, "1"]);
    }
    assert_eq!(bounding_set(maglevd.process.pid()), NONE);
}

#[test]
fn ambient_capability_reaches_only_the_prober() {
    if skip("ambient_capability_reaches_only_the_prober", &["setpriv"]) {
        return;
    }
    let dir = TestDir::new();
    let setup = MaglevdSetup::new(&dir, &config(&["a"])).program(programs(&dir));
    let (kept, _) = spawner_privileges(&dir, setup, &[&NOBODY[..], &NET_RAW].concat());
    assert_eq!(kept, [RAW, NONE, RAW, RAW, "1"]);
}

#[test]
fn prober_uses_file_capability() {
    if skip("prober_uses_file_capability", &["setpriv", "setcap"]) {
        return;
    }
    let dir = TestDir::new();
    let maglevd = programs(&dir);
    let given =
        Command::new("setcap").arg("cap_net_raw+ep").arg(dir.path("maglevd-prober")).status().unwrap();
    assert!(given.success());
    let setup = MaglevdSetup::new(&dir, &config(&["a"])).program(maglevd);
    let (kept, _) = spawner_privileges(&dir, setup, &NOBODY);
    assert_eq!(kept, [NONE, NONE, NONE, NONE, "0"]);
}

/// As by hand: no flag names a prober or a socket, and `nobody` has no directory in `/run`.
#[test]
fn maglevd_without_flags_starts_a_prober() {
    if skip("maglevd_without_flags_starts_a_prober", &["setpriv"]) {
        return;
    }
    if ["/run/vpp-maglev/prober.sock", "/run/vpp-maglev/maglevd.sock"].iter().any(|p| fs::exists(p).unwrap())
    {
        println!("SKIP maglevd_without_flags_starts_a_prober: vpp-maglev runs here");
        return;
    }
    let dir = TestDir::new();
    let maglevd = programs(&dir);
    for caps in [&NET_RAW[..], &[]] {
        let mut command = Command::new(NOBODY[0]);
        if !caps.is_empty() {
            command.args(&NOBODY[1..]).args(caps);
        }
        command.arg(&maglevd).arg("--config").arg(dir.write("maglev.yaml", config(&["a"])));
        command.args(["--grpc-addr=127.0.0.1:0", "--metrics-addr=", "--vpp-api-addr=", "--vpp-stats-addr="]);
        command.args(["--state-dir=", "--prober-args=--targets 127.0.0.1"]);
        let process = Process::spawn("maglevd", &mut command);
        process.line(0, "backend changed state event=backend backend=a address=127.0.0.1 from=unknown to=up");
        let warned = process.lines(0).iter().any(|line| line.contains("only TCP serves gRPC"));
        // Root may create the directory.
        assert_eq!(warned, !caps.is_empty(), "{:?}", process.lines(0));
    }
    let _ = fs::remove_file("/run/vpp-maglev/maglevd.sock");
    let _ = fs::remove_dir("/run/vpp-maglev");
}
