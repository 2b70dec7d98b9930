//! New and existing flows of a server that goes out of service.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use maglev_ipc::OutcomeCode;
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::packets::flow::{Flow, Flows};
use maglev_lab::packets::router::Router;
use maglev_lab::scripted_prober::ScriptedProber;
use maglev_lab::test_dir::TestDir;
use maglev_proto::v1::BackendState;

/// Three servers in the first pool, one in the second. On `down`, frontend `flushes` flushes a server's flows; `keeps` does
/// not.
const CONFIG: &str = "
maglev:
  vpp: { lb: { ipv4-src-address: 192.0.2.1, flow-timeout: 120s } }
  healthchecks:
    ping: { type: icmp, rise: 1, fall: 1 }
  backends:
    s1: { address: 10.1.0.1, healthcheck: ping }
    s2: { address: 10.1.0.2, healthcheck: ping }
    s3: { address: 10.1.0.3, healthcheck: ping }
    s4: { address: 10.1.0.4, healthcheck: ping }
  frontends:
    flushes:
      address: 203.0.113.1
      flush-on-down: true
      pools: &pools
        - { name: first, backends: { s1: {}, s2: {}, s3: {} } }
        - { name: second, backends: { s4: {} } }
    keeps:
      address: 203.0.113.2
      flush-on-down: false
      pools: *pools
";
const FLUSHES: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const KEEPS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// Number of flows. Each measurement sends one packet per flow.
const FLOWS: u32 = 3000;

type FlowServers = BTreeMap<Flow, IpAddr>;

/// VPP, and a `maglevd` whose prober the test controls.
struct FlowFixture {
    router: Router,
    maglevd: Maglevd,
    prober: ScriptedProber,
    dir: TestDir,
    /// Number of rounds of new flows.
    rounds: u16,
}

impl FlowFixture {
    /// Starts the system with every server up.
    fn start(test: &str) -> Option<Self> {
        let router = Router::start(test)?;
        let dir = TestDir::new();
        let prober = ScriptedProber::listen(&dir.path("prober.sock"));
        let maglevd = MaglevdSetup::new(&dir, CONFIG).vpp(&router.vpp).start();
        prober.until_checks(4);
        let fixture = Self { router, maglevd, prober, dir, rounds: 0 };
        fixture.report(&[1, 2, 3, 4], OutcomeCode::L7Ok);
        fixture.until([1, 1, 1, 0]);
        Some(fixture)
    }

    /// Reports one outcome with `code` for each of these servers.
    fn report(&self, servers: &[u8], code: OutcomeCode) {
        self.prober.report(servers.iter().map(|number| server(*number)), code);
    }

    /// Waits until VPP has these weights, in full servers, for both VIPs.
    fn until(&self, weights: [u8; 4]) {
        for vip in [FLUSHES, KEEPS] {
            let wanted = (1..).zip(weights).map(|(number, weight)| (server(number), 20 * weight)).collect();
            self.router.until(SocketAddr::new(vip.into(), 0), &wanted);
        }
    }

    /// Returns the servers of the initial flows.
    fn initial_flows(&self, vip: Ipv4Addr) -> FlowServers {
        self.measure(vip, 1024)
    }

    /// Returns the servers of new flows.
    fn new_flows(&mut self, vip: Ipv4Addr) -> FlowServers {
        self.rounds += 1;
        self.measure(vip, 1024 + self.rounds * 1000)
    }

    fn measure(&self, vip: Ipv4Addr, port: u16) -> FlowServers {
        let to = SocketAddr::new(vip.into(), 80);
        let packets = self.router.send(&Flows { to, port, ports: 1000 }, FLOWS);
        let servers: FlowServers = packets.iter().map(|packet| (packet.flow, packet.server)).collect();
        assert_eq!(servers.len(), FLOWS as usize, "{}", self.router.cli("show lb vips verbose"));
        servers
    }
}

fn server(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, 0, number).into()
}

fn count(servers: &FlowServers, number: u8) -> usize {
    servers.values().filter(|address| **address == server(number)).count()
}

/// Asserts that exactly the flows of one server moved.
fn assert_moved(before: &FlowServers, after: &FlowServers, number: u8) {
    for (flow, was) in before {
        let is = after[flow];
        assert_eq!(is == *was, *was != server(number), "{flow} went to {was} and goes to {is}");
    }
}

#[test]
fn flush_on_down_moves_existing_flows() {
    let test = "flush_on_down_moves_existing_flows";
    let Some(mut fixture) = FlowFixture::start(test) else { return };
    let (flushed, kept) = (fixture.initial_flows(FLUSHES), fixture.initial_flows(KEEPS));
    assert!((1..=3).all(|number| count(&flushed, number) > 0 && count(&kept, number) > 0));

    fixture.report(&[1], OutcomeCode::L4Con);
    fixture.until([0, 1, 1, 0]);
    for vip in [FLUSHES, KEEPS] {
        assert_eq!(count(&fixture.new_flows(vip), 1), 0);
    }
    let moved = fixture.initial_flows(FLUSHES);
    assert_moved(&flushed, &moved, 1);
    assert_eq!(fixture.initial_flows(KEEPS), kept);

    fixture.report(&[1], OutcomeCode::L7Ok);
    fixture.until([1, 1, 1, 0]);
    for vip in [FLUSHES, KEEPS] {
        assert!(count(&fixture.new_flows(vip), 1) > 0);
    }
    assert_eq!((fixture.initial_flows(FLUSHES), fixture.initial_flows(KEEPS)), (moved, kept));
}

#[test]
fn relieved_pool_keeps_existing_flows() {
    let test = "relieved_pool_keeps_existing_flows";
    let Some(mut fixture) = FlowFixture::start(test) else { return };
    fixture.report(&[1, 2, 3], OutcomeCode::L4Tout);
    fixture.until([0, 0, 0, 1]);
    let before = [FLUSHES, KEEPS].map(|vip| fixture.initial_flows(vip));
    assert_eq!(before.each_ref().map(|servers| count(servers, 4)), [FLOWS as usize; 2]);

    fixture.report(&[3], OutcomeCode::L7Ok);
    fixture.until([0, 0, 1, 0]);
    assert_eq!([FLUSHES, KEEPS].map(|vip| fixture.initial_flows(vip)), before);
    assert_eq!([FLUSHES, KEEPS].map(|vip| count(&fixture.new_flows(vip), 3)), [FLOWS as usize; 2]);
}

#[test]
fn disabled_server_loses_all_flows() {
    let Some(mut fixture) = FlowFixture::start("disabled_server_loses_all_flows") else {
        return;
    };
    let before = [FLUSHES, KEEPS].map(|vip| fixture.initial_flows(vip));
    let disabled =
        CONFIG.replace("10.1.0.3, healthcheck: ping", "10.1.0.3, healthcheck: ping, enabled: false");
    fixture.maglevd.reload(&fixture.dir, &disabled);
    fixture.maglevd.until_backend("s3", BackendState::Disabled);
    fixture.until([1, 1, 0, 0]);
    for (vip, before) in [FLUSHES, KEEPS].iter().zip(before) {
        assert_moved(&before, &fixture.initial_flows(*vip), 3);
        assert_eq!(count(&fixture.new_flows(*vip), 3), 0);
    }
}
