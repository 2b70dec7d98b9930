//! Frames captured from a real VPP: each decodes to the expected values and encodes to the same bytes.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first error")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use maglev_vpp::frame::{self, HEADER};
use maglev_vpp::message::*;
use maglev_vpp::wire::{FixedString, VarString};
use proptest::prelude::*;

/// Client index in the capture.
const INDEX: u32 = 0x8000_0001;

fn frames() -> BTreeMap<String, Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames");
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

/// The frames that remain to be checked.
struct CapturedFrames(BTreeMap<String, Vec<u8>>);

impl CapturedFrames {
    /// Asserts that frame `number` holds exactly `message`.
    fn check<M: Message + PartialEq + Debug>(&mut self, number: u32, id: u16, context: u32, message: &M) {
        let prefix = format!("{number:03}_");
        let name = self.0.keys().find(|name| name.starts_with(&prefix)).unwrap().clone();
        assert!(name.ends_with(&format!("x_{}.bin", M::NAME)), "{name} is not {}", M::NAME);
        let mut golden = self.0.remove(&name).unwrap();

        // VPP puts a pointer into the first eight bytes of a header.
        golden[..8].fill(0);
        let payload = &golden[HEADER..];
        // The reply to the handshake goes to a client without an index.
        let client_index = if M::ADDRESSED && M::NAME != SockclntCreateReply::NAME { INDEX } else { 0 };
        let head = MessageHeader { client_index, context };
        assert_eq!(frame::id(payload), Ok(id), "{name}");
        let (found, body) = frame::decode::<M>(payload).unwrap();
        assert_eq!((found, &body), (head, message), "{name}");
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, id, head, message);
        assert_eq!(bytes, golden, "{name}");

        // Every length of a short frame, a thousand of the long one.
        for len in (0..payload.len()).step_by(1 + payload.len() / 1024) {
            assert!(frame::decode::<M>(&payload[..len]).is_err(), "{name} cut at {len}");
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(text: &str) -> Prefix {
    Prefix::host(ip(text))
}

fn web() -> Vip {
    Vip { prefix: host("203.0.113.10"), protocol: 6, port: 443 }
}

fn all() -> Vip {
    Vip::all_ports(host("2001:db8:1::10"))
}

fn dns() -> Vip {
    Vip { prefix: host("203.0.113.11"), protocol: 17, port: 53 }
}

fn dsr() -> Vip {
    Vip { prefix: host("203.0.113.12"), protocol: 6, port: 80 }
}

fn server(vip: Vip, address: &str, weight: u8, num_buckets: u32) -> LbAsV2Details {
    LbAsV2Details { vip, address: ip(address), flags: 1, in_use_since: 0, weight, num_buckets }
}

fn conf(sticky_buckets: u32) -> LbConf {
    let ip6_src = "2001:db8::254".parse().unwrap();
    LbConf { ip4_src: [192, 0, 2, 254].into(), ip6_src, sticky_buckets, flow_timeout: 40 }
}

#[test]
fn captured_frames_are_reproduced() {
    let mut capture = CapturedFrames(frames());
    handshake(&mut capture);
    parameters(&mut capture);
    vips(&mut capture);
    servers(&mut capture);
    dumps(&mut capture);
    route(&mut capture);
    removal(&mut capture);
    command_line(&mut capture);
    assert_eq!(capture.0.keys().collect::<Vec<_>>(), Vec::<&String>::new(), "frames without a check");
}

fn handshake(capture: &mut CapturedFrames) {
    let golden = || FixedString("golden".into());
    capture.check(1, SOCKCLNT_CREATE_ID, 0x1122_3344, &SockclntCreate { name: golden() });

    let reply = frames().remove("002_rx_sockclnt_create_reply.bin").unwrap();
    let (_, reply) = frame::decode::<SockclntCreateReply>(&reply[HEADER..]).unwrap();
    assert_eq!((reply.response, reply.index, reply.table.0.len()), (0, INDEX, 850));
    let row = |id, name: &str| MessageTableEntry { id, name: FixedString(name.into()) };
    assert_eq!(reply.table.0[0], row(615, "mpls_ip_bind_unbind_c7533b32"));
    assert_eq!(reply.table.0[849], row(788, "qos_mark_dump_f9e6675e"));
    let missing: Vec<_> = REQUIRED_MESSAGES
        .iter()
        .map(|signature| table_name(*signature))
        .filter(|name| !reply.table.0.iter().any(|row| row.name.0 == *name))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
    capture.check(2, SOCKCLNT_CREATE_REPLY_ID, 0x1122_3344, &reply);

    capture.check(3, 845, 1, &ShowVersion {});
    let version = ShowVersionReply {
        retval: 0,
        program: FixedString("vpe".into()),
        version: FixedString("26.10-rc0~374-gb575ec2c56d".into()),
        build_date: FixedString("2026-11-22T08:29:54".into()),
        build_directory: FixedString("/usr/src/vpp".into()),
    };
    capture.check(4, 846, 1, &version);
    capture.check(5, 123, 2, &ShowThreads {});
    let main = VppThread {
        id: 0,
        name: FixedString("vpp_main".into()),
        kind: FixedString::default(),
        pid: 19362,
        cpu_id: 1,
        core: 1,
        cpu_socket: 0,
    };
    capture.check(6, 124, 2, &ShowThreadsReply { retval: 0, threads: ThreadList(vec![main]) });
}

fn parameters(capture: &mut CapturedFrames) {
    capture.check(7, 91, 3, &LbConfGet {});
    let defaults = LbConfGetReply {
        retval: 0,
        ip4_src: [255; 4].into(),
        ip6_src: [0xff; 16].into(),
        sticky_buckets: 1024,
        flow_timeout: 40,
    };
    capture.check(8, 92, 3, &defaults);
    capture.check(9, 89, 4, &conf(1024));
    capture.check(10, 90, 4, &LbConfReply { retval: 0 });
    capture.check(11, 89, 5, &conf(1000));
    capture.check(12, 90, 5, &LbConfReply { retval: -70 });
}

fn vips(capture: &mut CapturedFrames) {
    let gre6 = LbAddDelVipV2::add(web(), LbEncapType::Gre6, 1024, true);
    capture.check(13, 95, 6, &gre6);
    capture.check(14, 96, 6, &LbAddDelVipV2Reply { retval: 0 });
    capture.check(15, 95, 7, &gre6);
    capture.check(16, 96, 7, &LbAddDelVipV2Reply { retval: -81 });
    // The captured client sent protocol 0, which VPP replaces by 255.
    let vip = Vip { protocol: 0, ..all() };
    capture.check(17, 95, 8, &LbAddDelVipV2::add(vip, LbEncapType::Gre4, 1024, false));
    capture.check(18, 96, 8, &LbAddDelVipV2Reply { retval: 0 });
    let nat =
        LbAddDelVipV2 { target_port: 5353, ..LbAddDelVipV2::add(dns(), LbEncapType::Nat4, 1024, false) };
    capture.check(19, 95, 9, &nat);
    capture.check(20, 96, 9, &LbAddDelVipV2Reply { retval: 0 });
    let l3dsr = LbAddDelVipV2 { dscp: 7, ..LbAddDelVipV2::add(dsr(), LbEncapType::L3dsr, 65536, false) };
    capture.check(21, 95, 10, &l3dsr);
    capture.check(22, 96, 10, &LbAddDelVipV2Reply { retval: 0 });
}

fn servers(capture: &mut CapturedFrames) {
    capture.check(23, 99, 11, &LbAddDelAsV2::add(web(), ip("2001:db8:2::1"), 100));
    capture.check(24, 100, 11, &LbAddDelAsV2Reply { retval: 0 });
    capture.check(25, 99, 12, &LbAddDelAsV2::add(web(), ip("2001:db8:2::2"), 50));
    capture.check(26, 100, 12, &LbAddDelAsV2Reply { retval: 0 });
    capture.check(27, 99, 13, &LbAddDelAsV2::add(all(), ip("10.0.0.1"), 100));
    capture.check(28, 100, 13, &LbAddDelAsV2Reply { retval: 0 });
    capture.check(29, 99, 14, &LbAddDelAsV2::add(web(), ip("10.0.0.9"), 100));
    capture.check(30, 100, 14, &LbAddDelAsV2Reply { retval: -97 });
    let weight = LbAsSetWeight { vip: web(), address: ip("2001:db8:2::2"), weight: 25, is_flush: true };
    capture.check(31, 101, 15, &weight);
    capture.check(32, 102, 15, &LbAsSetWeightReply { retval: 0 });
    capture.check(33, 103, 16, &LbFlushVip { vip: web() });
    capture.check(34, 104, 16, &LbFlushVipReply { retval: 0 });
}

fn pong() -> ControlPingReply {
    ControlPingReply { retval: 0, client_index: INDEX, pid: 19362 }
}

fn dumps(capture: &mut CapturedFrames) {
    capture.check(35, 105, 17, &LbVipDump::all());
    capture.check(36, 23, 18, &ControlPing {});
    let plain = |vip, encap| LbVipDetails {
        vip,
        encap,
        dscp: 0,
        srv_type: 0,
        target_port: 0,
        flow_table_length: 1024,
    };
    capture.check(37, 106, 17, &plain(web(), LbEncapType::Gre6));
    capture.check(38, 106, 17, &plain(all(), LbEncapType::Gre4));
    // VPP sends the target port byte-swapped.
    capture.check(
        39,
        106,
        17,
        &LbVipDetails { target_port: 5353u16.swap_bytes(), ..plain(dns(), LbEncapType::Nat4) },
    );
    // The code point shows through in the service type, and 65,536 does not fit the length.
    let l3dsr = plain(dsr(), LbEncapType::L3dsr);
    let l3dsr = LbVipDetails { dscp: 7, srv_type: 0x0700_0000, flow_table_length: 0, ..l3dsr };
    capture.check(40, 106, 17, &l3dsr);
    capture.check(41, 24, 18, &pong());

    let [first, second] = [server(web(), "2001:db8:2::1", 100, 812), server(web(), "2001:db8:2::2", 25, 212)];
    capture.check(42, 109, 19, &LbAsV2Dump::all());
    capture.check(43, 23, 20, &ControlPing {});
    capture.check(44, 110, 19, &first);
    capture.check(45, 110, 19, &second);
    capture.check(46, 110, 19, &server(all(), "10.0.0.1", 100, 1024));
    capture.check(47, 24, 20, &pong());

    // Frame 54 filters with family 0 and the address in the last bytes.
    capture.check(54, 109, 23, &LbAsV2Dump::of_vip(&web()));
    capture.check(55, 23, 24, &ControlPing {});
    capture.check(56, 110, 23, &first);
    capture.check(57, 110, 23, &second);
    capture.check(58, 24, 24, &pong());
}

fn route(capture: &mut CapturedFrames) {
    let prefix = host("2001:db8:2::1");
    capture.check(63, 400, 27, &IpRouteLookupV2::exact(prefix));
    let drop = FibPath {
        sw_if_index: u32::MAX,
        table_id: 0,
        rpf_id: 0,
        weight: 1,
        preference: 0,
        kind: 2,
        flags: 0,
        protocol: 1,
        next_hop: [0; 16],
        via_label: 0,
        obj_id: 0,
        classify_table: 0,
        labels: 0,
        label_stack: [0; 112],
    };
    let reply = IpRouteLookupV2Reply {
        retval: 0,
        table_id: 0,
        stats_index: 12,
        prefix,
        source: 18,
        paths: vec![drop],
    };
    capture.check(64, 402, 27, &reply);
}

fn removal(capture: &mut CapturedFrames) {
    capture.check(65, 99, 28, &LbAddDelAsV2::delete(web(), ip("2001:db8:2::2"), true));
    capture.check(66, 100, 28, &LbAddDelAsV2Reply { retval: 0 });
    capture.check(67, 109, 29, &LbAsV2Dump::all());
    capture.check(68, 23, 30, &ControlPing {});
    capture.check(69, 110, 29, &server(web(), "2001:db8:2::1", 100, 1024));
    let ghost = server(web(), "2001:db8:2::2", 25, 0);
    capture.check(70, 110, 29, &LbAsV2Details { flags: 0, in_use_since: 43, ..ghost });
    capture.check(71, 110, 29, &server(all(), "10.0.0.1", 100, 1024));
    capture.check(72, 24, 30, &pong());
    capture.check(73, 95, 31, &LbAddDelVipV2::delete(web()));
    capture.check(74, 96, 31, &LbAddDelVipV2Reply { retval: 0 });
}

fn command_line(capture: &mut CapturedFrames) {
    capture.check(75, 116, 32, &CliInband::new("show lb"));
    let shown =
        "lb_main ip4-src-address: 192.0.2.254 \n ip6-src-address: 2001:db8::254 \n #vips: 5\n #ass: 3\n";
    capture.check(76, 118, 32, &CliInbandReply { retval: 0, output: VarString(shown.into()) });
    capture.check(77, 116, 33, &CliInband::new("show nonsense"));
    let unknown = "show: unknown input `nonsense'\n";
    capture.check(78, 118, 33, &CliInbandReply { retval: -1, output: VarString(unknown.into()) });
    capture.check(81, 17, 0x55, &SockclntDelete { index: INDEX });
    capture.check(82, 18, 0x55, &SockclntDeleteReply { response: 1 });
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        _ = frame::decode::<SockclntCreateReply>(&bytes);
        _ = frame::decode::<ShowThreadsReply>(&bytes);
        _ = frame::decode::<CliInbandReply>(&bytes);
        _ = frame::decode::<LbVipDetails>(&bytes);
        _ = frame::decode::<LbAsV2Details>(&bytes);
        _ = frame::decode::<LbAddDelVipV2>(&bytes);
        _ = frame::decode::<IpRouteLookupV2Reply>(&bytes);
    }

    #[test]
    fn decoding_is_canonical(bytes in proptest::collection::vec(any::<u8>(), 64)) {
        if let Ok((head, message)) = frame::decode::<LbAddDelAsV2>(&bytes) {
            let mut again = Vec::new();
            frame::encode(&mut again, 1, head, &message);
            prop_assert_eq!(frame::decode::<LbAddDelAsV2>(&again[HEADER..]), Ok((head, message)));
        }
    }
}
