use std::io::{Read, Write};
use std::num::NonZeroU32;
use std::sync::mpsc::{Receiver, Sender, channel};

use maglev_ipc::HttpCheck;

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn keeping(address: SocketAddr, every: u32) -> Check {
    let mut check = super::http::get(address);
    if let ProbeKind::Http { http, .. } = &mut check.probe {
        http.keep_alive = NonZeroU32::new(every);
    }
    check
}

/// Returns a check with keep-alive whose responses never pass. Only passes give a latency estimate, so its probes never
/// overlap, even on a slow host, and never need a second connection.
fn never_overlapping(address: SocketAddr, every: u32) -> Check {
    let mut check = keeping(address, every);
    if let ProbeKind::Http { http, .. } = &mut check.probe {
        http.codes = vec![(204, 204)];
    }
    check
}

/// Reads a complete request. Returns false at the end of the connection.
pub fn request(stream: &mut TcpStream) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Starts a server that calls `answer` for every request, with its number on the connection, until it returns false. Sends
/// the number of requests of each ended connection.
fn server(
    answer: impl Fn(&mut TcpStream, usize) -> bool + Clone + Send + 'static,
) -> (SocketAddr, Receiver<usize>) {
    let (sender, counts) = channel();
    let address = serve(move |stream| {
        let (answer, sender) = (answer.clone(), sender.clone());
        std::thread::spawn(move || converse(stream, &answer, &sender));
    });
    (address, counts)
}

fn converse(mut stream: TcpStream, answer: &impl Fn(&mut TcpStream, usize) -> bool, counts: &Sender<usize>) {
    let mut count = 0;
    while request(&mut stream) {
        count += 1;
        if !answer(&mut stream, count) {
            break;
        }
    }
    drop(stream);
    // The test may be over.
    let _ = counts.send(count);
}

fn always(bytes: &'static [u8]) -> impl Fn(&mut TcpStream, usize) -> bool + Clone + Send + 'static {
    move |stream, _| stream.write_all(bytes).is_ok()
}

/// Returns code and detail of the first probes of a check.
fn verdicts(check: Check, count: usize) -> Vec<(OutcomeCode, String)> {
    let (mut controller, _thread) = spawn();
    controller.greet();
    assert_eq!(controller.commit(1, &[(1, check)]), []);
    let mut found = Vec::new();
    while found.len() < count {
        found.extend(controller.outcomes().into_iter().map(|o| (o.code, o.detail.to_string())));
    }
    found.truncate(count);
    found
}

fn assert_all_pass(check: Check, count: usize) {
    assert_eq!(verdicts(check, count), vec![(OutcomeCode::L7Ok, "HTTP 200".to_owned()); count]);
}

/// Asserts that every probe of a [`never_overlapping`] check got a response.
fn assert_all_answered(check: Check, count: usize) {
    assert_eq!(verdicts(check, count), vec![(OutcomeCode::L7Sts, "HTTP 200".to_owned()); count]);
}

/// Returns the first request counts of a server.
fn take(counts: &Receiver<usize>, count: usize) -> Vec<usize> {
    let stuck = Duration::from_millis(STUCK_MS.into());
    (0..count).map(|_| counts.recv_timeout(stuck).expect("no connection has ended")).collect()
}

/// Sends a set with this interval.
pub fn commit_at(controller: &mut TestController, interval: Duration, checks: &[(u32, Check)]) {
    controller.send(&ToProber::Begin { generation: 1 });
    controller.send_checks(interval, checks);
    controller.send(&ToProber::Commit { generation: 1 });
    assert_eq!(controller.until_committed(1), []);
}

#[test]
fn connection_serves_configured_number_of_probes() {
    for answer in [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (address, counts) = server(always(answer));
        assert_all_answered(never_overlapping(address, 5), 21);
        assert_eq!(take(&counts, 4), [5; 4]);
    }
}

#[test]
fn keep_alive_request_has_no_close_header() {
    let (sender, receiver) = channel();
    let address = serve(move |mut stream| {
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).unwrap();
        sender.send(String::from_utf8_lossy(&request[..length]).into_owned()).unwrap();
    });
    probe(keeping(address, 5));
    let request = receiver.recv().unwrap().to_ascii_lowercase();
    assert!(
        request.ends_with("accept-encoding: identity\r\n\r\n") && !request.contains("connection"),
        "{request}"
    );
}

#[test]
fn ambiguous_framing_closes_connection() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"[..],
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nok",
    ] {
        let (address, counts) = server(always(answer));
        assert_all_pass(keeping(address, 5), 4);
        assert_eq!(take(&counts, 3), [1; 3]);
    }
}

#[test]
fn unrequested_bytes_close_idle_connection() {
    let (address, counts) = server(|stream, _| {
        stream.set_nodelay(true).unwrap();
        // The first write decides the verdict; the second may arrive before or after it.
        stream.write_all(OK).is_ok() && stream.write_all(OK).is_ok()
    });
    let (mut controller, _thread) = spawn();
    controller.greet();
    assert_eq!(controller.commit(1, &[(1, keeping(address, 1000))]), []);
    assert_eq!(controller.outcome(1).code, OutcomeCode::L7Ok);
    assert_eq!(take(&counts, 1)[0], 1);
}

#[test]
fn close_between_probes_is_no_failure() {
    let (address, counts) = server(|stream, count| stream.write_all(OK).is_ok() && count < 3);
    assert_all_answered(never_overlapping(address, 1000), 10);
    assert_eq!(take(&counts, 3), [3; 3]);
}

#[test]
fn close_during_request_is_no_failure() {
    let close = |_: &mut TcpStream| {};
    let reset = |stream: &mut TcpStream| {
        socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
    };
    let announce = |stream: &mut TcpStream| {
        stream.write_all(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n").unwrap();
    };
    for end in [close as fn(&mut TcpStream), reset, announce] {
        let (address, counts) = server(move |stream, count| {
            if count == 3 {
                end(stream);
                return false;
            }
            stream.write_all(OK).is_ok()
        });
        assert_all_answered(never_overlapping(address, 1000), 10);
        assert_eq!(take(&counts, 4), [3; 4]);
    }
}

#[test]
fn restarted_probes_are_counted() {
    let (address, _counts) = server(|stream, count| count < 3 && stream.write_all(OK).is_ok());
    let (mut controller, _thread) = spawn();
    controller.greet();
    controller.commit(1, &[(1, keeping(address, 1000))]);
    let stats = controller.stats(|stats| stats.connections_retried > 0);
    assert!(stats.connections_retried <= stats.probes, "{stats:?}");
}

#[test]
fn close_of_new_connection_is_failure() {
    let (address, _counts) = server(|_, _| false);
    let expected = (OutcomeCode::L7Rsp, "connection closed before an answer".to_owned());
    assert_eq!(verdicts(keeping(address, 1000), 3), [expected.clone(), expected.clone(), expected]);
    let (address, _counts) =
        server(|stream, _| stream.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").is_ok());
    assert_eq!(probe(keeping(address, 1000)), (OutcomeCode::L7Sts, "HTTP 408".to_owned()));
}

#[test]
fn partial_response_on_kept_connection_fails() {
    let (address, _counts) = server(|stream, count| {
        let _ = stream.write_all(if count == 1 { OK } else { b"HTTP/1.1 2" });
        count == 1
    });
    let found = verdicts(keeping(address, 1000), 4);
    let codes: Vec<_> = found.iter().map(|(code, _)| *code).collect();
    assert_eq!(
        codes,
        [OutcomeCode::L7Ok, OutcomeCode::L7Rsp, OutcomeCode::L7Ok, OutcomeCode::L7Rsp],
        "{found:?}"
    );
}

#[test]
fn late_body_is_awaited_until_next_probe() {
    let (verdict, reported) = channel();
    let reported = std::sync::Arc::new(std::sync::Mutex::new(reported));
    let (address, counts) = server(move |stream, count| {
        let sent = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").is_ok();
        // The body of the first response follows its verdict; the second has none.
        count > 1 || (sent && reported.lock().unwrap().recv().is_ok() && stream.write_all(b"ok").is_ok())
    });
    let (mut controller, _thread) = spawn();
    controller.greet();
    commit_at(&mut controller, Duration::from_millis(200), &[(1, keeping(address, 1000))]);
    for _ in 0..4 {
        assert_eq!(controller.outcome(1).code, OutcomeCode::L7Ok);
        verdict.send(()).unwrap();
    }
    assert_eq!(take(&counts, 1)[0], 2);
}

#[test]
fn closed_listener_fails_next_new_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        drop(listener);
        converse(stream, &always(OK), &channel().0);
    });
    let mut found = verdicts(never_overlapping(address, 5), 7);
    assert_eq!(found.split_off(5), vec![(OutcomeCode::L4Con, "connection refused".to_owned()); 2]);
    assert_eq!(found, vec![(OutcomeCode::L7Sts, "HTTP 200".to_owned()); 5]);
}

#[test]
fn timeout_closes_connection() {
    let (address, counts) = server(|stream, count| count == 2 || stream.write_all(OK).is_ok());
    let (mut controller, _thread) = spawn();
    controller.greet();
    let timeout = ProbeTimeout::Fixed(Duration::from_millis(200));
    assert_eq!(controller.commit(1, &[(1, Check { timeout, ..keeping(address, 1000) })]), []);
    // On a slow host, answered requests may time out too.
    let mut codes = Vec::new();
    while !codes.windows(3).any(|codes| codes == [OutcomeCode::L7Ok, OutcomeCode::L7Tout, OutcomeCode::L7Ok])
    {
        codes.extend(controller.outcomes().into_iter().map(|outcome| outcome.code));
    }
    assert!(codes.iter().all(|code| matches!(code, OutcomeCode::L7Ok | OutcomeCode::L7Tout)), "{codes:?}");
    // A third request would get a response.
    while take(&counts, 1)[0] < 2 {}
    assert!(counts.try_iter().all(|count| count <= 2));
}

#[test]
fn removed_check_closes_its_connection() {
    let (address, counts) = server(always(OK));
    let (mut controller, _thread) = spawn();
    controller.greet();
    controller.commit(1, &[(1, keeping(address, 1000)), (2, keeping(address, 999))]);
    controller.outcome(1);
    controller.outcome(2);
    controller.commit(2, &[(3, keeping(address, 999))]);
    // The other check keeps its connection, so the end of the engine is not the cause.
    let has_ended = (0..300).any(|_| {
        controller.outcome(3);
        counts.try_recv().is_ok()
    });
    assert!(has_ended && counts.try_recv().is_err());
}

#[test]
fn idle_connections_are_evicted() {
    let (address, counts) = server(always(OK));
    let (mut controller, _thread) = spawn();
    controller.greet();
    // More than the engine's limit.
    let checks: Vec<_> = (1..=150)
        .map(|id| {
            let mut check = keeping(address, 1000);
            if let ProbeKind::Http { http: HttpCheck { path, .. }, .. } = &mut check.probe {
                *path = format!("/{id}");
            }
            (id, check)
        })
        .collect();
    // Long interval, so that connections in flight stay below the limit.
    commit_at(&mut controller, Duration::from_secs(1), &checks);
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 150 {
        for outcome in controller.outcomes() {
            assert_eq!(outcome.code, OutcomeCode::L7Ok, "{outcome:?}");
            seen.insert(outcome.check);
        }
    }
    take(&counts, 1);
}
