//! ICMP errors of routers, in a network of two namespaces. Needs root, and `ip` of iproute2.

use std::process::Command;

use maglev_ipc::{ConnectMode, ProbeKind};

use super::harness::{TestDir, skip};

/// The prober's host, and a router without further routes.
struct TestNetwork {
    host: String,
    router: String,
}

impl TestNetwork {
    fn new() -> Self {
        let name = |what| format!("prober-{what}-{}", std::process::id());
        let network = Self { host: name("host"), router: name("router") };
        let Self { host, router } = &network;
        ip(&format!("netns add {host}"));
        ip(&format!("netns add {router}"));
        ip(&format!("-n {host} link add up0 type veth peer name down0 netns {router}"));
        for (namespace, device, last) in [(host, "up0", 1), (router, "down0", 2)] {
            ip(&format!("-n {namespace} addr add 10.77.1.{last}/24 dev {device}"));
            ip(&format!("-n {namespace} addr add fd77::{last}/64 dev {device} nodad"));
            ip(&format!("-n {namespace} link set {device} up"));
        }
        ip(&format!("-n {host} route add default via 10.77.1.2"));
        ip(&format!("-n {host} route add default via fd77::2"));
        // Send every ICMP error: the default rate limit is one per second.
        let settings = [
            ("ipv4/ip_forward", 1),
            ("ipv4/icmp_ratelimit", 0),
            ("ipv6/conf/all/forwarding", 1),
            ("ipv6/icmp/ratelimit", 0),
        ];
        for (name, value) in settings {
            ip(&format!("netns exec {router} sysctl -qw net/{name}={value}"));
        }
        for (kind, net) in [("unreachable", 1), ("prohibit", 2), ("blackhole", 3)] {
            ip(&format!("-n {router} route add {kind} 10.88.{net}.0/24"));
            ip(&format!("-n {router} route add {kind} fd88:{net}::/64"));
        }
        ip(&format!("-n {host} route add unreachable 10.99.0.0/24"));
        ip(&format!("-n {host} route add unreachable fd99::/64"));
        network
    }
}

impl Drop for TestNetwork {
    fn drop(&mut self) {
        for namespace in [&self.host, &self.router] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).status().unwrap();
    assert!(done.success(), "ip {words}");
}

#[test]
fn router_errors_fail_local_errors_do_not() {
    if skip("router_errors_fail_local_errors_do_not") {
        return;
    }
    let network = TestNetwork::new();
    let dir = TestDir::new();
    let prober = dir.start(&[], &["--netns", &network.host]);
    let mut controller = prober.connect();
    let icmp = || ProbeKind::Icmp;
    let mut generations = 1..;
    let mut outcome =
        |target: &str, probe| controller.probe(generations.next().unwrap(), target.parse().unwrap(), probe);
    // The link is up when the router replies.
    for router in ["10.77.1.2", "fd77::2"] {
        while outcome(router, icmp()) != "L7OK" {}
    }
    let tcp = || ProbeKind::Tcp { port: 80, mode: ConnectMode::Full, tls: None };
    let expected = [
        ("10.88.1.9", icmp(), "L4CON host unreachable"),
        ("10.88.2.9", icmp(), "L4CON administratively prohibited"),
        ("10.88.1.9", tcp(), "L4CON host unreachable"),
        ("10.88.2.9", tcp(), "L4CON host unreachable"),
        ("fd88:1::9", icmp(), "L4CON no route to destination"),
        ("fd88:2::9", icmp(), "L4CON administratively prohibited"),
        ("fd88:1::9", tcp(), "L4CON network unreachable"),
        ("fd88:2::9", tcp(), "L4CON administratively prohibited"),
        ("10.99.0.9", icmp(), "LOCAL no route from this host"),
        ("10.99.0.9", tcp(), "LOCAL no route from this host"),
        ("fd99::9", icmp(), "LOCAL no route from this host"),
        ("fd99::9", tcp(), "LOCAL no route from this host"),
        ("fd77::2", tcp(), "L4CON connection refused"),
    ];
    for (target, probe, expected) in expected {
        let what = format!("{target} {probe:?}");
        assert_eq!(outcome(target, probe), expected, "{what}");
    }
}

#[test]
fn prober_ends_when_its_namespace_is_made_anew() {
    if skip("prober_ends_when_its_namespace_is_made_anew") {
        return;
    }
    let name = format!("prober-anew-{}", std::process::id());
    let network = NamedNamespace(name);
    let NamedNamespace(name) = &network;
    ip(&format!("netns add {name}"));
    let dir = TestDir::new();
    let mut prober = dir.start(&[], &["--netns", name]);
    ip(&format!("netns del {name}"));
    ip(&format!("netns add {name}"));
    assert_eq!(prober.child.wait().unwrap().code(), Some(1));
}

/// As under systemd, which enters the namespace: the prober needs no privilege to stay in it.
#[test]
fn namespace_of_the_process_needs_no_privilege() {
    if skip("namespace_of_the_process_needs_no_privilege") {
        return;
    }
    let network = NamedNamespace(format!("prober-inside-{}", std::process::id()));
    let NamedNamespace(name) = &network;
    ip(&format!("netns add {name}"));
    let dir = TestDir::new();
    let path = format!("--net=/run/netns/{name}");
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut prober = dir.start(&[&["nsenter", &path][..], &nobody].concat(), &["--netns", name]);
    ip(&format!("netns del {name}"));
    ip(&format!("netns add {name}"));
    assert_eq!(prober.child.wait().unwrap().code(), Some(1));
}

/// A namespace that is deleted with the test.
struct NamedNamespace(String);

impl Drop for NamedNamespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}
