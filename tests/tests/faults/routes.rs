//! Routes to single servers, as a routed fabric has them: withdrawn, or of a type that rejects.

use std::net::{IpAddr, SocketAddr};

use maglev_lab::http_server::HttpServer;
use maglev_lab::packets::until;
use maglev_lab::skip;
use maglev_lab::topology::{Lab, V4, V6};
use maglev_proto::v1::BackendState;

use crate::{Backend, FaultFixture, add_servers, recovery};

const CHECKS: &str = "    ping: { type: icmp, interval: 100ms, fast-interval: 50ms, timeout: 20s, rise: 2, fall: 3 }
    open: { type: tcp, port: 80, interval: 100ms, fast-interval: 50ms, timeout: 20s, rise: 2, fall: 3 }
    half: { type: tcp, port: 80, params: { mode: half-open }, interval: 100ms, fast-interval: 50ms, timeout: 20s }
";

/// Returns three servers of each family, each with a different check and a route of its own. There is no other route to them.
fn routed_backends(lab: &Lab) -> Vec<Backend> {
    let servers = add_servers(lab, 3);
    for server in &servers {
        lab.prober.ip(&host_route("add", "", *server));
    }
    lab.prober.ip("route del 10.88.0.0/16");
    lab.prober.ip("-6 route del fd88::/64");
    let kinds = ["ping", "open", "half"].into_iter().cycle();
    servers
        .into_iter()
        .zip(kinds)
        .enumerate()
        .map(|(n, (address, check))| (format!("b{n}"), address, check))
        .collect()
}

/// Returns the arguments of `ip` that change the route to a server. A `kind` other than unicast rejects.
fn host_route(action: &str, kind: &str, server: IpAddr) -> String {
    match (server, kind) {
        (IpAddr::V4(_), "") => format!("route {action} {server}/32 via {}", V4.server),
        (IpAddr::V6(_), "") => format!("-6 route {action} {server}/128 via {}", V6.server),
        (IpAddr::V4(_), _) => format!("route {action} {kind} {server}/32"),
        (IpAddr::V6(_), _) => format!("-6 route {action} {kind} {server}/128"),
    }
}

#[test]
fn withdrawn_route_takes_one_server_down() {
    if skip("withdrawn_route_takes_one_server_down", &[]) {
        return;
    }
    let lab = Lab::new();
    let backends = routed_backends(&lab);
    let at: SocketAddr = "[::]:80".parse().unwrap();
    let _site = lab.server.inside(|| HttpServer::start(at));
    let mut fixture = FaultFixture::new(lab, 100, CHECKS, backends.clone());
    fixture.settle();
    let mut moved = Vec::new();
    for ((name, server, _), kind) in
        backends.iter().zip(["", "unreachable", "blackhole", "prohibit", "", "unreachable"])
    {
        fixture.lab.prober.ip(&host_route("del", "", *server));
        if !kind.is_empty() {
            fixture.lab.prober.ip(&host_route("add", kind, *server));
        }
        moved.push(name.as_str());
        let state = || fixture.maglevd.backend(name).state();
        until(|| state() == BackendState::Down, || format!("{name} is {:?}", state()));
        fixture.until_outcome(name, "L4CON");
        fixture.until_weights(|other| if other == name { 0 } else { 20 });
        if !kind.is_empty() {
            fixture.lab.prober.ip(&host_route("del", kind, *server));
        }
        fixture.lab.prober.ip(&host_route("add", "", *server));
        recovery(&format!("a route {kind} of one server"), || fixture.until_weights(|_| 20));
    }
    moved.sort_unstable();
    fixture.flush_outcomes();
    fixture.assert_unchanged_except(&moved);
    assert_eq!(fixture.stale_backends(), 0.0);
}
