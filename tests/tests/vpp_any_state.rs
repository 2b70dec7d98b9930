//! `maglevd` converges from any state of VPP to the desired state, and then has an empty plan.
//!
//! `VPP_SEED` repeats a run.

#![cfg(test)]

use std::collections::BTreeMap;
use std::env;
use std::net::IpAddr;

use fastrand::Rng;
use maglev_lab::dataplane::Vpp;
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::packets::until;
use maglev_lab::test_dir::TestDir;
use maglev_lab::vpp_observer::{VppObserver, Weights, host};
use maglev_proto::v1::SyncLbStateRequest;
use maglev_vpp::message::*;
use maglev_vpp::{VppClient, cli};

/// Number of times VPP is disordered, each on top of the previous state.
const ROUNDS: usize = 12;
/// Random calls per round.
const CALLS: usize = 60;

/// Static backends, so that the desired state follows from the file alone.
const CONFIG: &str = "
maglev:
  vpp:
    lb: { ipv4-src-address: 192.0.2.254, ipv6-src-address: '2001:db8::254', startup-max-delay: 0s }
  backends:
    a: { address: 192.0.2.1 }
    b: { address: 192.0.2.2 }
    c: { address: 192.0.2.3, enabled: false }
    x: { address: '2001:db8:1::1' }
    y: { address: '2001:db8:1::2' }
  frontends:
    web:
      { address: 203.0.113.1, protocol: tcp, port: 80, pools: [{ name: p, backends: { a: { weight: 100 }, b: { weight: 50 }, c: {} } }] }
    tls: { address: 203.0.113.1, protocol: tcp, port: 443, pools: [{ name: p, backends: { a: {} } }, { name: q, backends: { b: {} } }] }
    all: { address: 203.0.113.2, pools: [{ name: p, backends: { x: {}, y: {} } }] }
    six: { address: '2001:db8::80', protocol: udp, port: 53, pools: [{ name: p, backends: { y: { weight: 30 }, x: { weight: 20 } } }] }
";

type LbState = BTreeMap<Vip, (LbEncapType, Weights)>;

#[test]
fn random_vpp_state_converges() {
    let seed = env::var("VPP_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("VPP_SEED={seed}");
    let (vpp, mut random) = (Vpp::start().unwrap(), Rng::with_seed(seed));
    let observer = VppObserver::new(&vpp);
    for round in 0..ROUNDS {
        observer.client(async |client| make_random_calls(&client, &mut random).await);
        let dir = TestDir::new();
        let maglevd = MaglevdSetup::new(&dir, CONFIG).vpp(&vpp).start();
        until(|| is_in_sync(&maglevd), || format!("round {round}: {:#?}", read_state(&observer)));
        assert_eq!(read_state(&observer), desired_state(), "round {round}");
        assert_eq!(sticky(&observer), [], "round {round}");
    }
}

/// True if a plan is available and empty.
fn is_in_sync(maglevd: &Maglevd) -> bool {
    let mut client = maglevd.client.clone();
    let plan = maglevd.wait(client.sync_lb_state(SyncLbStateRequest { dry_run: true, fresh: false }));
    plan.is_ok_and(|plan| {
        plan.into_inner().plan.is_none_or(|plan| !plan.updates_global_conf && plan.vips.is_empty())
    })
}

fn desired_state() -> LbState {
    let servers = |list: &[(&str, u8)]| list.iter().map(|(server, weight)| (ip(server), *weight)).collect();
    let vip = |address, protocol, port| Vip { prefix: host(address), protocol, port };
    BTreeMap::from([
        (
            vip("203.0.113.1", 6, 80),
            (LbEncapType::Gre4, servers(&[("192.0.2.1", 20), ("192.0.2.2", 10), ("192.0.2.3", 0)])),
        ),
        (vip("203.0.113.1", 6, 443), (LbEncapType::Gre4, servers(&[("192.0.2.1", 20), ("192.0.2.2", 0)]))),
        (
            vip("203.0.113.2", 255, 0),
            (LbEncapType::Gre6, servers(&[("2001:db8:1::1", 20), ("2001:db8:1::2", 20)])),
        ),
        (
            vip("2001:db8::80", 17, 53),
            (LbEncapType::Gre6, servers(&[("2001:db8:1::1", 4), ("2001:db8:1::2", 6)])),
        ),
    ])
}

/// Returns VPP's state without ghosts.
fn read_state(observer: &VppObserver<'_>) -> LbState {
    observer.client(async |client| {
        let vips = client.dump(&LbVipDump::all()).await.unwrap();
        let mut found: LbState = vips.iter().map(|vip| (vip.vip, (vip.encap, Weights::new()))).collect();
        for server in client.dump(&LbAsV2Dump::all()).await.unwrap() {
            if let Some((_, servers)) = found.get_mut(&server.vip).filter(|_| server.is_in_use()) {
                servers.insert(server.address, server.weight);
            }
        }
        found
    })
}

/// Returns the VIPs that hash by source address only.
fn sticky(observer: &VppObserver<'_>) -> Vec<Vip> {
    let listing =
        observer.client(async |client| client.request(&CliInband::new(cli::SHOW_VIPS)).await.unwrap());
    let sticky = cli::parse_vips(&listing.output.0).into_iter().filter(|shown| shown.src_ip_sticky);
    sticky.map(|shown| shown.vip).collect()
}

/// Makes random calls: our VIPs with other settings, foreign VIPs, servers, weights, and removals with and without a flush. VPP
/// may refuse some.
async fn make_random_calls(client: &VppClient, random: &mut Rng) {
    for _ in 0..CALLS {
        let vip = any_vip(random);
        let address = any_server(random);
        match random.u8(..10) {
            0..3 => {
                let encap = if random.bool() { LbEncapType::Gre4 } else { LbEncapType::Gre6 };
                let length = 1 << random.u32(6..17);
                drop(client.request(&LbAddDelVipV2::add(vip, encap, length, random.bool())).await);
            }
            3..7 => drop(client.request(&LbAddDelAsV2::add(vip, address, random.u8(..))).await),
            7 => drop(client.request(&LbAddDelAsV2::delete(vip, address, random.bool())).await),
            8 => {
                let call = LbAsSetWeight { vip, address, weight: random.u8(..), is_flush: random.bool() };
                drop(client.request(&call).await);
            }
            _ => drop(client.request(&LbAddDelVipV2::delete(vip)).await),
        }
    }
    let conf = LbConf {
        ip4_src: [192, 0, 2, random.u8(..)].into(),
        ip6_src: "2001:db8::1".parse().unwrap(),
        sticky_buckets: 1 << random.u32(4..12),
        flow_timeout: random.u32(1..120),
    };
    client.request(&conf).await.unwrap();
}

fn any_vip(random: &mut Rng) -> Vip {
    let ours = ["203.0.113.1", "203.0.113.2", "2001:db8::80"];
    let others = ["203.0.113.9", "2001:db8::90"];
    let address = if random.u8(..4) > 0 { ours[random.usize(..3)] } else { others[random.usize(..2)] };
    match random.u8(..4) {
        0 => Vip::all_ports(host(address)),
        1 => Vip { prefix: host(address), protocol: 6, port: 443 },
        2 => Vip { prefix: host(address), protocol: 17, port: 53 },
        _ => Vip { prefix: host(address), protocol: 6, port: 80 },
    }
}

fn any_server(random: &mut Rng) -> IpAddr {
    let servers = ["192.0.2.1", "192.0.2.2", "192.0.2.9", "2001:db8:1::1", "2001:db8:1::2", "2001:db8:1::9"];
    ip(servers[random.usize(..servers.len())])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
