//! Idle, excessive, oversized and stalled clients do not affect other clients.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use maglev_lab::PATIENCE;
use maglev_lab::hostile_client::HostileClient;
use maglev_proto::v1::maglev_client::MaglevClient;
use maglev_proto::v1::{EventKind, GetBackendRequest, LogLevel, WatchEventsRequest};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::{ApiFixture, TlsFiles, check_answers};

/// HTTP/2 connection preface, followed by an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// Maximum number of connections per listener.
const LIMIT: usize = 1024;

/// Reads until the server closes the connection.
fn read_until_closed(mut stream: impl Read) {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

fn tcp(fixture: &ApiFixture) -> TcpStream {
    let stream = TcpStream::connect(fixture.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn unix(fixture: &ApiFixture) -> UnixStream {
    let stream = UnixStream::connect(fixture.maglevd.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

async fn channel(fixture: &ApiFixture) -> Channel {
    Endpoint::from_shared(format!("http://{}", fixture.address)).unwrap().connect().await.unwrap()
}

/// Reads the server's frames up to the acknowledgement of our SETTINGS.
fn read_until_settings_ack(mut stream: &TcpStream) {
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
    let fixture = ApiFixture::new("{}");
    let mut halfway = tcp(&fixture);
    halfway.write_all(&PREFACE[..10]).unwrap();
    let silent = (tcp(&fixture), unix(&fixture));
    read_until_closed(halfway);
    read_until_closed(silent.0);
    read_until_closed(silent.1);

    let files = TlsFiles::new();
    let fixture = ApiFixture::new(files.api(""));
    let mut halfway = tcp(&fixture);
    // Beginning of a TLS record.
    halfway.write_all(&[22, 3, 1, 2, 0]).unwrap();
    read_until_closed(halfway);
    read_until_closed(tcp(&fixture));
}

#[test]
fn idle_connections_are_evicted_for_new_ones() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).unwrap();
    let fixture = ApiFixture::new("{}");
    let busy = fixture.maglevd.wait(channel(&fixture));
    let request = WatchEventsRequest { kinds: vec![EventKind::Log.into()], log_level: LogLevel::Info.into() };
    let mut watching =
        fixture.maglevd.wait(MaglevClient::new(busy).watch_events(request)).unwrap().into_inner();

    let by_tcp: Vec<_> = (0..LIMIT + 100).map(|_| open_idle_connection(&fixture)).collect();
    let by_unix: Vec<_> = (0..LIMIT + 100)
        .map(|_| {
            let mut stream = unix(&fixture);
            stream.write_all(PREFACE).unwrap();
            stream
        })
        .collect();
    fixture.maglevd.wait(async {
        check_answers(channel(&fixture).await).await.unwrap();
        let socket = format!("unix:{}", fixture.maglevd.socket().display());
        check_answers(Endpoint::from_shared(socket).unwrap().connect().await.unwrap()).await.unwrap();
    });
    // The first connection is the least recently used. A connection with a call in progress is not idle.
    read_until_closed(&by_tcp[0]);
    read_until_closed(&by_unix[0]);
    fixture.reload("{}");
    let event = fixture.maglevd.wait(watching.message()).unwrap();
    assert!(event.is_some());
    drop((by_tcp, by_unix));
}

/// Opens an idle connection and waits for the server's handshake.
fn open_idle_connection(fixture: &ApiFixture) -> TcpStream {
    let mut stream = tcp(fixture);
    stream.write_all(PREFACE).unwrap();
    read_until_settings_ack(&stream);
    stream
}

#[test]
fn oversized_request_is_rejected() {
    let fixture = ApiFixture::new("{}");
    let name = "x".repeat(100 << 20);
    fixture.maglevd.wait(async {
        let mut client = MaglevClient::new(channel(&fixture).await);
        let status = client.get_backend(GetBackendRequest { name }).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::ResourceExhausted, "requests are limited to 1 MiB")
        );
        check_answers(channel(&fixture).await).await.unwrap();
    });
}

#[test]
fn stalled_subscribers_do_not_block_others() {
    let fixture = ApiFixture::new("{}");
    let request = WatchEventsRequest {
        kinds: [EventKind::Backend, EventKind::Log].map(i32::from).to_vec(),
        log_level: LogLevel::Trace.into(),
    };
    let subscribe = |channel| {
        let mut client = MaglevClient::new(channel);
        fixture.maglevd.wait(client.watch_events(request.clone())).unwrap().into_inner()
    };
    // None of these clients reads any further. The last one is a stopped process.
    let asleep: Vec<_> = (0..50).map(|_| subscribe(fixture.maglevd.wait(channel(&fixture)))).collect();
    let server = format!("unix:{}", fixture.maglevd.socket().display());
    let mut maglevc = std::process::Command::new(maglev_lab::programs::program("maglevc").unwrap());
    let stopped = maglev_lab::process::Process::spawn(
        "maglevc",
        maglevc.args(["--server", &server, "watch", "events"]),
    );
    stopped.signal(Signal::SIGSTOP);

    let mut awake = subscribe(fixture.maglevd.wait(channel(&fixture)));
    for _ in 0..20 {
        fixture.reload("{}");
        fixture.maglevd.wait(async {
            let is_reload =
                |event| matches!(event, maglev_proto::v1::watch_events_response::Event::Reload(_));
            while !awake.message().await.unwrap().unwrap().event.is_some_and(is_reload) {}
            check_answers(channel(&fixture).await).await.unwrap();
        });
    }
    drop(asleep);
}

#[test]
fn untaken_answers_end_their_connection() {
    let fixture = ApiFixture::new("{}");
    for method in ["ListBackends", "GetVersion", "CheckConfig"] {
        let mut client = HostileClient::connect(fixture.address).unwrap();
        client.call(method, &[]).unwrap();
        client.wait_until_closed();
    }
    fixture.maglevd.wait(async { check_answers(channel(&fixture).await).await.unwrap() });
}
