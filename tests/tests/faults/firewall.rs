//! Firewalls that count connections.

use std::net::{SocketAddr, TcpListener};

use maglev_ipc::{Check, ConnectMode, ProbeKind};
use maglev_lab::controller::{SHORT, check};
use maglev_lab::skip;
use maglev_lab::topology::V4;

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
