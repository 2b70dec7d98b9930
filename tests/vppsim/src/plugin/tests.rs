use maglev_vpp::message::{LbAsV2Details, LbAsV2Dump, Prefix};

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn vip(address: &str, port: u16) -> Vip {
    Vip { prefix: Prefix::host(ip(address)), protocol: 6, port }
}

fn web() -> Vip {
    vip("203.0.113.10", 443)
}

/// A plugin with a clock.
struct PluginTest {
    plugin: LbPlugin,
    now: u32,
}

impl PluginTest {
    /// Returns a plugin with the VIP [`web`], added at second 1.
    fn new() -> Self {
        let mut bench = Self { plugin: LbPlugin::default(), now: 1 };
        assert_eq!(bench.add_vip(web(), LbEncapType::Gre4), 0);
        bench
    }

    fn at(&mut self, now: u32) -> &mut Self {
        self.now = now;
        self.plugin.tick(now).unwrap();
        self
    }

    fn add_vip(&mut self, vip: Vip, encap: LbEncapType) -> i32 {
        self.plugin.add_del_vip(&LbAddDelVipV2::add(vip, encap, 1024, false), self.now).unwrap()
    }

    fn delete_vip(&mut self, vip: Vip) -> i32 {
        self.plugin.add_del_vip(&LbAddDelVipV2::delete(vip), self.now).unwrap()
    }

    fn add(&mut self, vip: Vip, address: &str) -> i32 {
        self.plugin.add_del_as(&LbAddDelAsV2::add(vip, ip(address), 10), self.now).unwrap()
    }

    fn delete(&mut self, vip: Vip, address: &str, is_flush: bool) -> i32 {
        self.plugin.add_del_as(&LbAddDelAsV2::delete(vip, ip(address), is_flush), self.now).unwrap()
    }

    /// Returns address, flags and removal time of each server.
    fn servers(&self) -> Vec<(String, u8, u32)> {
        let records = self.plugin.server_details(&LbAsV2Dump::all()).into_iter();
        records
            .map(|LbAsV2Details { address, flags, in_use_since, .. }| {
                (address.to_string(), flags, in_use_since)
            })
            .collect()
    }

    fn addresses(&self) -> Vec<String> {
        self.servers().into_iter().map(|(address, ..)| address).collect()
    }
}

#[test]
fn removed_server_is_collected_at_second_run() {
    let mut bench = PluginTest::new();
    bench.add(web(), "10.0.0.1");
    bench.at(5).delete(web(), "10.0.0.1", true);
    // The first collection runs at second 60, when the VIP is not 60 seconds old.
    assert_eq!(bench.at(119).servers(), [("10.0.0.1".into(), 0, 5)]);
    assert_eq!(bench.at(120).servers(), []);
    assert_eq!(bench.delete(web(), "10.0.0.1", true), error::NO_SUCH_ENTRY);
}

#[test]
fn recently_removed_server_survives_collection() {
    let mut bench = PluginTest::new();
    bench.add(web(), "10.0.0.1");
    bench.at(110).delete(web(), "10.0.0.1", true);
    assert_eq!(bench.at(120).servers(), [("10.0.0.1".into(), 0, 110)]);
    // The removal itself ran a collection at second 110.
    assert_eq!(bench.at(179).servers().len(), 1);
    assert_eq!(bench.at(180).servers(), []);
}

#[test]
fn second_removal_postpones_collection() {
    let mut bench = PluginTest::new();
    bench.at(70).add(web(), "10.0.0.1");
    bench.at(75).delete(web(), "10.0.0.1", true);
    bench.at(125).delete(web(), "10.0.0.1", true);
    bench.at(131).add(web(), "10.0.0.2");
    assert_eq!(bench.servers(), [("10.0.0.1".into(), 0, 125), ("10.0.0.2".into(), 1, 0)]);
}

#[test]
fn add_collects_after_delete_before() {
    let mut bench = PluginTest::new();
    bench.add(web(), "10.0.0.1");
    bench.add(web(), "10.0.0.2");
    bench.delete(web(), "10.0.0.1", true);
    bench.at(61).add(web(), "10.0.0.3");
    assert_eq!(bench.addresses(), ["10.0.0.2", "10.0.0.3"]);

    bench.at(63).delete(web(), "10.0.0.2", true);
    // It collects the server before it removes it. VPP returns 0 although the server is gone.
    assert_eq!(bench.at(121).delete(web(), "10.0.0.2", true), 0);
    assert_eq!(bench.addresses(), ["10.0.0.3"]);
}

#[test]
fn new_server_shows_slots_removal_time() {
    let mut bench = PluginTest::new();
    bench.add(web(), "10.0.0.1");
    bench.at(5).delete(web(), "10.0.0.1", true);
    bench.at(120).add(web(), "10.0.0.2");
    assert_eq!(bench.servers(), [("10.0.0.2".into(), 1, 5)]);
}

#[test]
fn flow_keeps_removed_server_until_flushed() {
    let mut bench = PluginTest::new();
    bench.add(web(), "10.0.0.1");
    assert_eq!(bench.plugin.add_flow(&web(), ip("10.0.0.1")), Ok(true));
    bench.at(5).delete(web(), "10.0.0.1", false);
    assert_eq!(bench.at(1000).servers(), [("10.0.0.1".into(), 0, 5)]);
    bench.plugin.flush_vip(&web()).unwrap();
    assert_eq!(bench.at(1200).servers(), []);
}

#[test]
fn readded_server_keeps_unflushed_flows() {
    let mut bench = PluginTest::new();
    for (is_flush, flows) in [(false, 1), (true, 0)] {
        bench.add(web(), "10.0.0.1");
        bench.plugin.add_flow(&web(), ip("10.0.0.1")).unwrap();
        bench.delete(web(), "10.0.0.1", false);
        let again = LbAddDelAsV2 { is_flush, ..LbAddDelAsV2::add(web(), ip("10.0.0.1"), 1) };
        assert_eq!(bench.plugin.add_del_as(&again, 2), Ok(0));
        assert_eq!(bench.plugin.view()[0].servers[0].flows, flows);
        bench.delete(web(), "10.0.0.1", true);
    }
}

#[test]
fn set_weight_with_flush_removes_flows() {
    let mut bench = PluginTest::new();
    bench.add(web(), "10.0.0.1");
    bench.plugin.add_flow(&web(), ip("10.0.0.1")).unwrap();
    let drain = LbAsSetWeight { vip: web(), address: ip("10.0.0.1"), weight: 0, is_flush: false };
    bench.plugin.set_weight(&drain).unwrap();
    assert_eq!((bench.plugin.flows.len(), bench.plugin.view()[0].servers[0].buckets), (1, 0));
    bench.plugin.set_weight(&LbAsSetWeight { is_flush: true, ..drain }).unwrap();
    assert_eq!(bench.plugin.flows.len(), 0);
}

#[test]
fn changed_sticky_buckets_drop_all_flows() {
    let mut bench = PluginTest::new();
    bench.add(web(), "10.0.0.1");
    bench.plugin.add_flow(&web(), ip("10.0.0.1")).unwrap();
    bench.plugin.add_flow(&web(), ip("10.0.0.1")).unwrap();
    let conf =
        LbConf { ip4_src: [0; 4].into(), ip6_src: [0; 16].into(), sticky_buckets: 64, flow_timeout: KEEP };
    assert_eq!(bench.plugin.configure(&conf), 0);
    assert_eq!(bench.plugin.flows.len(), 2);
    bench.plugin.add_flow(&web(), ip("10.0.0.1")).unwrap();
    assert_eq!(bench.plugin.flows.len(), 1);
}

#[test]
fn removed_vip_is_freed_after_last_server() {
    let mut bench = PluginTest::new();
    let other = vip("203.0.113.11", 80);
    bench.add_vip(other, LbEncapType::Gre4);
    bench.add(web(), "10.0.0.1");
    bench.at(5).delete_vip(web());
    assert_eq!(
        (bench.delete_vip(web()), bench.add(web(), "10.0.0.1")),
        (error::NO_SUCH_ENTRY, error::NO_SUCH_ENTRY)
    );
    assert_eq!(bench.plugin.view().len(), 2);
    assert_eq!(bench.at(119).plugin.view().len(), 2);
    assert_eq!(bench.at(120).plugin.view().len(), 1);
    bench.add_vip(vip("203.0.113.12", 80), LbEncapType::Gre4);
    let order: Vec<_> =
        bench.plugin.vip_details().iter().map(|record| record.vip.prefix.to_string()).collect();
    assert_eq!(order, ["203.0.113.12/32", "203.0.113.11/32"]);
}

#[test]
fn empty_removed_vip_is_freed_within_minute() {
    let mut bench = PluginTest::new();
    bench.at(5).delete_vip(web());
    assert_eq!(bench.at(60).plugin.view(), []);
}

#[test]
fn reused_slot_shows_stale_values() {
    let mut bench = PluginTest::new();
    let dsr = vip("203.0.113.11", 80);
    let l3dsr = LbAddDelVipV2 { dscp: 70, ..LbAddDelVipV2::add(dsr, LbEncapType::L3dsr, 1024, false) };
    bench.plugin.add_del_vip(&l3dsr, 1).unwrap();
    assert_eq!(bench.plugin.vip_details()[1].dscp, 6);
    bench.delete_vip(dsr);
    bench.at(60).add_vip(vip("203.0.113.12", 80), LbEncapType::Gre4);
    let shown = &bench.plugin.vip_details()[1];
    assert_eq!((shown.dscp, shown.srv_type), (6, 0x0600_0000));
}

#[test]
fn ports_of_prefix_share_one_route() {
    let mut bench = PluginTest::new();
    let found = |bench: &PluginTest| {
        let request = maglev_vpp::message::IpRouteLookupV2::exact(web().prefix);
        bench.plugin.fib.lookup_route(&request).unwrap().retval
    };
    bench.add_vip(vip("203.0.113.10", 80), LbEncapType::Gre4);
    bench.delete_vip(web());
    assert_eq!(found(&bench), 0);
    bench.delete_vip(vip("203.0.113.10", 80));
    assert_eq!(found(&bench), error::NO_SUCH_ENTRY);
}

#[test]
fn interface_address_overrides_vip() {
    let mut bench = PluginTest::new();
    bench.plugin.add_interface(ip("203.0.113.10"));
    let request = maglev_vpp::message::IpRouteLookupV2::exact(web().prefix);
    let source = bench.plugin.fib.lookup_route(&request).unwrap().source;
    assert_eq!(source, maglev_vpp::message::SOURCE_INTERFACE);
}

#[test]
fn lookup_returns_longest_match() {
    let mut bench = PluginTest::new();
    let net = Vip { prefix: Prefix { address: ip("203.0.113.0"), len: 24 }, ..web() };
    bench.add_vip(net, LbEncapType::Gre4);
    let found = |address| {
        let prefix = Prefix::host(ip(address));
        let request = maglev_vpp::message::IpRouteLookupV2 { table_id: 0, exact: 0, prefix };
        bench.plugin.fib.lookup_route(&request).unwrap().prefix.to_string()
    };
    assert_eq!(found("203.0.113.10"), "203.0.113.10/32");
    assert_eq!(found("203.0.113.11"), "203.0.113.0/24");
    assert_eq!(found("198.51.100.1"), "0.0.0.0/0");
    assert_eq!(found("2001:db8::1"), "::/0");
}

#[test]
fn requests_out_of_bounds_end_plugin() {
    let conf =
        LbConf { ip4_src: [0; 4].into(), ip6_src: [0; 16].into(), sticky_buckets: 0, flow_timeout: KEEP };
    let mut bench = PluginTest::new();
    bench.add(web(), "10.0.0.1");
    assert_eq!(bench.plugin.configure(&conf), 0);
    assert!(bench.plugin.add_flow(&web(), ip("10.0.0.1")).is_err());

    let add = |vip, length| LbAddDelVipV2::add(vip, LbEncapType::Gre4, length, false);
    let other = vip("203.0.113.11", 80);
    assert!(PluginTest::new().plugin.add_del_vip(&add(other, 0), 1).is_err());
    assert!(PluginTest::new().plugin.add_del_vip(&add(other, 1 << 30), 1).is_err());
    let long = Vip { prefix: Prefix { len: 128, ..other.prefix }, ..other };
    assert!(PluginTest::new().plugin.add_del_vip(&add(long, 1024), 1).is_err());

    let mut bench = PluginTest::new();
    let all = Vip::all_ports(other.prefix);
    assert_eq!(bench.add_vip(all, LbEncapType::Nat4), 0);
    assert!(bench.plugin.add_del_as(&LbAddDelAsV2::add(all, ip("10.0.0.1"), 1), 1).is_err());
}

#[test]
fn shared_nat_server_is_out_of_bounds() {
    let mut bench = PluginTest::new();
    let vips = [vip("203.0.113.11", 53), vip("203.0.113.12", 53)];
    for vip in vips {
        let nat =
            LbAddDelVipV2 { target_port: 5353, ..LbAddDelVipV2::add(vip, LbEncapType::Nat4, 1024, false) };
        assert_eq!(bench.plugin.add_del_vip(&nat, 1), Ok(0));
        assert_eq!(bench.add(vip, "10.0.0.1"), 0);
    }
    bench.delete(vips[0], "10.0.0.1", true);
    bench.at(120);
    bench.delete(vips[1], "10.0.0.1", true);
    assert!(bench.plugin.tick(240).is_err());
}
