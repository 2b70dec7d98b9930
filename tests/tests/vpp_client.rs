//! The client end to end, on the simulator or on the real VPP in `VPP_BIN`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail at once")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use maglev_core::maglev::table;
use maglev_lab::dataplane::Vpp;
use maglev_vpp::message::*;
use maglev_vpp::{ClientOptions, Error, VppClient};
use maglev_vppsim::vip_key::VppAddress;

async fn connect(vpp: &Vpp) -> VppClient {
    VppClient::connect(vpp.api_socket(), "vpp-client-test", ClientOptions::default()).await.unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn vip(address: &str, protocol: u8, port: u16) -> Vip {
    Vip { prefix: Prefix::host(ip(address)), protocol, port }
}

fn refusal<T>(result: Result<T, Error>) -> &'static str {
    match result {
        Err(Error::Refused { name, .. }) => name,
        Err(other) => panic!("{other}"),
        Ok(_) => "OK",
    }
}

async fn add_vip(client: &VppClient, vip: Vip, encap: LbEncapType) -> &'static str {
    refusal(client.request(&LbAddDelVipV2::add(vip, encap, 1024, false)).await)
}

async fn add_as(client: &VppClient, vip: Vip, address: &str, weight: u8) -> &'static str {
    refusal(client.request(&LbAddDelAsV2::add(vip, ip(address), weight)).await)
}

async fn servers(client: &VppClient, vip: &Vip) -> Vec<(IpAddr, u8, u32, bool)> {
    let records = client.dump(&LbAsV2Dump::of_vip(vip)).await.unwrap();
    assert!(records.iter().all(|record| record.vip == *vip));
    records
        .iter()
        .map(|record| (record.address, record.weight, record.num_buckets, record.is_in_use()))
        .collect()
}

#[tokio::test]
async fn handshake_reports_version() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let version = client.request(&ShowVersion {}).await.unwrap();
    assert_eq!(version.program.0, "vpe");
    assert_eq!(version.version.0, client.version());
    assert!(client.version().starts_with("26.10"), "{}", client.version());

    let first = client.request(&ControlPing {}).await.unwrap();
    let second = client.request(&ControlPing {}).await.unwrap();
    assert!(first.pid > 0);
    assert_eq!(first, second);

    let threads = client.request(&ShowThreads {}).await.unwrap().threads.0;
    assert_eq!(threads[0].name.0, "vpp_main");
}

#[tokio::test]
async fn global_parameters_round_trip() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let before = client.request(&LbConfGet {}).await.unwrap();
    assert_eq!((before.sticky_buckets, before.flow_timeout), (1024, 40));
    assert_eq!(ip("255.255.255.255"), before.ip4_src);

    let ip6_src = "2001:db8::254".parse().unwrap();
    let conf = LbConf { ip4_src: [192, 0, 2, 254].into(), ip6_src, sticky_buckets: 4096, flow_timeout: KEEP };
    client.request(&conf).await.unwrap();
    let after = client.request(&LbConfGet {}).await.unwrap();
    assert_eq!((after.ip4_src, after.ip6_src), (conf.ip4_src, conf.ip6_src));
    assert_eq!((after.sticky_buckets, after.flow_timeout), (4096, 40));

    let odd = LbConf { sticky_buckets: 1000, ..conf };
    assert_eq!(refusal(client.request(&odd).await), "INVALID_MEMORY_SIZE");
}

#[tokio::test]
async fn vips_are_added_and_deleted() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let web = vip("203.0.113.10", 6, 443);
    let all = Vip::all_ports(Prefix::host(ip("2001:db8:1::10")));
    assert_eq!(add_vip(&client, web, LbEncapType::Gre6).await, "OK");
    assert_eq!(add_vip(&client, all, LbEncapType::Gre4).await, "OK");
    let listed = client.dump(&LbVipDump::all()).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|record| (record.vip, record.encap)).collect();
    assert_eq!(listed, [(web, LbEncapType::Gre6), (all, LbEncapType::Gre4)]);

    client.request(&LbAddDelVipV2::delete(web)).await.unwrap();
    client.request(&LbAddDelVipV2::delete(all)).await.unwrap();
    assert_eq!(client.dump(&LbVipDump::all()).await.unwrap(), []);
}

#[tokio::test]
async fn refusals_name_the_error() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let web = vip("203.0.113.10", 6, 443);
    assert_eq!(add_vip(&client, web, LbEncapType::Gre4).await, "OK");
    assert_eq!(add_vip(&client, web, LbEncapType::Gre6).await, "VALUE_EXIST");
    let all = Vip::all_ports(web.prefix);
    assert_eq!(add_vip(&client, all, LbEncapType::Gre4).await, "VALUE_EXIST");
    assert_eq!(add_vip(&client, Vip { port: 80, ..web }, LbEncapType::Gre6).await, "INVALID_ARGUMENT");
    assert_eq!(add_vip(&client, vip("192.0.2.1", 6, 1), LbEncapType::Nat6).await, "INVALID_ADDRESS_FAMILY");
    let odd = LbAddDelVipV2::add(vip("192.0.2.1", 6, 1), LbEncapType::Gre4, 1000, false);
    assert_eq!(refusal(client.request(&odd).await), "INVALID_MEMORY_SIZE");

    assert_eq!(add_as(&client, web, "10.0.0.1", 1).await, "OK");
    assert_eq!(add_as(&client, web, "10.0.0.1", 9).await, "VALUE_EXIST");
    assert_eq!(add_as(&client, web, "2001:db8::1", 1).await, "INVALID_ADDRESS_FAMILY");
    assert_eq!(add_as(&client, all, "10.0.0.1", 1).await, "NO_SUCH_ENTRY");
    let delete = LbAddDelAsV2::delete(web, ip("10.0.0.2"), false);
    assert_eq!(refusal(client.request(&delete).await), "NO_SUCH_ENTRY");
    let weight = LbAsSetWeight { vip: web, address: ip("10.0.0.2"), weight: 1, is_flush: false };
    assert_eq!(refusal(client.request(&weight).await), "NO_SUCH_ENTRY");
    assert_eq!(refusal(client.request(&LbAddDelVipV2::delete(all)).await), "NO_SUCH_ENTRY");
    assert_eq!(servers(&client, &web).await, [(ip("10.0.0.1"), 1, 1024, true)]);
}

#[tokio::test]
async fn hazardous_requests_are_not_sent() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let web = vip("203.0.113.10", 6, 443);
    let long = Vip { prefix: Prefix { len: 128, ..web.prefix }, ..web };
    let conf =
        LbConf { ip4_src: [0; 4].into(), ip6_src: [0; 16].into(), sticky_buckets: 0, flow_timeout: 40 };
    assert!(matches!(client.request(&conf).await, Err(Error::Hazard { message: "lb_conf", .. })));
    for deadly in [
        LbAddDelVipV2::add(web, LbEncapType::Gre4, 0, false),
        LbAddDelVipV2::add(web, LbEncapType::Gre4, 1 << 30, false),
        LbAddDelVipV2::add(long, LbEncapType::Gre4, 1024, false),
        LbAddDelVipV2::delete(long),
        LbAddDelVipV2::add(Vip::all_ports(web.prefix), LbEncapType::Nat4, 1024, false),
    ] {
        assert!(matches!(client.request(&deadly).await, Err(Error::Hazard { .. })), "{deadly:?}");
    }
    let server = LbAddDelAsV2::add(long, ip("10.0.0.1"), 1);
    assert!(matches!(client.request(&server).await, Err(Error::Hazard { .. })));
    client.request(&ControlPing {}).await.unwrap();
}

#[tokio::test]
async fn bucket_shares_match_model() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let web = vip("203.0.113.10", 6, 443);
    assert_eq!(add_vip(&client, web, LbEncapType::Gre6).await, "OK");
    let mut wanted: Vec<(IpAddr, u8)> = Vec::new();
    for (n, weight) in [100u8, 50, 0, 1, 255, 100, 7, 33, 100, 100, 100, 100].into_iter().enumerate() {
        let address = ip(&format!("2001:db8:{}::{n}", n % 3));
        client.request(&LbAddDelAsV2::add(web, address, weight)).await.unwrap();
        wanted.push((address, weight));
        check_shares(&client, &web, &wanted).await;
    }
    for (n, weight) in [(4, 25), (0, 0), (2, 80), (1, 1)] {
        let address = wanted[n].0;
        client.request(&LbAsSetWeight { vip: web, address, weight, is_flush: n == 0 }).await.unwrap();
        wanted[n].1 = weight;
        check_shares(&client, &web, &wanted).await;
    }
}

async fn check_shares(client: &VppClient, vip: &Vip, wanted: &[(IpAddr, u8)]) {
    let model: Vec<_> =
        wanted.iter().map(|(address, weight)| (VppAddress::from(*address).0, *weight)).collect();
    let shares = table::bucket_counts(&model, 1024);
    let expected: Vec<_> = wanted
        .iter()
        .zip(shares)
        .map(|((address, weight), share)| (*address, *weight, share, true))
        .collect();
    assert_eq!(servers(client, vip).await, expected);
}

#[tokio::test]
async fn dump_by_vip_returns_only_that_vip() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let vips = [
        vip("203.0.113.10", 6, 80),
        vip("203.0.113.10", 17, 80),
        vip("203.0.113.10", 6, 443),
        Vip::all_ports(Prefix::host(ip("203.0.113.11"))),
        vip("2001:db8:1::10", 6, 80),
        Vip::all_ports(Prefix { address: ip("2001:db8:2::"), len: 64 }),
        vip("198.51.100.0", 6, 80),
    ];
    for (n, vip) in vips.iter().enumerate() {
        assert_eq!(add_vip(&client, *vip, LbEncapType::Gre4).await, "OK");
        assert_eq!(add_as(&client, *vip, &format!("10.0.0.{n}"), 1).await, "OK");
    }
    for (n, vip) in vips.iter().enumerate() {
        assert_eq!(servers(&client, vip).await, [(ip(&format!("10.0.0.{n}")), 1, 1024, true)]);
    }
    assert_eq!(servers(&client, &vip("192.0.2.9", 6, 80)).await, []);
    assert_eq!(client.dump(&LbAsV2Dump::all()).await.unwrap().len(), vips.len());

    // Neither VPP nor the filter considers bits beyond the prefix length.
    let sloppy = Vip { prefix: Prefix { address: ip("2001:db8:2::5"), len: 64 }, ..vips[5] };
    let records = client.dump(&LbAsV2Dump::of_vip(&sloppy)).await.unwrap();
    assert_eq!(records.iter().map(|record| record.vip).collect::<Vec<_>>(), [vips[5]]);
    assert_eq!(add_as(&client, sloppy, "10.0.0.5", 1).await, "VALUE_EXIST");
}

#[tokio::test]
async fn removed_servers_linger_as_ghosts() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let web = vip("203.0.113.10", 6, 443);
    assert_eq!(add_vip(&client, web, LbEncapType::Gre4).await, "OK");
    assert_eq!(add_as(&client, web, "10.0.0.1", 10).await, "OK");
    assert_eq!(add_as(&client, web, "10.0.0.2", 10).await, "OK");
    let (one, two) = (ip("10.0.0.1"), ip("10.0.0.2"));
    client.request(&LbAddDelAsV2::delete(web, one, true)).await.unwrap();
    assert_eq!(servers(&client, &web).await, [(one, 10, 0, false), (two, 10, 1024, true)]);
    let weight = LbAsSetWeight { vip: web, address: one, weight: 5, is_flush: false };
    assert_eq!(refusal(client.request(&weight).await), "NO_SUCH_ENTRY");
    // Repeating the removal is not an error.
    client.request(&LbAddDelAsV2::delete(web, one, true)).await.unwrap();
    assert_eq!(add_as(&client, web, "10.0.0.1", 30).await, "OK");
    assert_eq!(servers(&client, &web).await, [(one, 30, 764, true), (two, 10, 260, true)]);
}

#[tokio::test]
async fn vip_can_be_readded_beside_ghost() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let web = vip("203.0.113.10", 6, 443);
    assert_eq!(add_vip(&client, web, LbEncapType::Gre4).await, "OK");
    assert_eq!(add_as(&client, web, "10.0.0.1", 10).await, "OK");
    client.request(&LbFlushVip { vip: web }).await.unwrap();
    client.request(&LbAddDelVipV2::delete(web)).await.unwrap();
    assert_eq!(add_as(&client, web, "10.0.0.1", 10).await, "NO_SUCH_ENTRY");
    assert_eq!(add_vip(&client, web, LbEncapType::Gre4).await, "OK");
    assert_eq!(client.dump(&LbVipDump::all()).await.unwrap().len(), 1);
    assert_eq!(add_as(&client, web, "10.0.0.1", 20).await, "OK");
    let one = ip("10.0.0.1");
    assert_eq!(servers(&client, &web).await, [(one, 10, 0, false), (one, 20, 1024, true)]);
}

#[tokio::test]
async fn route_lookup_finds_vips_and_servers() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let web = vip("203.0.113.10", 6, 443);
    let look_up = |prefix| client.request(&IpRouteLookupV2::exact(prefix));
    assert_eq!(refusal(look_up(web.prefix).await), "NO_SUCH_ENTRY");
    assert_eq!(add_vip(&client, web, LbEncapType::Gre6).await, "OK");
    assert_eq!(add_as(&client, web, "2001:db8:2::1", 10).await, "OK");
    let route = look_up(web.prefix).await.unwrap();
    assert_eq!((route.prefix, route.paths.len()), (web.prefix, 1));
    let server = look_up(Prefix::host(ip("2001:db8:2::1"))).await.unwrap();
    assert_eq!((server.source, server.paths.len()), (18, 1));
    assert_ne!(route.stats_index, server.stats_index);
    client.request(&LbAddDelVipV2::delete(web)).await.unwrap();
    assert_eq!(refusal(look_up(web.prefix).await), "NO_SUCH_ENTRY");
    assert!(look_up(Prefix::host(ip("2001:db8:2::1"))).await.is_ok());
}

#[tokio::test]
async fn cli_inband_returns_output() {
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let sticky = LbAddDelVipV2::add(vip("203.0.113.10", 6, 443), LbEncapType::Gre4, 1024, true);
    client.request(&sticky).await.unwrap();
    let shown = client.request(&CliInband::new("show lb vips verbose")).await.unwrap();
    assert_eq!(shown.retval, 0);
    assert!(shown.output.0.contains("ip4-gre4 [1] 203.0.113.10/32 src_ip_sticky\n"), "{}", shown.output.0);
    let nonsense = client.request(&CliInband::new("show nonsense")).await.unwrap();
    assert_eq!((nonsense.retval, nonsense.output.0.as_str()), (-1, "show: unknown input `nonsense'\n"));
}

#[tokio::test]
async fn pipelined_requests_keep_order() {
    const VIPS: u16 = 1000;
    let vpp = Vpp::start().unwrap();
    let client = connect(&vpp).await;
    let names: Vec<Vip> = (1..=VIPS).map(|port| vip("203.0.113.10", 6, port)).collect();
    let mut answers = Vec::new();
    for (n, vip) in names.iter().enumerate() {
        answers.push(tokio::spawn(ok(client.request(&LbAddDelVipV2::add(
            *vip,
            LbEncapType::Gre4,
            64,
            false,
        )))));
        for server in 1..=10u8 {
            let address = [10, (n >> 8) as u8, n as u8, server].into();
            answers.push(tokio::spawn(ok(client.request(&LbAddDelAsV2::add(*vip, address, 1)))));
        }
    }
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let listed = client.dump(&LbVipDump::all()).await.unwrap();
    assert_eq!(listed.iter().map(|record| record.vip).collect::<Vec<_>>(), names);
    let records = client.dump(&LbAsV2Dump::all()).await.unwrap();
    let distinct: BTreeSet<_> = records.iter().map(|record| (record.vip, record.address)).collect();
    assert_eq!((records.len(), distinct.len()), (10_000, 10_000));
    assert!(records.iter().all(|record| record.is_in_use() && matches!(record.num_buckets, 6 | 7)));
}

/// Discards the reply.
async fn ok<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<(), Error> {
    answer.await.map(drop)
}

#[tokio::test]
async fn two_clients_get_their_own_answers() {
    let vpp = Vpp::start().unwrap();
    let [left, right] = [connect(&vpp).await, connect(&vpp).await];
    let mut answers = Vec::new();
    for port in 1..=500 {
        let [here, there] = [vip("203.0.113.1", 6, port), vip("203.0.113.2", 6, port)];
        answers.push(left.request(&LbAddDelVipV2::add(here, LbEncapType::Gre4, 64, false)));
        answers.push(right.request(&LbAddDelVipV2::add(there, LbEncapType::Gre4, 64, false)));
    }
    for answer in answers {
        answer.await.unwrap();
    }
    let (mine, yours) = tokio::join!(left.dump(&LbVipDump::all()), right.dump(&LbVipDump::all()));
    assert_eq!(mine.unwrap().len(), 1000);
    assert_eq!(yours.unwrap().len(), 1000);
    let [mine, yours] =
        [left.request(&ControlPing {}).await.unwrap(), right.request(&ControlPing {}).await.unwrap()];
    assert_ne!(mine.client_index, yours.client_index);

    drop(left);
    right.request(&ControlPing {}).await.unwrap();
}
