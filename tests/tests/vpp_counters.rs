//! Counters of VPP, on the simulator or on the real VPP in `VPP_BIN`.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use maglev_lab::dataplane::Vpp;
use maglev_lab::packets::single_flow::{self, GRE, SIZE};
use maglev_vpp::cli::{self, ShownVip};
use maglev_vpp::message::{
    CliInband, IpRouteLookupV2, LbAddDelAsV2, LbAddDelVipV2, LbAsV2Dump, LbEncapType, Prefix,
    SOURCE_INTERFACE, Vip,
};
use maglev_vpp::stats::{
    CombinedCounter, FIRST_PACKETS, NEXT_PACKETS, NO_SERVER_PACKETS, ROUTE_TO, ROUTE_VIA, StatsSegment,
    UNTRACKED_PACKETS,
};
use maglev_vpp::{ClientOptions, VppClient};

const KINDS: [&str; 4] = [NEXT_PACKETS, FIRST_PACKETS, UNTRACKED_PACKETS, NO_SERVER_PACKETS];

async fn connect(vpp: &Vpp) -> VppClient {
    VppClient::connect(vpp.api_socket(), "vpp-counters-test", ClientOptions::default()).await.unwrap()
}

fn open(vpp: &Vpp) -> StatsSegment {
    StatsSegment::open(&vpp.stats_socket(), Duration::from_secs(3)).unwrap()
}

fn vip(address: &str, port: u16) -> Vip {
    Vip { prefix: Prefix::host(address.parse().unwrap()), protocol: 6, port }
}

async fn add_vip(client: &VppClient, vip: Vip, servers: &[IpAddr]) {
    client.request(&LbAddDelVipV2::add(vip, LbEncapType::Gre4, 1024, false)).await.unwrap();
    for server in servers {
        client.request(&LbAddDelAsV2::add(vip, *server, 1)).await.unwrap();
    }
}

async fn listing(client: &VppClient) -> Vec<ShownVip> {
    cli::parse_vips(&client.request(&CliInband::new(cli::SHOW_VIPS)).await.unwrap().output.0)
}

async fn route(client: &VppClient, prefix: Prefix) -> (u32, u8) {
    let reply = client.request(&IpRouteLookupV2::exact(prefix)).await.unwrap();
    (reply.stats_index, reply.source)
}

/// Returns the packets at this index, by kind.
fn kinds(segment: &mut StatsSegment, index: u32) -> [u64; 4] {
    let one = BTreeSet::from([index]);
    segment.read(|now| Ok(KINDS.map(|kind| now.simple(kind, &one).unwrap().unwrap()[&index]))).unwrap()
}

fn traffic(segment: &mut StatsSegment, name: &str, index: u32) -> CombinedCounter {
    segment.read(|now| now.combined(name, &BTreeSet::from([index]))).unwrap().unwrap()[&index]
}

#[tokio::test]
async fn listing_indexes_match_counters() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let server = IpAddr::from([10, 0, 2, 9]);
    let [gone, http, https, empty] =
        [vip("203.0.113.9", 80), vip("203.0.113.1", 80), vip("203.0.113.1", 443), vip("203.0.113.2", 80)];
    for (vip, servers) in [(gone, &[][..]), (http, &[server]), (https, &[server]), (empty, &[])] {
        add_vip(&client, vip, servers).await;
    }
    client.request(&LbAddDelVipV2::delete(gone)).await.unwrap();
    single_flow::send(&vpp, &client, &http, 5, Some(server)).await.unwrap();
    single_flow::send(&vpp, &client, &https, 3, Some(server)).await.unwrap();
    single_flow::send(&vpp, &client, &empty, 2, None).await.unwrap();

    let shown = listing(&client).await;
    let numbers: BTreeMap<Vip, u32> = shown.iter().map(|shown| (shown.vip, shown.index)).collect();
    assert_eq!(numbers, [(http, 2), (https, 3), (empty, 4)].into());
    let mut segment = open(&vpp);
    assert_eq!(kinds(&mut segment, numbers[&http]), [4, 1, 0, 0]);
    assert_eq!(kinds(&mut segment, numbers[&https]), [2, 1, 0, 0]);
    assert_eq!(kinds(&mut segment, numbers[&empty]), [0, 0, 0, 2]);

    // VIPs with one prefix share a route; VIPs also share a server's route.
    let (to, _) = route(&client, http.prefix).await;
    assert_eq!(traffic(&mut segment, ROUTE_TO, to), CombinedCounter { packets: 8, bytes: 8 * SIZE });
    let (via, _) = route(&client, Prefix::host(server)).await;
    assert_eq!(
        traffic(&mut segment, ROUTE_VIA, via),
        CombinedCounter { packets: 8, bytes: 8 * (SIZE + GRE) }
    );
    assert!(
        shown
            .iter()
            .flat_map(|shown| &shown.servers)
            .all(|found| (found.address, found.index) == (server, via))
    );
}

#[tokio::test]
async fn route_source_reveals_interface_address() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let ours = vip("203.0.113.1", 80);
    if let Some(sim) = vpp.sim() {
        sim.add_interface_address(ours.prefix.address);
    } else {
        let address = "set interface ip address loop0 203.0.113.1/32";
        // An interface that is down has no routes.
        for command in ["create loopback interface", "set interface state loop0 up", address] {
            let reply = client.request(&CliInband::new(command)).await.unwrap();
            assert_eq!(reply.retval, 0, "{command}: {}", reply.output.0);
        }
    }
    add_vip(&client, ours, &[]).await;
    assert_eq!(route(&client, ours.prefix).await.1, SOURCE_INTERFACE);
}

/// Run it on an optimised real VPP: `cargo test --release --test vpp_counters -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "prints what counting costs at 1,000 VIPs of 10 servers"]
async fn cost() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    for number in 0..1000 {
        let prefix = Prefix::host(Ipv4Addr::from_bits(0xc612_0000 + number).into());
        let servers = (0..10).map(|s| Ipv4Addr::from_bits(0x0a00_0000 + number * 16 + s).into());
        add_vip(&client, Vip { prefix, protocol: 6, port: 80 }, &servers.collect::<Vec<_>>()).await;
    }
    let began = Instant::now();
    client.dump(&LbAsV2Dump::all()).await.unwrap();
    println!("a dump of all servers, to compare: {:?}", began.elapsed());
    let began = Instant::now();
    let shown = listing(&client).await;
    println!("the listing: {:?}", began.elapsed());
    let began = Instant::now();
    let mut routes = BTreeSet::new();
    for shown in &shown {
        routes.insert(route(&client, shown.vip.prefix).await.0);
    }
    println!("the look-ups, one by one: {:?}", began.elapsed());

    let vips: BTreeSet<u32> = shown.iter().map(|shown| shown.index).collect();
    let servers: BTreeSet<u32> =
        shown.iter().flat_map(|s| s.servers.iter().map(|server| server.index)).collect();
    let mut segment = open(&vpp);
    for which in ["the first reading", "the next one", "another"] {
        let began = Instant::now();
        let reading = segment.read(|now| {
            let kinds = KINDS.map(|kind| now.simple(kind, &vips));
            Ok((kinds, now.combined(ROUTE_TO, &routes)?, now.combined(ROUTE_VIA, &servers)?))
        });
        println!("{which}: {:?}", began.elapsed());
        assert!(reading.is_ok());
    }
}
