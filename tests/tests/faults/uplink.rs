//! Faults of the prober's own host: no link, no route, no descriptors, no ports, no permission; or a link that is cut without
//! its knowledge.

use std::net::{IpAddr, SocketAddr};

use maglev_lab::cable::Cable;
use maglev_lab::packets::until;
use maglev_lab::site::Site;
use maglev_lab::skip;
use maglev_lab::topology::{Lab, V4, V6};
use maglev_proto::v1::{BackendState, Blindness};

use crate::{Backend, Stage, alike, recovery, servers};

const CHECKS: &str = "    ping: { type: icmp, interval: 100ms, fast-interval: 50ms, timeout: 20s, rise: 2, fall: 3 }
    open: { type: tcp, port: 80, interval: 100ms, fast-interval: 50ms, timeout: 20s, rise: 2, fall: 3 }
    half: { type: tcp, port: 80, params: { mode: half-open }, interval: 100ms, fast-interval: 50ms, timeout: 20s }
";

/// Three servers of each family, each checked in another way.
fn mixed(lab: &Lab) -> Vec<Backend> {
    let kinds = ["ping", "open", "half"].into_iter().cycle();
    let backends = servers(lab, 3).into_iter().zip(kinds).enumerate();
    backends.map(|(n, (address, check))| (format!("b{n}"), address, check)).collect()
}

/// What listens for both families.
fn site(lab: &Lab) -> Site {
    let at: SocketAddr = "[::]:80".parse().unwrap();
    lab.server.inside(|| Site::start(at))
}

/// All that there is is stale and nothing has moved; `maglevc` says so, too.
fn assert_frozen(stage: &Stage, fault: &str) {
    let all = stage.backends.len() as f64;
    stage.until_metric("maglev_stale_backends", &[], all);
    for (name, ..) in &stage.backends {
        let backend = stage.maglevd.backend(name);
        assert_eq!((backend.state(), backend.stale), (BackendState::Up, true), "{backend:#?}");
        stage.until_last(name, &format!("LOCAL {fault}"));
    }
    let shown = stage.maglevd.maglevc(&["show", "backends"]).stdout;
    assert_eq!(String::from_utf8(shown).unwrap().matches("up (stale)").count() as f64, all);
    stage.assert_calm(&[]);
}

/// Everything is seen again, and that was all.
fn assert_thawed(stage: &mut Stage, scenario: &str) {
    recovery(scenario, || stage.maglevd.until_blind(&[Blindness::Unseen, Blindness::Seen]));
    stage.hear_all();
    stage.maglevd.until_blind(&[Blindness::Unseen, Blindness::Seen]);
    assert_eq!(stage.metric("maglev_stale_backends", &[]), 0.0);
    for verdict in ["unseen", "seen"] {
        assert_eq!(stage.metric("maglev_blind_total", &[&format!("verdict=\"{verdict}\"")]), 1.0);
    }
    stage.assert_calm(&[]);
}

#[test]
fn a_link_that_is_down_freezes_all_that_is_known() {
    if skip("a_link_that_is_down_freezes_all_that_is_known", &[]) {
        return;
    }
    let lab = Lab::new();
    lab.prober.set("ipv6/conf/eth0/keep_addr_on_down", "1");
    let (backends, _site) = (mixed(&lab), site(&lab));
    let mut stage = Stage::new(lab, 100, CHECKS, backends);
    stage.settle();
    stage.lab.prober.ip("link set eth0 down");
    stage.maglevd.until_blind(&[Blindness::Unseen]);
    assert_frozen(&stage, "no route from this host");
    stage.lab.prober.ip("link set eth0 up");
    stage.lab.prober.ip(&format!("route replace 10.88.0.0/16 via {}", V4.server));
    stage.lab.prober.ip(&format!("-6 route replace fd88::/64 via {}", V6.server));
    assert_thawed(&mut stage, "the link is down");
}

#[test]
fn a_route_that_is_gone_freezes_all_that_is_known() {
    if skip("a_route_that_is_gone_freezes_all_that_is_known", &[]) {
        return;
    }
    let lab = Lab::new();
    let (backends, _site) = (mixed(&lab), site(&lab));
    let mut stage = Stage::new(lab, 100, CHECKS, backends);
    stage.settle();
    stage.lab.prober.ip("route del 10.88.0.0/16");
    stage.lab.prober.ip("-6 route del fd88::/64");
    stage.maglevd.until_blind(&[Blindness::Unseen]);
    assert_frozen(&stage, "no route from this host");
    stage.lab.prober.ip(&format!("route add 10.88.0.0/16 via {}", V4.server));
    stage.lab.prober.ip(&format!("-6 route add fd88::/64 via {}", V6.server));
    assert_thawed(&mut stage, "the route is gone");
}

#[test]
fn a_filter_of_our_own_freezes_what_it_forbids() {
    if skip("a_filter_of_our_own_freezes_what_it_forbids", &["nft"]) {
        return;
    }
    let lab = Lab::new();
    let (mut backends, _site) = (mixed(&lab), site(&lab));
    // Of a SYN that the kernel itself sends it does not tell that a filter has dropped it.
    backends.retain(|(_, _, check)| *check != "open");
    let mut stage = Stage::new(lab, 100, CHECKS, backends);
    stage.settle();
    stage.lab.prober.filter("output", &["meta l4proto { icmp, ipv6-icmp, tcp } drop"]);
    stage.maglevd.until_blind(&[Blindness::Unseen]);
    assert_frozen(&stage, "not permitted on this host");
    stage.lab.prober.unfilter();
    assert_thawed(&mut stage, "a filter of our own");
}

#[test]
fn being_out_of_descriptors_freezes_what_needs_them() {
    if skip("being_out_of_descriptors_freezes_what_needs_them", &["prlimit"]) {
        return;
    }
    let lab = Lab::new();
    let cable = Cable::lay(&lab, 12);
    let (mut backends, _site) = (mixed(&lab), site(&lab));
    // Of connections to these there can be eight at a time.
    let hogs = ["10.88.0.101", "10.88.0.102"].map(|address| address.parse::<IpAddr>().unwrap());
    backends.extend(hogs.map(|address| (format!("hog-{address}").replace('.', "-"), address, "open")));
    // There is room for six.
    let mut stage = Stage::with_prober_by(&["prlimit", "--nofile=70:70"], lab, 100, CHECKS, backends);
    stage.settle();
    cable.treat(
        move |packet, _| {
            if hogs.contains(&packet.server()) { Vec::new() } else { vec![packet.on()] }
        },
    );
    stage.maglevd.until_blind(&[Blindness::Unseen]);
    let others = stage.backends.iter().filter(|(name, ..)| !name.starts_with("hog"));
    let (open, rest): (Vec<_>, Vec<_>) = others.partition(|(.., check)| *check == "open");
    for (name, ..) in open {
        until(|| stage.maglevd.backend(name).stale, || format!("{name} is not stale"));
        let backend = stage.maglevd.backend(name);
        assert_eq!(backend.state(), BackendState::Up, "{backend:#?}");
        stage.until_last(name, "LOCAL out of descriptors");
    }
    for (name, ..) in rest {
        assert!(!stage.maglevd.backend(name).stale, "{name}");
        assert_eq!(stage.probes(Some(name), &["LOCAL"]), 0.0);
    }
    stage.assert_calm(&[]);
    cable.mend();
    assert_thawed(&mut stage, "no descriptors");
}

#[test]
fn being_out_of_ports_is_no_verdict() {
    if skip("being_out_of_ports_is_no_verdict", &["nft"]) {
        return;
    }
    const HANG: &str = "    hang: { type: tcp, port: 80, interval: 100ms, fast-interval: 50ms, timeout: 20s, rise: 2, fall: 3 }\n";
    let lab = Lab::new();
    let _site = lab.server.inside(|| Site::start("0.0.0.0:80".parse().unwrap()));
    let server = servers(&lab, 1)[0];
    let backends = vec![("b0".to_owned(), server, "hang")];
    let mut stage = Stage::new(lab, 100, HANG, backends);
    stage.settle();
    // The only port there is belongs to another connection to the same server.
    stage.lab.prober.set("ipv4/ip_local_port_range", "40001 40001");
    let taken = stage.lab.prober.inside(|| std::net::TcpStream::connect((server, 80)).unwrap());
    stage.maglevd.until_blind(&[Blindness::Unseen]);
    assert_frozen(&stage, "out of ports, or no such source address here");
    stage.lab.prober.set("ipv4/ip_local_port_range", "40000 50000");
    drop(taken);
    assert_thawed(&mut stage, "no ports");
}

/// Three failures take some three seconds, and a round some five more, in which those that wait are probed again.
const SILENCE: &str =
    "    ping: { type: icmp, interval: 200ms, fast-interval: 1500ms, timeout: 1s, rise: 2, fall: 3 }\n";

#[test]
fn a_cut_that_ends_in_time_takes_nothing_down() {
    if skip("a_cut_that_ends_in_time_takes_nothing_down", &[]) {
        return;
    }
    let lab = Lab::new();
    let cable = Cable::lay(&lab, 10);
    let backends = alike(&servers(&lab, 3), "ping");
    let mut stage = Stage::new(lab, 100, SILENCE, backends);
    stage.settle();
    cable.treat(|_, _| Vec::new());
    stage.maglevd.until_blind(&[Blindness::Suspected]);
    assert_eq!(stage.metric("maglev_verdicts_waiting", &[]), 1.0);
    cable.mend();
    let told = [Blindness::Suspected, Blindness::Refuted];
    recovery("the uplink is cut for a moment", || stage.maglevd.until_blind(&told));
    let below = |name: &String| stage.maglevd.backend(name).counter < 4;
    until(|| !stage.backends.iter().any(|(name, ..)| below(name)), || "they do not recover".to_owned());
    stage.hear_all();
    stage.maglevd.until_blind(&told);
    assert_eq!(stage.metric("maglev_verdicts_waiting", &[]), 0.0);
    stage.assert_calm(&[]);
}

#[test]
fn a_cut_that_lasts_is_a_total_outage_and_ends_as_one() {
    if skip("a_cut_that_lasts_is_a_total_outage_and_ends_as_one", &[]) {
        return;
    }
    const SOON: &str =
        "    ping: { type: icmp, interval: 200ms, fast-interval: 100ms, timeout: 1s, rise: 2, fall: 3 }\n";
    let lab = Lab::new();
    let cable = Cable::lay(&lab, 11);
    let backends = alike(&servers(&lab, 3), "ping");
    let names: Vec<_> = backends.iter().map(|(name, ..)| name.clone()).collect();
    let mut stage = Stage::new(lab, 100, SOON, backends);
    stage.settle();
    cable.treat(|_, _| Vec::new());
    stage.maglevd.until_blind(&[Blindness::Suspected, Blindness::Confirmed]);
    stage.until_weights(|_| 0);
    for name in &names {
        stage.until_last(name, "L4TOUT");
    }
    cable.mend();
    recovery("the uplink is cut for longer", || stage.until_weights(|_| 1));
    stage.hear_all();
    stage.maglevd.until_blind(&[Blindness::Suspected, Blindness::Confirmed]);
    for name in &names {
        assert_eq!(stage.maglevd.backend(name).transitions.len(), 3, "down and up, once each");
    }
}
