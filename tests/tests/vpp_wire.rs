//! VPP's behaviour towards non-conforming clients, byte by byte. Requests out of bounds go to the simulator only, all else also to the
//! real VPP in `VPP_BIN`.

#![allow(clippy::unwrap_used, reason = "a test may fail at once")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use maglev_lab::dataplane::Vpp;
use maglev_lab::programs::program;
use maglev_lab::uninterrupted;
use maglev_vpp::frame::{self, FrameSplitter};
use maglev_vpp::message::*;
use maglev_vpp::wire::FixedString;
use maglev_vppsim::VppSimulator;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LONG: Duration = Duration::from_secs(10);

/// A client that sends arbitrary frames.
struct RawClient {
    stream: UnixStream,
    splitter: FrameSplitter,
    index: u32,
    ids: HashMap<String, u16>,
}

impl RawClient {
    fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut raw = Self { stream, splitter: FrameSplitter::default(), index: 0, ids: HashMap::new() };
        let mut hello = Vec::new();
        let head = MessageHeader { client_index: 0, context: 7 };
        frame::encode(
            &mut hello,
            SOCKCLNT_CREATE_ID,
            head,
            &SockclntCreate { name: FixedString("raw".into()) },
        );
        raw.send(&hello);
        let (head, welcome) = raw.receive::<SockclntCreateReply>().unwrap();
        assert_eq!((head.context, welcome.response), (7, 0));
        raw.index = welcome.index;
        raw.ids = welcome.table.0.into_iter().map(|row| (row.name.0, row.id)).collect();
        raw
    }

    fn id<M: Message>(&self) -> u16 {
        self.ids[&table_name((M::NAME, M::CRC))]
    }

    fn frame<M: Message>(&self, client_index: u32, context: u32, message: &M) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, self.id::<M>(), MessageHeader { client_index, context }, message);
        bytes
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Returns the next payload, or `None` when VPP disconnects.
    fn payload(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(payload) = self.splitter.next_payload().unwrap() {
                return Some(payload.to_vec());
            }
            let mut buffer = [0; 4096];
            let Ok(read @ 1..) = uninterrupted(|| self.stream.read(&mut buffer)) else { return None };
            self.splitter.read_buffer().extend(&buffer[..read]);
        }
    }

    fn receive<M: Message>(&mut self) -> Option<(MessageHeader, M)> {
        self.payload().map(|payload| frame::decode(&payload).unwrap())
    }

    /// Sends a ping and asserts that its reply is the next message.
    fn expect_silence(&mut self) {
        let ping = self.frame(self.index, 0xfeed, &ControlPing {});
        self.send(&ping);
        let (head, _) = self.receive::<ControlPingReply>().unwrap();
        assert_eq!(head.context, 0xfeed);
    }
}

fn web() -> Vip {
    Vip { prefix: Prefix::host(IpAddr::from([203, 0, 113, 10])), protocol: 6, port: 443 }
}

fn add_web() -> LbAddDelVipV2 {
    LbAddDelVipV2::add(web(), LbEncapType::Gre4, 1024, false)
}

#[test]
fn malformed_messages_get_no_answer() {
    let vpp = Vpp::start().unwrap();
    let mut raw = RawClient::connect(&vpp.api_socket());
    let whole = raw.frame(raw.index, 1, &add_web());
    let mut short = whole.clone();
    short.pop();
    short[11] -= 1;
    raw.send(&short);
    raw.expect_silence();

    let mut unknown = whole.clone();
    unknown[16..18].fill(0xff);
    raw.send(&unknown);
    raw.expect_silence();

    let mut cut_text = raw.frame(raw.index, 1, &CliInband::new("show version"));
    cut_text[29] += 1;
    raw.send(&cut_text);
    raw.expect_silence();

    raw.send(&[0; frame::HEADER]);
    raw.expect_silence();
}

#[test]
fn padded_and_fragmented_messages_are_accepted() {
    let vpp = Vpp::start().unwrap();
    let mut raw = RawClient::connect(&vpp.api_socket());
    let mut long = raw.frame(raw.index, 1, &add_web());
    long.extend([0xaa; 5]);
    long[11] += 5;
    for byte in long {
        raw.send(&[byte]);
    }
    let (head, reply) = raw.receive::<LbAddDelVipV2Reply>().unwrap();
    assert_eq!((head.context, reply.retval), (1, 0));
}

#[test]
fn answer_goes_to_client_in_message() {
    let vpp = Vpp::start().unwrap();
    let [mut left, mut right] =
        [RawClient::connect(&vpp.api_socket()), RawClient::connect(&vpp.api_socket())];
    assert_ne!(left.index, right.index);
    let astray = left.frame(right.index, 5, &add_web());
    left.send(&astray);
    let (head, reply) = right.receive::<LbAddDelVipV2Reply>().unwrap();
    assert_eq!((head.context, reply.retval), (5, 0));
    left.expect_silence();

    // Executed, but answered to no client.
    let to_nobody = left.frame(0, 6, &LbAddDelVipV2::delete(web()));
    left.send(&to_nobody);
    left.expect_silence();
    let again = left.frame(left.index, 7, &LbAddDelVipV2::delete(web()));
    left.send(&again);
    assert_eq!(left.receive::<LbAddDelVipV2Reply>().unwrap().1.retval, -6);
}

#[test]
fn client_slots_are_reused_lifo() {
    let vpp = Vpp::start().unwrap();
    // Earlier connections close asynchronously.
    let settle = || std::thread::sleep(Duration::from_millis(100));
    settle();
    let connect = || RawClient::connect(&vpp.api_socket());
    let mut clients: Vec<_> = (0..4).map(|_| connect()).collect();
    let first = clients[0].index;
    for n in [1, 2] {
        let bye = SockclntDelete { index: clients[n].index };
        let bye = clients[n].frame(clients[n].index, 1, &bye);
        clients[n].send(&bye);
        assert_eq!(clients[n].receive::<SockclntDeleteReply>().unwrap().1.response, 1);
        assert_eq!(clients[n].payload(), None);
        settle();
    }
    let next = [connect(), connect(), connect()].map(|raw| (raw.index - first, raw));
    assert_eq!(next.each_ref().map(|(slot, _)| *slot), [2, 1, 4]);
}

#[test]
fn repeated_handshake_is_accepted() {
    let vpp = Vpp::start().unwrap();
    let mut raw = RawClient::connect(&vpp.api_socket());
    let hello = raw.frame(0, 9, &SockclntCreate { name: FixedString("again".into()) });
    raw.send(&hello);
    let (head, welcome) = raw.receive::<SockclntCreateReply>().unwrap();
    assert_eq!((head.context, welcome.index), (9, raw.index));
}

fn assert_ends<M: Message + Debug>(excessive: &[M]) {
    let dir = tempfile::tempdir().unwrap();
    let sim = VppSimulator::start(dir.path()).unwrap();
    let mut raw = RawClient::connect(&sim.api_socket());
    for message in excessive {
        let bytes = raw.frame(raw.index, 1, message);
        raw.send(&bytes);
    }
    // Every message except the last is answered.
    let answers = std::iter::from_fn(|| raw.payload()).count();
    assert!(answers < excessive.len(), "{excessive:?}");
    assert!(sim.wait_for_crash(LONG).is_some());
    assert!(UnixStream::connect(dir.path().join("api.sock")).is_err());
}

#[test]
fn messages_out_of_bounds_end_simulator() {
    let long = Vip { prefix: Prefix { len: 128, ..web().prefix }, ..web() };
    assert_ends(&[LbAddDelVipV2::add(long, LbEncapType::Gre4, 1024, false)]);
    assert_ends(&[add_web(), LbAddDelVipV2::add(Vip { port: 1, ..web() }, LbEncapType::Gre4, 0, false)]);
    assert_ends(&[LbFlushVip { vip: long }]);
}

#[test]
fn foreign_client_index_ends_simulator() {
    let dir = tempfile::tempdir().unwrap();
    let sim = VppSimulator::start(dir.path()).unwrap();
    let [mut left, mut right] =
        [RawClient::connect(&sim.api_socket()), RawClient::connect(&sim.api_socket())];
    let bye = left.frame(left.index, 1, &SockclntDelete { index: right.index });
    left.send(&bye);
    assert_eq!(left.receive::<SockclntDeleteReply>().unwrap().1.response, 1);
    assert_eq!(left.payload(), None);
    assert_eq!(sim.crash_reason(), None);
    let ping = right.frame(right.index, 2, &ControlPing {});
    right.send(&ping);
    assert_eq!(right.payload(), None);
    assert!(sim.wait_for_crash(LONG).is_some());
}

#[test]
#[should_panic(expected = "the simulated VPP has crashed")]
fn unexpected_end_fails_the_test() {
    let dir = tempfile::tempdir().unwrap();
    let sim = VppSimulator::start(dir.path()).unwrap();
    let mut raw = RawClient::connect(&sim.api_socket());
    let excessive = raw.frame(raw.index, 1, &LbAddDelVipV2::add(web(), LbEncapType::Gre4, 0, false));
    raw.send(&excessive);
    assert_eq!(raw.payload(), None);
}

#[test]
fn vppsim_reports_readiness_and_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Command::new(program("vppsim").unwrap())
        .arg("--dir")
        .arg(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.starts_with("vppsim is ready at "), "{ready}");
    RawClient::connect(&dir.path().join("api.sock")).expect_silence();
    kill(Pid::from_raw(process.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));

    let mut process = Command::new(program("vppsim").unwrap())
        .arg("--dir")
        .arg(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let mut raw = RawClient::connect(&dir.path().join("api.sock"));
    let excessive = raw.frame(raw.index, 1, &LbAddDelVipV2::add(web(), LbEncapType::Gre4, 0, false));
    raw.send(&excessive);
    assert_eq!(process.wait().unwrap().code(), Some(134));
    let mut last_words = String::new();
    process.stderr.unwrap().read_to_string(&mut last_words).unwrap();
    assert!(last_words.starts_with("vppsim: crashed: "), "{last_words}");
}
