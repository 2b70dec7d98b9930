//! Idle, excessive, oversized and stalled clients do not affect other clients.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use maglev_lab::PATIENCE;
use maglev_proto::v1::maglev_client::MaglevClient;
use maglev_proto::v1::{EventKind, GetBackendRequest, LogLevel, WatchEventsRequest};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::{Files, Stage, answers};

/// HTTP/2 connection preface, followed by an empty SETTINGS frame.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// Maximum number of connections per listener.
const LIMIT: usize = 1024;

/// Reads until the server closes the connection.
fn until_hung_up(mut stream: impl Read) {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

fn tcp(stage: &Stage) -> TcpStream {
    let stream = TcpStream::connect(stage.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn unix(stage: &Stage) -> UnixStream {
    let stream = UnixStream::connect(stage.maglevd.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

async fn channel(stage: &Stage) -> Channel {
    Endpoint::from_shared(format!("http://{}", stage.address)).unwrap().connect().await.unwrap()
}

/// Reads the server's frames up to the acknowledgement of our SETTINGS.
fn greeted(mut stream: &TcpStream) {
    let mut stream_says = |length| {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    };
    loop {
        let head = stream_says(9);
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        stream_says(length);
        if (head[3], head[4]) == (4, 1) {
            return;
        }
    }
}

#[test]
fn silent_clients_are_disconnected() {
    let stage = Stage::new("{}");
    let mut halfway = tcp(&stage);
    halfway.write_all(&GREETING[..10]).unwrap();
    let silent = (tcp(&stage), unix(&stage));
    until_hung_up(halfway);
    until_hung_up(silent.0);
    until_hung_up(silent.1);

    let files = Files::new();
    let stage = Stage::new(files.api(""));
    let mut halfway = tcp(&stage);
    // Beginning of a TLS record.
    halfway.write_all(&[22, 3, 1, 2, 0]).unwrap();
    until_hung_up(halfway);
    until_hung_up(tcp(&stage));
}

#[test]
fn idle_connections_are_evicted_for_new_ones() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).unwrap();
    let stage = Stage::new("{}");
    let busy = stage.maglevd.wait(channel(&stage));
    let request = WatchEventsRequest { kinds: vec![EventKind::Log.into()], log_level: LogLevel::Info.into() };
    let mut watching =
        stage.maglevd.wait(MaglevClient::new(busy).watch_events(request)).unwrap().into_inner();

    let by_tcp: Vec<_> = (0..LIMIT + 100).map(|_| greet_by_tcp(&stage)).collect();
    let by_unix: Vec<_> = (0..LIMIT + 100)
        .map(|_| {
            let mut stream = unix(&stage);
            stream.write_all(GREETING).unwrap();
            stream
        })
        .collect();
    stage.maglevd.wait(async {
        answers(channel(&stage).await).await.unwrap();
        let socket = format!("unix:{}", stage.maglevd.socket().display());
        answers(Endpoint::from_shared(socket).unwrap().connect().await.unwrap()).await.unwrap();
    });
    // The first connection is the least recently used. A connection with a call in progress is not idle.
    until_hung_up(&by_tcp[0]);
    until_hung_up(&by_unix[0]);
    stage.reload("{}");
    let event = stage.maglevd.wait(watching.message()).unwrap();
    assert!(event.is_some());
    drop((by_tcp, by_unix));
}

/// Opens an idle connection and waits for the server's handshake.
fn greet_by_tcp(stage: &Stage) -> TcpStream {
    let mut stream = tcp(stage);
    stream.write_all(GREETING).unwrap();
    greeted(&stream);
    stream
}

#[test]
fn oversized_request_is_rejected() {
    let stage = Stage::new("{}");
    let name = "x".repeat(100 << 20);
    stage.maglevd.wait(async {
        let mut client = MaglevClient::new(channel(&stage).await);
        let status = client.get_backend(GetBackendRequest { name }).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::ResourceExhausted, "a request may have at most 1 MiB")
        );
        answers(channel(&stage).await).await.unwrap();
    });
}

#[test]
fn stalled_subscribers_do_not_block_others() {
    let stage = Stage::new("{}");
    let request = WatchEventsRequest {
        kinds: [EventKind::Backend, EventKind::Log].map(i32::from).to_vec(),
        log_level: LogLevel::Trace.into(),
    };
    let subscribe = |channel| {
        let mut client = MaglevClient::new(channel);
        stage.maglevd.wait(client.watch_events(request.clone())).unwrap().into_inner()
    };
    // None of these clients reads any further. The last one is a stopped process.
    let asleep: Vec<_> = (0..50).map(|_| subscribe(stage.maglevd.wait(channel(&stage)))).collect();
    let server = format!("unix:{}", stage.maglevd.socket().display());
    let mut maglevc = std::process::Command::new(maglev_lab::programs::program("maglevc").unwrap());
    let stopped = maglev_lab::process::Process::spawn(
        "maglevc",
        maglevc.args(["--server", &server, "watch", "events"]),
    );
    stopped.signal(Signal::SIGSTOP);

    let mut awake = subscribe(stage.maglevd.wait(channel(&stage)));
    for _ in 0..20 {
        stage.reload("{}");
        stage.maglevd.wait(async {
            let is_reload =
                |event| matches!(event, maglev_proto::v1::watch_events_response::Event::Reload(_));
            while !awake.message().await.unwrap().unwrap().event.is_some_and(is_reload) {}
            answers(channel(&stage).await).await.unwrap();
        });
    }
    drop(asleep);
}
