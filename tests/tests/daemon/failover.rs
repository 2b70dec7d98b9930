//! From server health to weights in VPP.

use std::net::SocketAddr;

use maglev_lab::dataplane::Vpp;
use maglev_lab::http_server::HttpServer;
use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::nginx::{self, NAME, Nginx};
use maglev_lab::skip;
use maglev_lab::test_dir::TestDir;
use maglev_lab::topology::{Lab, V4, V6};
use maglev_lab::vpp_observer::{VppObserver, host};
use maglev_proto::v1::BackendState;
use maglev_vpp::message::Vip;
use maglev_vppsim::VipView;

use crate::{BACKENDS, VIP, WebFixture, frontend};

#[test]
fn weights_follow_health_across_pools() {
    let mut fixture = WebFixture::new();
    let _maglevd = fixture.settled();
    fixture.servers.http[0].answer(503);
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
    fixture.servers.http[1].close();
    fixture.observer().until([(VIP, fixture.weights(0, 0, 10))]);
    fixture.servers.http[0].answer(200);
    fixture.observer().until([(VIP, fixture.weights(20, 0, 0))]);
    fixture.servers.http[1].open();
    fixture.observer().until([(VIP, fixture.weights(20, 10, 0))]);
}

#[test]
fn failover_raises_weights_before_lowering() {
    let fixture = WebFixture::new();
    let _maglevd = fixture.settled();
    let Some(sim) = fixture.sim_or_skip("failover_raises_weights_before_lowering") else { return };
    fixture.servers.http[0].answer(503);
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
    sim.clear_calls();
    fixture.servers.http[1].answer(503);
    fixture.observer().until([(VIP, fixture.weights(0, 0, 10))]);
    let writes = fixture.observer().writes();
    assert_eq!(writes.len(), 2, "{writes:#?}");
    assert!(writes[0].contains("weight: 10, is_flush: false"), "{writes:#?}");
    assert!(writes[1].contains("weight: 0, is_flush: true"), "{writes:#?}");
}

#[test]
fn flush_on_down_decides_flow_removal() {
    let fixture = WebFixture::new();
    let Some(sim) = fixture.sim_or_skip("flush_on_down_decides_flow_removal") else {
        return;
    };
    const KEEPER: &str = "203.0.113.81";
    let mut config = fixture.config();
    config.frontends.push(
        frontend("keeper", KEEPER, "{ name: only, backends: { a: {} } }") + "\n      flush-on-down: false",
    );
    let mut maglevd = fixture.setup(&config).start();
    maglevd.until_up(&BACKENDS);
    let a = fixture.servers.address(0);
    fixture.observer().until([(VIP, fixture.weights(20, 10, 0)), (KEEPER, [(a, 20)].into())]);
    for address in [VIP, KEEPER] {
        assert!(sim.add_flow(&Vip { prefix: host(address), protocol: 6, port: 80 }, a));
    }
    fixture.servers.http[0].answer(503);
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0)), (KEEPER, [(a, 0)].into())]);
    let flows = |vip: &VipView| vip.servers.iter().map(|server| server.flows).sum::<usize>();
    assert_eq!(sim.vips().iter().map(flows).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn unreachable_server_is_drained_until_back() {
    if skip("unreachable_server_is_drained_until_back", &["nft"]) {
        return;
    }
    let (lab, dir, vpp) = (Lab::new(), TestDir::new(), Vpp::start().unwrap());
    let _prober = dir.prober(Some(&lab.prober), &[]);
    let _sites =
        [V4, V6].map(|family| lab.server.inside(|| HttpServer::start(SocketAddr::new(family.server, 80))));
    let config = format!(
        "maglev:
  vpp: {{ lb: {{ ipv4-src-address: 192.0.2.1, ipv6-src-address: '2001:db8::1' }} }}
  healthchecks:
    ping: {{ type: icmp, interval: 50ms, timeout: 300ms }}
    connect: {{ type: tcp, port: 80, interval: 50ms, timeout: 300ms }}
  backends:
    four: {{ address: {}, healthcheck: connect }}
    six: {{ address: '{}', healthcheck: ping }}
  frontends:
    to-four: {{ address: '2001:db8::80', pools: [ {{ name: only, backends: {{ four: {{}} }} }} ] }}
    to-six: {{ address: 192.0.2.80, pools: [ {{ name: only, backends: {{ six: {{}} }} }} ] }}
",
        V4.server, V6.server
    );
    let mut maglevd = MaglevdSetup::new(&dir, &config).vpp(&vpp).start();
    let weights = |weight| {
        [("2001:db8::80", [(V4.server, weight)].into()), ("192.0.2.80", [(V6.server, weight)].into())]
    };
    VppObserver::new(&vpp).until(weights(20));
    lab.server.filter("input", &["tcp dport 80 drop", "icmpv6 type echo-request drop"]);
    VppObserver::new(&vpp).until(weights(0));
    maglevd.until_backend("four", BackendState::Down);
    assert_eq!(maglevd.backend("four").last.unwrap().verdict.unwrap().code().as_str_name(), "CODE_L4TOUT");
    lab.server.remove_filters();
    VppObserver::new(&vpp).until(weights(20));
}

#[test]
fn expired_certificate_is_down_unless_unverified() {
    if skip("expired_certificate_is_down_unless_unverified", &["nginx"]) {
        return;
    }
    let (lab, dir) = (Lab::new(), TestDir::new());
    let _prober = dir.prober(Some(&lab.prober), &[]);
    let nginx = Nginx::start(&lab.server, &dir);
    let roots = dir.write("roots.pem", &nginx.roots);
    let mut config = "maglev:\n  healthchecks:\n".to_owned();
    for (name, port, params) in [
        ("good", nginx::GOOD, format!("ca-file: {}", roots.display())),
        ("expired", nginx::EXPIRED, format!("ca-file: {}", roots.display())),
        ("careless", nginx::EXPIRED, "insecure-skip-verify: true".to_owned()),
    ] {
        config +=
            &format!("    {name}: {{ type: https, port: {port}, params: {{ host: {NAME}, {params} }} }}\n");
    }
    config += "  backends:\n";
    for name in ["good", "expired", "careless"] {
        config += &format!("    {name}: {{ address: '{}', healthcheck: {name} }}\n", V6.server);
    }
    let mut maglevd = MaglevdSetup::new(&dir, &config).start();
    maglevd.until_up(&["good", "careless"]);
    maglevd.until_backend("expired", BackendState::Down);
    let verdict = maglevd.backend("expired").last.unwrap().verdict.unwrap();
    assert_eq!(
        (verdict.code().as_str_name(), verdict.detail.as_str()),
        ("CODE_L6RSP", "certificate has expired")
    );
}
