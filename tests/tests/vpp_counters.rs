//! Counters, on the simulator, or on the real VPP that `VPP_BIN` names.

#![cfg(test)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use maglev_tests::dataplane::Vpp;
use maglev_vpp::message::*;
use maglev_vpp::stats::*;
use maglev_vpp::{Client, Options, cli};

#[tokio::test]
#[ignore = "prints what counting costs"]
async fn cost() {
    let vpp = Vpp::start().unwrap();
    let client = Client::connect(vpp.api_socket(), "cost", Options::default()).await.unwrap();
    for i in 0..1000u32 {
        let vip = Vip {
            prefix: Prefix::host(std::net::Ipv4Addr::from_bits(0xcb00_0000 + i).into()),
            protocol: 6,
            port: 80,
        };
        client.request(&LbAddDelVipV2::add(vip, Encap::Gre4, 1024, false)).await.unwrap();
        for s in 0..10u32 {
            let a = std::net::Ipv4Addr::from_bits(0x0a00_0000 + i * 16 + s).into();
            client.request(&LbAddDelAsV2::add(vip, a, 1)).await.unwrap();
        }
    }
    for _ in 0..3 {
        let began = Instant::now();
        let text = client.request(&CliInband::new(cli::SHOW_VIPS)).await.unwrap().output.0;
        println!("cli {:?} {} bytes", began.elapsed(), text.len());
        let began = Instant::now();
        let n = cli::vips(&text).len();
        println!("parse {:?} {n}", began.elapsed());
        let began = Instant::now();
        client.dump(&LbAsV2Dump::all()).await.unwrap();
        println!("dump {:?}", began.elapsed());
    }
    let text = client.request(&CliInband::new(cli::SHOW_VIPS)).await.unwrap().output.0;
    println!("{}", &text[..600]);
    let shown = cli::vips(&text);
    let vips: BTreeSet<u32> = shown.iter().map(|v| v.index).collect();
    let servers: BTreeSet<u32> = shown.iter().flat_map(|v| v.servers.iter().map(|s| s.1)).collect();
    let began = Instant::now();
    let mut prefixes = BTreeSet::new();
    for v in &shown {
        let r = client.request(&IpRouteLookupV2::exact(v.vip.prefix)).await.unwrap();
        prefixes.insert(r.stats_index);
    }
    println!("1000 lookups {:?}", began.elapsed());
    let mut segment = Segment::open(&vpp.stats_socket(), Duration::from_secs(3)).unwrap();
    for _ in 0..4 {
        let began = Instant::now();
        segment
            .read(|now| {
                for name in [NEXT_PACKETS, FIRST_PACKETS, UNTRACKED_PACKETS, NO_SERVER_PACKETS] {
                    now.simple(name, &vips)?;
                }
                now.combined(ROUTE_TO, &prefixes)?;
                now.combined(ROUTE_VIA, &servers)
            })
            .unwrap();
        println!("read {:?}", began.elapsed());
    }
}
