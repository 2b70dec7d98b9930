//! Messages from VPP: frames, every message in them, and the one text of its command line.

use std::fmt::Debug;
use std::net::IpAddr;

use maglev_vpp::cli::{ShownServer, ShownVip, parse_vips};
use maglev_vpp::frame::{self, FrameSplitter, HEADER};
use maglev_vpp::message::*;

use crate::FuzzTarget;
use crate::input_parts::{InputParts, of_parts, pieces};

/// The buffer of a read, twice as a vector doubles, and the payloads.
pub const FRAMES: FuzzTarget =
    FuzzTarget { name: "frames", longest: 128 << 10, memory: 4 << 20, seeds, run: run_frames };

pub const LISTING: FuzzTarget =
    FuzzTarget { name: "listing", longest: 64 << 10, memory: 8 << 20, seeds: listings, run: run_listing };

/// Input: the cuts of the stream; the stream.
fn run_frames(input: &[u8]) {
    let mut input = InputParts(input);
    let cuts = input.part();
    let whole = payloads(&[input.0]);
    assert_eq!(whole, payloads(&pieces(input.0, cuts)), "in pieces");
    for payload in &whole.0 {
        let _ = frame::id(payload);
        every_message(payload);
    }
}

/// Returns the payloads of a stream, and true if the stream is broken.
fn payloads(stream: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let mut splitter = FrameSplitter::default();
    let mut payloads = Vec::new();
    for piece in stream {
        splitter.read_buffer().extend_from_slice(piece);
        loop {
            match splitter.next_payload() {
                Ok(Some(payload)) => payloads.push(payload.to_vec()),
                Ok(None) => break,
                Err(_) => return (payloads, true),
            }
        }
    }
    (payloads, false)
}

macro_rules! each {
    ($payload:ident: $($message:ty),* $(,)?) => { $(assert_round_trip::<$message>($payload);)* };
}

fn every_message(payload: &[u8]) {
    each!(payload: SockclntCreate, SockclntCreateReply, SockclntDelete, SockclntDeleteReply);
    each!(payload: MemclntKeepalive, MemclntKeepaliveReply, ControlPing, ControlPingReply);
    each!(payload: ShowVersion, ShowVersionReply, ShowThreads, ShowThreadsReply, CliInband, CliInbandReply);
    each!(payload: LbConf, LbConfReply, LbConfGet, LbConfGetReply, LbAddDelVipV2, LbAddDelVipV2Reply);
    each!(payload: LbAddDelAsV2, LbAddDelAsV2Reply, LbAsSetWeight, LbAsSetWeightReply);
    each!(payload: LbFlushVip, LbFlushVipReply, LbVipDump, LbVipDetails, LbAsV2Dump, LbAsV2Details);
    each!(payload: IpRouteLookupV2, IpRouteLookupV2Reply, SwInterfaceDump, SwInterfaceDetails);
}

/// A decoded message must encode to the same bytes, except for names that were not UTF-8.
fn assert_round_trip<M: Message + Debug + PartialEq>(payload: &[u8]) {
    let written = |(head, message): &(MessageHeader, M)| {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, 1, *head, message);
        bytes.split_off(HEADER)
    };
    let Ok(first) = frame::decode::<M>(payload) else { return };
    let bytes = written(&first);
    let second = frame::decode::<M>(&bytes).expect("what was written is read");
    let garbled = |read: &(MessageHeader, M)| format!("{read:?}").contains('\u{fffd}');
    if !garbled(&first) && !garbled(&second) {
        assert_eq!(written(&second), bytes, "{}", M::NAME);
    }
}

/// A parsed listing is bounded by its text, and prints and parses to the same value.
fn run_listing(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let found = parse_vips(&text);
    let servers: usize = found.iter().map(|vip| vip.servers.len()).sum();
    assert!(found.len() + servers <= text.lines().count());
    assert_eq!(parse_vips(&render_listing(&found)), found);
}

fn render_listing(vips: &[ShownVip]) -> String {
    let server = |server: &ShownServer| {
        let ShownServer { address, flows, index, in_use } = server;
        let used = if *in_use { "used" } else { " removed" };
        format!("    {address} weight:1 buckets:2 flows:{flows} dpo:{index} {used}\n")
    };
    let one = |shown: &ShownVip| {
        let ShownVip { vip: Vip { prefix, protocol, port }, index, src_ip_sticky, servers } = shown;
        let sticky = if *src_ip_sticky { " src_ip_sticky" } else { "" };
        let servers: String = servers.iter().map(server).collect();
        format!(
            " ip4-gre4 [{index}] {}/{}{sticky}\n  protocol:{protocol} port:{port}\n{servers}",
            prefix.address, prefix.len
        )
    };
    vips.iter().map(one).collect()
}

fn seeds() -> Vec<Vec<u8>> {
    let mut stream = Vec::new();
    let vip = Vip { prefix: Prefix::host(IpAddr::from([203, 0, 113, 10])), protocol: 6, port: 443 };
    let head = MessageHeader { client_index: 1, context: 2 };
    frame::encode(&mut stream, 20, head, &ControlPingReply { retval: 0, client_index: 1, pid: 2 });
    frame::encode(&mut stream, 21, head, &LbAddDelVipV2::add(vip, LbEncapType::Gre4, 1024, true));
    frame::encode(&mut stream, 22, head, &LbAddDelAsV2::add(vip, IpAddr::from([192, 0, 2, 1]), 100));
    frame::encode(&mut stream, 23, head, &LbAsV2Dump::of_vip(&vip));
    frame::encode(&mut stream, 24, head, &CliInband::new("show lb vips verbose"));
    vec![[of_parts([[3, 16, 17, 40]]), stream].concat()]
}

fn listings() -> Vec<Vec<u8>> {
    let listing = " ip4-gre4 [1] 203.0.113.1/32 src_ip_sticky
  new_size:1024
  protocol:17 port:80
  counters:
    packet from existing sessions: 9
  #as:2
    10.0.2.9 weight:100 buckets:674 flows:1 dpo:16 used
    10.0.2.8 weight:50 buckets:350 flows:0 dpo:17  removed

 ip6-gre6 [2] 2001:db8::1/128 removed
  #as:1
    2001:db8:1::9 weight:100 buckets:1024 flows:0 dpo:18  removed

 ip4-nat4 [5] 203.0.113.4/32
  protocol:6 port:53
  type:clusterip port:13568 target_port:5353  counters:
";
    vec![listing.as_bytes().to_vec()]
}
