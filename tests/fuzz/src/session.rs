//! A whole session with a hostile VPP, over a real socket.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use maglev_vpp::frame;
use maglev_vpp::message::*;
use maglev_vpp::wire::FixedString;
use maglev_vpp::{ClientOptions, VppClient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::FuzzTarget;
use crate::input_parts::{InputParts, of_parts};

pub const SESSION: FuzzTarget =
    FuzzTarget { name: "session", longest: 64 << 10, memory: 4 << 20, seeds, run };

/// Number of the first message in the table. The others follow.
const FIRST: u16 = 100;

struct SessionSocket {
    runtime: tokio::runtime::Runtime,
    listener: tokio::net::UnixListener,
    directory: tempfile::TempDir,
}

thread_local! {
    static SOCKET: SessionSocket = SessionSocket::new();
}

impl SessionSocket {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let directory = tempfile::tempdir().expect("a place for the socket");
        let listener = UnixListener::bind(directory.path().join("api.sock")).expect("a socket");
        listener.set_nonblocking(true).expect("it does not block");
        let listener = {
            let _entered = runtime.enter();
            tokio::net::UnixListener::from_std(listener).expect("it is known to the runtime")
        };
        Self { runtime, listener, directory }
    }
}

/// Input: a flag that corrupts the handshake; then frames: their number in the table, the context, the body.
fn run(input: &[u8]) {
    SOCKET.with(|place| place.runtime.block_on(session(place, input)));
}

async fn session(place: &SessionSocket, input: &[u8]) {
    let mut input = InputParts(input);
    let garbled = input.byte() & 1 == 1;
    let said = if garbled { input.0.to_vec() } else { [handshake(), frames(input)].concat() };
    let path = place.directory.path().join("api.sock");
    let vpp = async {
        let (mut stream, _) = place.listener.accept().await.expect("a client");
        // A client may have closed the connection.
        let _ = stream.write_all(&said).await;
        let _ = stream.shutdown().await;
        // The data stays unread until the client closes, because a reset socket gives another error.
        let mut sink = [0; 4096];
        while let Ok(1..) = stream.read(&mut sink).await {}
    };
    let client = async {
        let limit = Duration::from_secs(600);
        let options = ClientOptions { timeout: limit, ..ClientOptions::default() };
        let Ok(client) = VppClient::connect(&path, "fuzz", options).await else { return };
        assert!(client.version().len() <= 32 * '\u{fffd}'.len_utf8());
        let (vips, servers) = (LbVipDump::all(), LbAsV2Dump::all());
        let command = CliInband::new("show lb vips verbose");
        // In this order, so that the input can predict the contexts.
        let conf = client.request(&LbConfGet {});
        let (vips, servers) = (client.dump(&vips), client.dump(&servers));
        let threads = client.request(&ShowThreads {});
        let shown = client.request(&command);
        let (conf, vips, servers, threads, shown) = tokio::join!(conf, vips, servers, threads, shown);
        for refused in [conf.err(), vips.err(), servers.err(), threads.err(), shown.err()].iter().flatten() {
            assert!(!refused.to_string().is_empty());
        }
    };
    tokio::join!(vpp, client);
}

/// Returns the replies of the handshake: the message table, and VPP's version.
fn handshake() -> Vec<u8> {
    let row = |(id, signature): (u16, &MessageSignature)| MessageTableEntry {
        id,
        name: FixedString(table_name(*signature)),
    };
    let table = MessageTable((FIRST..).zip(REQUIRED_MESSAGES).map(row).collect());
    let mut bytes = Vec::new();
    let welcome = SockclntCreateReply { response: 0, index: 1, table };
    frame::encode(&mut bytes, SOCKCLNT_CREATE_REPLY_ID, MessageHeader::default(), &welcome);
    let version = ShowVersionReply {
        retval: 0,
        program: FixedString("vpe".into()),
        version: FixedString("26.10".into()),
        build_date: FixedString::default(),
        build_directory: FixedString::default(),
    };
    frame::encode(
        &mut bytes,
        message_number(ShowVersionReply::NAME),
        MessageHeader { client_index: 0, context: 1 },
        &version,
    );
    bytes
}

/// Returns the number of a message in the table.
fn message_number(name: &str) -> u16 {
    (FIRST..).zip(REQUIRED_MESSAGES).find(|(_, signature)| signature.0 == name).expect("it is needed").0
}

fn frames(mut input: InputParts<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !input.0.is_empty() {
        let id = FIRST + u16::from(input.byte());
        let context = u32::from(input.byte());
        let body = input.part();
        bytes.extend([0; 8]);
        bytes.extend(u32::try_from(6 + body.len()).expect("a part is small").to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(id.to_be_bytes());
        bytes.extend(context.to_be_bytes());
        bytes.extend(body);
    }
    bytes
}

fn seeds() -> Vec<Vec<u8>> {
    let one = |name: &str, context: u8, body: &[u8]| {
        [&[(message_number(name) - FIRST) as u8, context][..], &of_parts([body])].concat()
    };
    let mut seeds = vec![[&[1][..], &handshake()].concat()];
    for base in 0..4 {
        let mut seed = vec![0];
        seed.extend(one(LbConfGetReply::NAME, base + 1, &[0; 32]));
        seed.extend(one(LbVipDetails::NAME, base + 2, &[0; 48]));
        seed.extend(one(ControlPingReply::NAME, base + 2, &[0; 12]));
        seed.extend(one(LbAsV2Details::NAME, base + 3, &[0; 64]));
        seed.extend(one(ControlPingReply::NAME, base + 3, &[0; 12]));
        seed.extend(one(MemclntKeepalive::NAME, 0, &[0; 4]));
        seed.extend(one(ShowThreadsReply::NAME, base + 4, &[0; 8]));
        seed.extend(one(CliInbandReply::NAME, base + 5, &[0; 8]));
        seeds.push(seed);
    }
    seeds
}
