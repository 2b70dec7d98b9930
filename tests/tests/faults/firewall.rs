//! Firewalls that count connections, and the one that the package ships for the prober.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use maglev_ipc::{Check, ConnectMode, ProbeKind};
use maglev_lab::controller::{SHORT, check};
use maglev_lab::skip;
use maglev_lab::topology::{FAMILIES, V4};
use nix::errno::Errno;
use nix::libc;

use crate::ProberFixture;

#[test]
fn connection_limit_spares_half_open_probes() {
    if skip("connection_limit_spares_half_open_probes", &["nft"]) {
        return;
    }
    let mut fixture = ProberFixture::new();
    let at = SocketAddr::new(V4.server, 80);
    let _listener = fixture.lab.server.inside(|| TcpListener::bind(at).unwrap());
    fixture.lab.server.filter("input", &["tcp dport 80 tcp flags & (syn | ack) == syn ct count over 4 drop"]);
    let half_open = || ProbeKind::Tcp { port: 80, mode: ConnectMode::HalfOpen, tls: None };
    assert_eq!(fixture.controller.outcomes(check(V4.server, half_open()), 60), ["L4OK"; 60]);
    // Each probe leaves a half-open connection that the firewall counts.
    fixture.lab.prober.filter("output", &["tcp flags & rst == rst drop"]);
    let check = Check { timeout: SHORT, ..check(V4.server, half_open()) };
    let verdicts = fixture.controller.outcomes(check, 20);
    assert_eq!(verdicts.last().map(String::as_str), Some("L4TOUT"), "{verdicts:?}");
}

/// Sends a packet through a raw socket, as a prober that was taken over could. Prints the error number, or 0.
const SEND: &str = "
my ($family, $protocol, $target, $packet) = @ARGV;
socket(my $raw, $family, SOCK_RAW, $protocol) or die $!;
my $address = Socket::inet_pton($family, $target);
my $to = $family == AF_INET ? pack_sockaddr_in(0, $address) : Socket::pack_sockaddr_in6(0, $address);
print send($raw, pack('H*', $packet), 0, $to) ? 0 : $! + 0;
";

/// Headers with a zero checksum: no host reads these packets.
const ECHO_REQUEST: &str = "0800000000000000";
const REDIRECT: &str = "0500000000000000";
const ECHO_REQUEST_V6: &str = "8000000000000000";
const ROUTER_ADVERTISEMENT: &str = "86000000000000000000000000000000";
/// A reset from port 22, and one from an ephemeral port.
const RESET_OF_SSH: &str = "0016c0000000000000000000500400000000000000000000";
const RESET: &str = "c000c0000000000000000000500400000000000000000000";

#[test]
fn shipped_firewall_passes_only_probes() {
    if skip("shipped_firewall_passes_only_probes", &["nft", "setpriv", "perl"]) {
        return;
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/firewall/maglevd-prober.nft");
    let mut fixture = ProberFixture::new();
    let rules = fs::read_to_string(shipped).unwrap().replace("\"maglevd-prober\"", "65534");
    // A second load replaces the first.
    for _ in 0..2 {
        fixture.lab.prober.nft(&rules);
    }
    for family in FAMILIES {
        let at = SocketAddr::new(family.server, 80);
        let _listener = fixture.lab.server.inside(|| TcpListener::bind(at).unwrap());
        let full = ProbeKind::Tcp { port: 80, mode: ConnectMode::Full, tls: None };
        let half_open = ProbeKind::Tcp { port: 80, mode: ConnectMode::HalfOpen, tls: None };
        for (kind, code) in [(ProbeKind::Icmp, "L7OK"), (full, "L4OK"), (half_open, "L4OK")] {
            assert_eq!(fixture.controller.outcomes(check(family.server, kind), 3), [code; 3], "{family:?}");
        }
    }
    let send = |family: usize, protocol: i32, packet: &str| {
        let target = FAMILIES[family].server.to_string();
        let number = [libc::AF_INET, libc::AF_INET6][family].to_string();
        let mut command = fixture.lab.prober.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args([
            "--inh-caps",
            "-all,+net_raw",
            "--ambient-caps",
            "-all,+net_raw",
            "perl",
            "-MSocket",
            "-e",
            SEND,
        ]);
        let output = command.args([&number, &protocol.to_string(), &target, packet]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Errno::from_raw(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
    };
    let (sent, refused) = (Errno::from_raw(0), Errno::EPERM);
    assert_eq!((send(0, 1, ECHO_REQUEST), send(0, 1, REDIRECT)), (sent, refused));
    assert_eq!((send(0, 6, RESET), send(0, 6, RESET_OF_SSH)), (sent, refused));
    let answers = [ECHO_REQUEST_V6, ROUTER_ADVERTISEMENT].map(|packet| send(1, 58, packet));
    assert_eq!(answers, [sent, refused]);
}
