//! Clients that are idle, too many, too loud or asleep: the others notice nothing.

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

/// The beginning of every HTTP/2 connection: the preface, and settings that are all as they come.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// How many connections a listener has at most.
const LIMIT: usize = 1024;

/// Reads until the server has hung up.
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

/// The frames that the server has sent so far, up to and with the acknowledgement of our settings.
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
fn whoever_does_not_begin_to_speak_is_let_go() {
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
    // The beginning of a TLS record.
    halfway.write_all(&[22, 3, 1, 2, 0]).unwrap();
    until_hung_up(halfway);
    until_hung_up(tcp(&stage));
}

#[test]
fn a_thousand_idle_connections_stop_nobody() {
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
    // The first to come has not been used for longest; who has a call under way is not idle.
    until_hung_up(&by_tcp[0]);
    until_hung_up(&by_unix[0]);
    stage.reload("{}");
    let event = stage.maglevd.wait(watching.message()).unwrap();
    assert!(event.is_some());
    drop((by_tcp, by_unix));
}

/// An idle connection that the server has seen.
fn greet_by_tcp(stage: &Stage) -> TcpStream {
    let mut stream = tcp(stage);
    stream.write_all(GREETING).unwrap();
    greeted(&stream);
    stream
}

#[test]
fn a_request_of_100_megabytes_is_refused() {
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
fn subscribers_that_sleep_disturb_nobody() {
    let stage = Stage::new("{}");
    let request = WatchEventsRequest {
        kinds: [EventKind::Backend, EventKind::Log].map(i32::from).to_vec(),
        log_level: LogLevel::Trace.into(),
    };
    let subscribe = |channel| {
        let mut client = MaglevClient::new(channel);
        stage.maglevd.wait(client.watch_events(request.clone())).unwrap().into_inner()
    };
    // None of these reads on; the last one's program is not even there to hear that it should.
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
