//! Privilege of the running prober, read from /proc. These tests need root.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

use super::harness::{Prober, TestDir, skip};
use maglev_ipc::{ConnectMode, ProbeKind};
use maglev_sandbox::ServiceUser;

const NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
const NET_RAW: [&str; 4] = ["--inh-caps", "-all,+net_raw", "--ambient-caps", "-all,+net_raw"];
/// Number of sockets of `ServiceNotifier`.
const NOTIFIER: usize = 2;
/// Number of reserved ports.
const PORTS: usize = maglevd_prober::probe::ports::PORT_COUNT as usize;
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

fn assert_unprivileged(prober: &Prober) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(prober.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(prober.status("NoNewPrivs"), "1");
    // Seccomp filter mode.
    assert_eq!(prober.status("Seccomp"), "2");
    let uid = prober.status("Uid");
    assert!(uid.split('\t').all(|uid| uid != "0"), "{uid}");
}

#[test]
fn cap_net_raw_is_dropped_before_probing() {
    if skip("cap_net_raw_is_dropped_before_probing") {
        return;
    }
    let dir = TestDir::new();
    let prober = dir.start(&[&NOBODY[..], &NET_RAW].concat(), &[]);
    let mut controller = prober.connect();
    assert_unprivileged(&prober);
    // Per family a raw socket for ICMP, TCP and source lookup; ports; listener and link; two of the notifier. The others are
    // epoll and signals.
    let sockets = 3 * 2 + PORTS + 2 + NOTIFIER;
    assert_eq!(prober.descriptors(), [vec!["anon_inode"; 2], vec!["socket"; sockets]].concat());
    for (generation, target) in (1..).zip(LOOPBACK) {
        assert_eq!(controller.probe(generation, target, ProbeKind::Icmp), "L7OK");
    }
    assert_unprivileged(&prober);
}

#[test]
fn missing_capability_disables_only_icmp() {
    if skip("missing_capability_disables_only_icmp") {
        return;
    }
    let dir = TestDir::new();
    let prober = dir.start(&NOBODY, &[]);
    let mut controller = prober.connect();
    assert_unprivileged(&prober);
    assert_eq!(prober.descriptors(), [vec!["anon_inode"; 2], vec!["socket"; PORTS + 2 + NOTIFIER]].concat());
    let icmp = controller.probe(1, LOOPBACK[0], ProbeKind::Icmp);
    assert_eq!(icmp, "LOCAL raw sockets are not permitted (CAP_NET_RAW)");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(
        controller.probe(2, LOOPBACK[0], ProbeKind::Tcp { port, mode: ConnectMode::Full, tls: None }),
        "L4OK"
    );
}

#[test]
fn root_switches_to_its_own_user() {
    if skip("root_switches_to_its_own_user") {
        return;
    }
    let dir = TestDir::new();
    let prober = dir.start(&[], &[]);
    let mut controller = prober.connect();
    assert_unprivileged(&prober);
    let own = ServiceUser::prober().unwrap().uid.to_string();
    assert_eq!(prober.status("Uid"), vec![own; 4].join("\t"));
    assert_eq!(prober.status("CapBnd"), "0000000000000000");
    assert_eq!(prober.status("Groups"), "");
    assert_eq!(controller.probe(1, LOOPBACK[0], ProbeKind::Icmp), "L7OK");
}

#[test]
fn netns_flag_moves_all_sockets() {
    if skip("netns_flag_moves_all_sockets") {
        return;
    }
    let name = format!("prober-test-{}", std::process::id());
    let ip = |words: &[&str]| {
        assert!(std::process::Command::new("ip").args(words).status().unwrap().success(), "{words:?}");
    };
    ip(&["netns", "add", &name]);
    let dir = TestDir::new();
    let prober = dir.start(&[], &["--netns", &name]);
    ip(&["netns", "del", &name]);
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(fs::read_link(prober.proc("ns/net")).unwrap(), ours);
    // Loopback is down there, so both kinds of socket were created in the namespace.
    let mut controller = prober.connect();
    assert_unprivileged(&prober);
    for (generation, probe) in
        (1..).zip([ProbeKind::Icmp, ProbeKind::Tcp { port: 9, mode: ConnectMode::Full, tls: None }])
    {
        assert_eq!(controller.probe(generation, LOOPBACK[0], probe), "LOCAL no route from this host");
    }
}
