//! Traffic counters, from VPP's stats segment to the API.

use std::thread::sleep;
use std::time::{Duration, Instant};

use maglev_lab::PATIENCE;
use maglev_lab::maglevd::Maglevd;
use maglev_lab::packets::single_flow::{self, GRE, SIZE};
use maglev_proto::v1::watch_events_response::Event;
use maglev_proto::v1::{GetLbCountersRequest, GetLbCountersResponse, LbPackets};
use maglev_vpp::message::{CliInband, Message, Prefix, SwInterfaceDump};
use maglev_vppsim::PacketOutcome;
use tonic::{Code, Status};

use crate::{BACKENDS, VIP, WebFixture, frontend, web_vip};

/// Sends `count` packets of one new flow to the VIP.
fn send(fixture: &WebFixture, count: u64) {
    let server = Some(fixture.servers.address(0));
    fixture.observer().client(async |client| {
        single_flow::send(&fixture.vpp, &client, &web_vip(), count, server).await.unwrap();
    });
}

fn counters(maglevd: &Maglevd) -> Result<GetLbCountersResponse, Status> {
    let mut client = maglevd.client.clone();
    let reply = maglevd.wait(client.get_lb_counters(GetLbCountersRequest {}));
    reply.map(tonic::Response::into_inner)
}

/// Waits until the counters satisfy `is_it`. No event reports a reading, so this polls.
fn until(
    maglevd: &Maglevd,
    what: &str,
    is_it: impl Fn(&Result<GetLbCountersResponse, Status>) -> bool,
) -> Result<GetLbCountersResponse, Status> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = counters(maglevd);
        if is_it(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}; last value: {found:#?}");
        sleep(Duration::from_millis(50));
    }
}

/// Returns the packet counters of the first VIP.
fn vip_packets(found: &Result<GetLbCountersResponse, Status>) -> Option<LbPackets> {
    found.as_ref().ok()?.vips.first()?.packets
}

fn unavailable(found: &Result<GetLbCountersResponse, Status>) -> bool {
    found.as_ref().is_err_and(|status| status.code() == Code::Unavailable)
}

#[test]
fn packets_are_counted_per_vip_and_backend() {
    let fixture = WebFixture::new();
    let maglevd = fixture.settled();
    send(&fixture, 10);
    let expected = LbPackets { existing_flow: 9, first: 1, untracked: 0, no_server: 0 };
    let found = until(&maglevd, "10 packets", |found| vip_packets(found) == Some(expected)).unwrap();

    let [vip] = found.vips.as_slice() else { panic!("expected one VIP: {found:#?}") };
    assert_eq!((vip.frontend.as_str(), &vip.vip.as_ref().unwrap().prefix), ("web", &VIP.to_owned()));
    let route = vip.route.unwrap();
    assert_eq!((route.packets, route.bytes), (10, 10 * SIZE));

    let names: Vec<&str> = found.backends.iter().map(|backend| backend.backend.as_str()).collect();
    assert_eq!(names, BACKENDS);
    let traffic = found.backends.iter().map(|backend| backend.traffic.unwrap());
    let (packets, bytes) = traffic.fold((0, 0), |sum, t| (sum.0 + t.packets, sum.1 + t.bytes));
    assert_eq!((packets, bytes), (10, 10 * (SIZE + GRE)));

    let shown = maglevd.maglevc(&["show", "vpp", "lb", "counters"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    let web = shown.lines().find(|line| line.contains("web")).unwrap();
    assert!(web.split_whitespace().eq([VIP, "tcp/80", "web", "9", "1", "0", "0", "10", "1000"]), "{shown}");
}

#[test]
fn strays_are_counted_apart() {
    let fixture = WebFixture::new();
    let Some(sim) = fixture.sim_or_skip("strays_are_counted_apart") else { return };
    let maglevd = fixture.settled();
    sim.count_strays(PacketOutcome::NoServer, 4);
    sim.count_strays(PacketOutcome::Untracked, 3);
    let is_counted = |found: &Result<GetLbCountersResponse, _>| {
        found.as_ref().is_ok_and(|found| found.stray_packets == Some(7))
    };
    let found = until(&maglevd, "strays", is_counted);
    assert_eq!(vip_packets(&found), Some(LbPackets::default()));
    assert!(found.unwrap().vips[0].weight > 0);
}

#[test]
fn stats_indexes_are_resolved_once_per_vip() {
    let fixture = WebFixture::new();
    let Some(sim) = fixture.sim_or_skip("stats_indexes_are_resolved_once_per_vip") else { return };
    let mut maglevd = fixture.settled();
    let asked = || ["cli_inband", "ip_route_lookup_v2"].map(|name| sim.count(name));
    let mut last = None;
    for _ in 0..3 {
        let new = |found: &Result<GetLbCountersResponse, _>| found.as_ref().is_ok_and(|f| f.read_at != last);
        last = until(&maglevd, "another reading", new).unwrap().read_at;
    }
    // The listing includes the servers' indexes. Each VIP and server is looked up once more, for MTUs and subnets.
    assert_eq!(asked(), [1, 5]);

    let mut config = fixture.config();
    config.frontends.push(frontend("mail", "203.0.113.81", "{ name: all, backends: { c: { weight: 1 } } }"));
    maglevd.reload(&fixture.dir, &config.to_string());
    until(&maglevd, "the new VIP", |found| found.as_ref().is_ok_and(|f| f.vips.len() == 2)).unwrap();
    assert_eq!(asked(), [2, 7]);
}

#[test]
fn refused_vip_listing_is_retried_at_sync() {
    let fixture = WebFixture::new();
    let Some(sim) = fixture.sim_or_skip("refused_vip_listing_is_retried_at_sync") else {
        return;
    };
    sim.set_faults(|faults| faults.reject(CliInband::NAME, -1, 1));
    let mut config = fixture.config();
    config.lb = "sync-interval: 1s".to_owned();
    let maglevd = fixture.setup(&config).start();
    until(&maglevd, "counters", |found| vip_packets(found) == Some(LbPackets::default())).unwrap();
    assert_eq!(sim.count(CliInband::NAME), 2);
}

/// Assigns the VIP's address to a VPP interface.
fn add_interface_address(fixture: &WebFixture) {
    if let Some(sim) = fixture.vpp.sim() {
        return sim.add_interface_address(VIP.parse().unwrap());
    }
    let address = format!("set interface ip address loop0 {VIP}/32");
    vppctl(fixture, &["create loopback interface", "set interface state loop0 up", &address]);
}

/// Removes the address from the interface.
fn remove_interface_address(fixture: &WebFixture) {
    match fixture.vpp.sim() {
        Some(sim) => sim.remove_interface_address(VIP.parse().unwrap()),
        None => vppctl(fixture, &[&format!("set interface ip address del loop0 {VIP}/32")]),
    }
}

fn vppctl(fixture: &WebFixture, commands: &[&str]) {
    fixture.observer().client(async |client| {
        for command in commands {
            let reply = client.request(&CliInband::new(command)).await.unwrap();
            assert_eq!(reply.retval, 0, "{command}: {}", reply.output.0);
        }
    });
}

fn until_shadowed(maglevd: &mut Maglevd, wanted: bool) {
    maglevd.until(
        "the event",
        |event| matches!(event, Event::AddressConflict(event) if event.conflicting == wanted),
    );
    let warning = "VPP has this address on an interface: the VIP gets no traffic";
    let expected: &[&str] = if wanted { &[warning] } else { &[] };
    assert_eq!(maglevd.frontend("web").warnings, expected);
}

#[test]
fn address_conflict_is_warned_until_resolved() {
    let fixture = WebFixture::new();
    add_interface_address(&fixture);
    let mut maglevd = fixture.setup(fixture.config()).start();
    until_shadowed(&mut maglevd, true);
    remove_interface_address(&fixture);
    until_shadowed(&mut maglevd, false);
}

#[test]
fn later_address_conflict_is_found_by_sync() {
    let fixture = WebFixture::new();
    let mut config = fixture.config();
    config.lb = "sync-interval: 1s".to_owned();
    let mut maglevd = fixture.setup(&config).start();
    until(&maglevd, "counters", |found| vip_packets(found).is_some()).unwrap();
    add_interface_address(&fixture);
    until_shadowed(&mut maglevd, true);
}

#[test]
fn later_address_conflict_is_found_on_request() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    until(&maglevd, "counters", |found| vip_packets(found).is_some()).unwrap();
    add_interface_address(&fixture);
    let synced = maglevd.maglevc(&["sync", "vpp", "lb", "state"]);
    assert!(synced.status.success(), "{synced:?}");
    until_shadowed(&mut maglevd, true);
}

/// Waits until `explain` shows exactly these notes about VPP's interfaces.
fn until_noted(maglevd: &Maglevd, notes: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = maglevd.maglevc(&["explain", "frontend", "web"]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        let found: Vec<_> = shown.lines().filter(|line| line.contains("VPP's interface")).collect();
        if found.len() == notes.len() && found.iter().zip(notes).all(|(line, note)| line.contains(note)) {
            return;
        }
        assert!(Instant::now() < deadline, "{notes:?} not in:\n{shown}");
        sleep(Duration::from_millis(50));
    }
}

/// Gives VPP two interfaces of the default MTU, with the subnets of the servers and of the VIP.
fn add_subnets(fixture: &WebFixture) {
    let [servers, vip] = ["127.200.0.1/8", "203.0.113.1/24"];
    if let Some(sim) = fixture.vpp.sim() {
        sim.add_subnet("loop0", 9000, Prefix { address: "127.0.0.0".parse().unwrap(), len: 8 });
        return sim.add_subnet("loop1", 9000, Prefix { address: VIP.parse().unwrap(), len: 24 });
    }
    for (name, subnet) in [("loop0", servers), ("loop1", vip)] {
        let address = format!("set interface ip address {name} {subnet}");
        let up = format!("set interface state {name} up");
        vppctl(fixture, &["create loopback interface", &up, &address]);
    }
}

#[test]
fn default_mtu_and_connected_subnet_are_noted() {
    let fixture = WebFixture::new();
    add_subnets(&fixture);
    let maglevd = fixture.settled();
    until_noted(&maglevd, &["interface loop0 towards the servers has an MTU of 9000", "contains the VIP"]);
}

#[test]
fn vpp_without_interface_messages_is_used() {
    let fixture = WebFixture::new();
    let Some(sim) = fixture.sim_or_skip("vpp_without_interface_messages_is_used") else { return };
    sim.set_faults(|faults| faults.omitted_messages = vec![SwInterfaceDump::NAME]);
    sim.add_subnet("eth0", 9000, Prefix { address: fixture.servers.address(0), len: 8 });
    let maglevd = fixture.settled();
    until(&maglevd, "counters", |found| vip_packets(found).is_some()).unwrap();
    until_noted(&maglevd, &[]);
}

#[test]
fn counters_follow_vpp_availability() {
    let fixture = WebFixture::new();
    let Some(sim) = fixture.sim_or_skip("counters_follow_vpp_availability") else { return };
    let mut maglevd = fixture.settled();
    send(&fixture, 10);
    until(&maglevd, "10 packets", |found| vip_packets(found).is_some_and(|p| p.existing_flow == 9)).unwrap();
    sim.kill();
    maglevd.until_vpp(false);
    assert!(unavailable(&counters(&maglevd)));
    sim.boot().unwrap();
    until(&maglevd, "no packets", |found| vip_packets(found) == Some(LbPackets::default())).unwrap();
}

#[test]
fn invalid_stats_segment_is_rejected_and_reopened() {
    let fixture = WebFixture::new();
    let Some(sim) = fixture.sim_or_skip("invalid_stats_segment_is_rejected_and_reopened") else {
        return;
    };
    let maglevd = fixture.settled();
    send(&fixture, 10);
    let there = |found: &Result<_, _>| vip_packets(found).is_some_and(|p| p.existing_flow == 9);
    until(&maglevd, "10 packets", there).unwrap();
    sim.set_faults(|faults| faults.stats_size = Some(5000));
    until(&maglevd, "no counters", unavailable).unwrap_err();
    sim.set_faults(|faults| faults.stats_size = None);
    until(&maglevd, "10 packets", there).unwrap();
    sim.set_faults(|faults| faults.stats_always_changing = true);
    until(&maglevd, "no counters", unavailable).unwrap_err();
    sim.set_faults(|faults| faults.stats_always_changing = false);
    sim.relocate_stats();
    until(&maglevd, "10 packets", there).unwrap();
}
