//! Servers whose addresses no longer resolve by ARP or neighbour discovery.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

use maglev_lab::skip;
use maglev_lab::topology::{Lab, V4, V6};
use maglev_proto::v1::BackendState;

use crate::{Backend, FaultFixture, recovery};

/// Timeouts play no part: the kernel gives up after three requests in three seconds.
const CHECKS: &str = "    ping: { type: icmp, interval: 100ms, fast-interval: 50ms, timeout: 30s, rise: 2, fall: 3 }
    open: { type: tcp, port: 9, interval: 100ms, fast-interval: 50ms, timeout: 30s, rise: 2, fall: 3 }
    half: { type: tcp, port: 9, params: { mode: half-open }, interval: 100ms, fast-interval: 50ms, timeout: 30s }
";

#[test]
fn unresolved_neighbour_takes_server_down() {
    if skip("unresolved_neighbour_takes_server_down", &[]) {
        return;
    }
    let lab = Lab::new();
    let (mut backends, mut gone): (Vec<Backend>, Vec<(Backend, &str)>) = (Vec::new(), Vec::new());
    for (family, length) in [(V4, 24), (V6, 64)] {
        let kind = if family.server.is_ipv4() { "four" } else { "six" };
        backends.push((format!("{kind}-stays"), family.server, "ping"));
        for (n, check) in ["ping", "open", "half"].into_iter().enumerate() {
            let address = match family.server {
                IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() + 10 + n as u32).into(),
                IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() + 10 + n as u128).into(),
            };
            lab.server.ip(&format!("address add {address}/{length} dev eth0"));
            let words = match (family.server.is_ipv4(), check) {
                (false, "ping" | "half") => "L4CON address unreachable",
                _ => "L4CON host unreachable",
            };
            gone.push(((format!("{kind}-{check}"), address, check), words));
        }
    }
    backends.extend(gone.iter().map(|(backend, _)| backend.clone()));
    let _listener = lab.server.inside(|| TcpListener::bind("[::]:9").unwrap());
    let mut fixture = FaultFixture::new(lab, 100, CHECKS, backends);
    fixture.settle();
    for ((_, address, _), _) in &gone {
        let length = if address.is_ipv4() { 24 } else { 64 };
        fixture.lab.server.ip(&format!("address del {address}/{length} dev eth0"));
    }
    // Cached neighbours would remain valid for a while.
    fixture.lab.prober.ip("neighbour flush dev eth0");
    for ((name, ..), words) in &gone {
        fixture.maglevd.until_backend(name, BackendState::Down);
        fixture.until_outcome(name, words);
    }
    fixture.until_weights(|name| 20 * u8::from(name.ends_with("stays")));
    for ((_, address, _), _) in &gone {
        let length = if address.is_ipv4() { 24 } else { 64 };
        fixture.lab.server.ip(&format!("address add {address}/{length} dev eth0"));
    }
    recovery("six unresolved neighbours", || fixture.until_weights(|_| 20));
    let names: Vec<_> = gone.iter().map(|((name, ..), _)| name.as_str()).collect();
    fixture.assert_unchanged_except(&names);
}
